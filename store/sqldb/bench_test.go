package sqldb

import (
	"reflect"
	"strconv"
	"testing"
	"time"
)

// wideRow is like a delivery: texts, numbers, times and columns that are null.
type wideRow struct {
	A, B, C, D, E, F string
	State            word
	G, H, I, J       int
	At, Due          Time
	Workflow         string
	Trace            *string
}

// BenchmarkArrays measures the encoding of 500 rows as arrays: all that a publish does for its
// rows beside the statement.
func BenchmarkArrays(b *testing.B) {
	at := TimeOf(time.Unix(1_700_000_000, 0))
	b.ReportAllocs()
	for b.Loop() {
		rows := make([]wideRow, 0, 500)
		for n := range 500 {
			id := "dlv_0195933f2d0b7a0cbe3c4d5e6f708192" + strconv.Itoa(n)
			rows = append(rows, wideRow{
				A: id, B: id, C: id, D: id, E: id, F: "call.ended", State: "pending", G: 5000, H: 3, I: 1000, At: at, Due: at,
			})
		}
		for _, col := range ColumnsOf[wideRow]().all {
			col.array(reflect.ValueOf(rows))
		}
	}
}
