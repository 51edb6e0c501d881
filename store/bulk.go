package store

import (
	"context"
	"strconv"
	"strings"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq/oid"
)

// bulk writes many rows into a table, or into several at once.
//
// On PostgreSQL it is one statement with an array for each column: its text is the
// same for any number of rows, so that it is parsed and planned once and not each
// time ([preparing]), and a value is no parameter of its own. SQLite has no arrays,
// and gets lists of values as [insert] makes them.
type bulk struct {
	parts []part
	text  string // PostgreSQL's statement for all parts
}

// table says what a bulk writes into.
type table struct {
	name    string
	columns string // with PostgreSQL's types: "key text, created_at timestamptz"
	end     string // "ON CONFLICT …", or nothing
}

// part is a table of a bulk.
type part struct {
	begin, end string    // of an INSERT
	elements   []oid.Oid // types of the columns
}

// newBulk returns what writes into the tables. None may refer to another of them:
// PostgreSQL chooses their order.
func newBulk(tables ...table) *bulk {
	b := new(bulk)
	var text strings.Builder
	parameter := 0
	for i, t := range tables {
		var names, arrays []string
		var elements []oid.Oid
		for column := range strings.SplitSeq(t.columns, ", ") {
			name, sqlType, _ := strings.Cut(column, " ")
			parameter++
			names, elements = append(names, name), append(elements, elementOf(sqlType))
			arrays = append(arrays, "unnest($"+strconv.Itoa(parameter)+"::"+sqlType+"[])")
		}
		begin := "INSERT INTO " + t.name + " (" + strings.Join(names, ", ") + ")"
		b.parts = append(b.parts, part{begin: begin + " VALUES", elements: elements, end: t.end})
		insertion := begin + " SELECT " + strings.Join(arrays, ", ") + " " + t.end
		switch i {
		case len(tables) - 1:
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

// rowsAs begins a statement with rows as a table, news, of the given columns, with
// PostgreSQL's types ("id text, number integer"). There they are an array for each
// column, so that the text is the same for any number of rows.
func (s *Store) rowsAs(columns string, rows [][]any) (*statement, error) {
	var names, arrays []string
	var args []any
	column := 0
	for c := range strings.SplitSeq(columns, ", ") {
		n, sqlType, _ := strings.Cut(c, " ")
		names = append(names, n)
		if s.dialect.arrays {
			array, err := arrayOf(elementOf(sqlType), rows, column)
			if err != nil {
				return nil, err
			}
			arrays, args = append(arrays, "?::"+sqlType+"[]"), append(args, array)
		}
		column++
	}
	st := sqlOf("WITH news (" + strings.Join(names, ", ") + ") AS (")
	if s.dialect.arrays {
		return st.add("SELECT * FROM unnest("+strings.Join(arrays, ", ")+")) ", args...), nil
	}
	return st.add("VALUES ").rows(rows).add(") "), nil
}

// write writes the rows for each of the tables, which have a value for each column.
// It returns how many went into the last table.
func (b *bulk) write(ctx context.Context, s *Store, tx *sqlx.Tx, tables ...[][]any) (written int64, err error) {
	if !s.dialect.arrays {
		for i, rows := range tables {
			if written, err = insert(ctx, tx, b.parts[i].begin, rows, b.parts[i].end); err != nil {
				return 0, err
			}
		}
		return written, nil
	}
	var arrays []any
	for i, rows := range tables {
		for column, element := range b.parts[i].elements {
			array, err := arrayOf(element, rows, column)
			if err != nil {
				return 0, err
			}
			arrays = append(arrays, array)
		}
	}
	result, err := tx.ExecContext(ctx, b.text, arrays...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}
