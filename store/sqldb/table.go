package sqldb

import (
	"context"
	"errors"
	"iter"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/jmoiron/sqlx"
)

// Table writes rows of one type into a table.
type Table[Row any] struct{ table }

type table struct {
	name    string
	columns []column
	begin   string // "INSERT INTO t (a, b)"
	end     string // "ON CONFLICT …", or nothing
}

// NewTable returns the table of the name. The end is what INSERT ends with: "ON CONFLICT …"
// or nothing.
func NewTable[Row any](name string, columns Columns[Row], end string) *Table[Row] {
	return &Table[Row]{table{name: name, columns: columns.all, begin: "INSERT INTO " + name + " (" + columns.List() + ")", end: end}}
}

// Insert writes rows as lists of values, in as few statements as the databases allow, and
// returns how many were written.
func (t *Table[Row]) Insert(ctx context.Context, q Querier, rows ...Row) (int64, error) {
	return t.insert(ctx, q, reflect.ValueOf(rows))
}

func (t *table) insert(ctx context.Context, q Querier, rows reflect.Value) (int64, error) {
	var written int64
	most := maxParameters / len(t.columns)
	for begin := 0; begin < rows.Len(); begin += most {
		part := rows.Slice(begin, min(begin+most, rows.Len()))
		n, err := SQL(t.begin+" VALUES").values(t.columns, part).Add(" "+t.end).Affect(ctx, q)
		if err != nil {
			return written, err
		}
		written += n
	}
	return written, nil
}

// Rows are rows that go to a table of a [Bulk].
type Rows struct {
	table *table
	rows  reflect.Value
}

// Rows returns rows for a [Bulk] that the table is one of.
func (t *Table[Row]) Rows(rows []Row) Rows { return Rows{&t.table, reflect.ValueOf(rows)} }

// Bulk writes many rows into a table, or into several at once.
//
// On PostgreSQL it is one statement with an array for each column. Its text is the same for
// any number of rows, so that it is parsed and planned once and not each time
// ([preparing]), and a value is no parameter of its own. SQLite has no arrays, and gets
// lists of values as [Table.Insert] makes them.
type Bulk struct {
	tables []*table
	text   string // PostgreSQL's statement for all tables
}

// Target is a [Table] of any row type.
type Target interface{ target() *table }

func (t *table) target() *table { return t }

// NewBulk returns a bulk that writes into the tables. None of them may refer to another
// one: PostgreSQL chooses their order.
func NewBulk(targets ...Target) *Bulk {
	b := new(Bulk)
	var text strings.Builder
	parameter := 0
	for i, to := range targets {
		t := to.target()
		b.tables = append(b.tables, t)
		arrays := make([]string, len(t.columns))
		for j, col := range t.columns {
			parameter++
			arrays[j] = "unnest($" + strconv.Itoa(parameter) + "::" + col.sqlType + "[])"
		}
		insertion := t.begin + " SELECT " + strings.Join(arrays, ", ") + " " + t.end
		switch i {
		case len(targets) - 1:
			text.WriteString(insertion)
		case 0:
			text.WriteString("WITH " + t.name + "_rows AS (" + insertion + ") ")
		default:
			text.WriteString(", " + t.name + "_rows AS (" + insertion + ") ")
		}
	}
	b.text = text.String()
	return b
}

// Write writes rows into the tables, given in the bulk's order, and returns how many went
// into the last table.
func (b *Bulk) Write(ctx context.Context, db *DB, tx *sqlx.Tx, all ...Rows) (written int64, err error) {
	if !slices.EqualFunc(b.tables, all, func(t *table, r Rows) bool { return t == r.table }) {
		return 0, errors.New("sqldb: these are not the rows of the bulk's tables")
	}
	if !db.Arrays {
		for _, r := range all {
			if written, err = r.table.insert(ctx, tx, r.rows); err != nil {
				return 0, err
			}
		}
		return written, nil
	}
	var arrays []any
	for _, r := range all {
		for _, col := range r.table.columns {
			arrays = append(arrays, col.array(r.rows))
		}
	}
	result, err := tx.ExecContext(ctx, b.text, arrays...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// With begins a statement with the rows as a table of the name input, which has the columns
// of the row type. On PostgreSQL they are an array for each column, so that the text is the
// same for any number of rows.
func With[Row any](db *DB, rows []Row) *Statement {
	columns := ColumnsOf[Row]()
	st := SQL("WITH input (" + columns.List() + ") AS (")
	if !db.Arrays {
		return st.Add("VALUES ").values(columns.all, reflect.ValueOf(rows)).Add(") ")
	}
	arrays, args := make([]string, len(columns.all)), make([]any, len(columns.all))
	for i, col := range columns.all {
		arrays[i], args[i] = "?::"+col.sqlType+"[]", col.array(reflect.ValueOf(rows))
	}
	return st.Add("SELECT * FROM unnest("+strings.Join(arrays, ", ")+")) ", args...)
}

// Chunks returns the rows in parts that a statement of [With] can take, which may name the
// key of each row once more.
func Chunks[Row any](rows []Row) iter.Seq[[]Row] {
	return slices.Chunk(rows, min(maxParameters/(len(ColumnsOf[Row]().all)+2), ChunkSize))
}

// LookUp lets read run the query for all of the keys, if there are any. The query must end
// with the keys' columns, which are text, and IN: "… WHERE (workspace_id, key) IN". It is run
// once where there are arrays, else for parts of the keys.
func LookUp[Key any](db *DB, query string, keys []Key, read func(*Statement) error) error {
	columns := ColumnsOf[Key]().all
	if len(keys) == 0 {
		return nil
	}
	if !db.Arrays {
		for part := range slices.Chunk(keys, maxParameters/len(columns)) {
			// A bare VALUES would keep SQLite from looking the keys up in an index.
			st := SQL(query+" (SELECT * FROM (VALUES").values(columns, reflect.ValueOf(part)).Add(") v)")
			if err := read(st); err != nil {
				return err
			}
		}
		return nil
	}
	st, separator := SQL(query+" (SELECT "), ""
	for _, col := range columns {
		st.Add(separator+"unnest(?::"+col.sqlType+"[])", col.array(reflect.ValueOf(keys)))
		separator = ", "
	}
	return read(st.Add(")"))
}
