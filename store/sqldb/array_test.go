package sqldb

import (
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

type word string

// everyColumn has a column of every type that rows have.
type everyColumn struct {
	Text    string
	Word    word
	NoText  *string `db:"no_text"`
	Data    []byte
	Number  int
	NoCount *int `db:"no_count"`
	Big     int64
	Flag    bool
	At      time.Time
	Stored  Time
	NotYet  *Time `db:"not_yet"`
}

// The form that PostgreSQL expects, byte for byte: a mistake would store wrong values.
func TestArraysAreInPostgreSQLsForm(t *testing.T) {
	t.Parallel()
	text, count := "é", 5
	at := time.Date(2000, 1, 1, 0, 0, 1, 2000, time.UTC)
	rows := []everyColumn{
		{
			Text: "a", Word: "pending", NoText: &text, Data: []byte{0, 1}, Number: 7, NoCount: &count, Big: -2, Flag: true,
			At: at, Stored: Time{at}, NotYet: &Time{at},
		},
		{Number: -1, At: at, Stored: Time{at}},
	}
	header := func(element string) string {
		return "\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00" + element + "\x00\x00\x00\x02\x00\x00\x00\x01"
	}
	const null, second = "\xff\xff\xff\xff", "\x00\x00\x00\x08\x00\x00\x00\x00\x00\x0f\x42\x42"
	want := map[string]string{
		"text":     header("\x00\x19") + "\x00\x00\x00\x01a" + "\x00\x00\x00\x00",
		"word":     header("\x00\x19") + "\x00\x00\x00\x07pending" + "\x00\x00\x00\x00",
		"no_text":  header("\x00\x19") + "\x00\x00\x00\x02é" + null,
		"data":     header("\x00\x11") + "\x00\x00\x00\x02\x00\x01" + "\x00\x00\x00\x00",
		"number":   header("\x00\x17") + "\x00\x00\x00\x04\x00\x00\x00\x07" + "\x00\x00\x00\x04\xff\xff\xff\xff",
		"no_count": header("\x00\x17") + "\x00\x00\x00\x04\x00\x00\x00\x05" + null,
		"big":      header("\x00\x14") + "\x00\x00\x00\x08\xff\xff\xff\xff\xff\xff\xff\xfe" + "\x00\x00\x00\x08\x00\x00\x00\x00\x00\x00\x00\x00",
		"flag":     header("\x00\x10") + "\x00\x00\x00\x01\x01" + "\x00\x00\x00\x01\x00",
		"at":       header("\x04\xa0") + second + second,
		"stored":   header("\x04\xa0") + second + second,
		"not_yet":  header("\x04\xa0") + second + null,
	}
	columns := ColumnsOf[everyColumn]()
	require.Len(t, columns.all, len(want))
	for _, col := range columns.all {
		require.Equal(t, want[col.name], string(col.array(reflect.ValueOf(rows))), col.name)
	}
	require.Equal(t, header("\x00\x19")+"\x00\x00\x00\x01a\x00\x00\x00\x02bc", string(arrayOfText([]string{"a", "bc"})))
}

func TestColumnsOfOtherTypesAreRefused(t *testing.T) {
	t.Parallel()
	require.PanicsWithValue(t, "sqldb: no column for struct { Ratio float64 }.Ratio, a float64", func() {
		ColumnsOf[struct{ Ratio float64 }]()
	})
}
