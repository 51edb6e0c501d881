package store

import (
	"testing"
	"time"

	"github.com/lib/pq/oid"
	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
)

func TestArraysAreInPostgreSQLsForm(t *testing.T) {
	t.Parallel()
	var none *string
	text := "é"
	at := time.Date(2000, 1, 1, 0, 0, 1, 2000, time.UTC)
	rows := [][]any{
		{"a", []byte{0, 1}, 7, true, at},
		{nil, []byte{}, -1, false, &at},
		{none, nil, nil, nil, (*time.Time)(nil)},
		{&text, nil, nil, nil, nil},
		{postrider.StatePending, nil, nil, nil, nil},
	}
	header := func(element byte) string {
		return "\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00" + string(element) + "\x00\x00\x00\x05\x00\x00\x00\x01"
	}
	const null = "\xff\xff\xff\xff"
	for column, want := range []string{
		header(25) + "\x00\x00\x00\x01a" + null + null + "\x00\x00\x00\x02é" + "\x00\x00\x00\x07pending",
		header(17) + "\x00\x00\x00\x02\x00\x01" + "\x00\x00\x00\x00" + null + null + null,
		header(23) + "\x00\x00\x00\x04\x00\x00\x00\x07" + "\x00\x00\x00\x04\xff\xff\xff\xff" + null + null + null,
		header(16) + "\x00\x00\x00\x01\x01" + "\x00\x00\x00\x01\x00" + null + null + null,
	} {
		array, err := arrayOf([]oid.Oid{oid.T_text, oid.T_bytea, oid.T_int4, oid.T_bool}[column], rows, column)
		require.NoError(t, err)
		require.Equal(t, want, string(array))
	}
	array, err := arrayOf(oid.T_timestamptz, rows[:2], 4)
	require.NoError(t, err)
	require.Equal(t, "\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x04\xa0\x00\x00\x00\x02\x00\x00\x00\x01"+
		"\x00\x00\x00\x08\x00\x00\x00\x00\x00\x0f\x42\x42"+"\x00\x00\x00\x08\x00\x00\x00\x00\x00\x0f\x42\x42", string(array))
	_, err = arrayOf(oid.T_text, [][]any{{1.5}}, 0)
	require.ErrorContains(t, err, "float64")
	require.Panics(t, func() { elementOf("json") })
}
