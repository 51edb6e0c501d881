package store

import (
	"context"
	"database/sql"
	"slices"
	"strconv"
	"strings"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq/oid"
)

// maxParameters is the most parameters of one statement: SQLite takes 32,766 and
// PostgreSQL 65,535.
const maxParameters = 16000

// chunkSize is the most ids that one statement is given.
const chunkSize = 5000

// statement is SQL under construction. Values go in as parameters only, and the
// text has a question mark for each, in order. That is SQLite's own way: numbered
// ones it would look up by name, in a time that grows with the square of their
// number. For PostgreSQL they are numbered when the statement is run.
type statement struct {
	text strings.Builder
	args []any
}

// sqlOf returns a statement that begins with text, see [statement.add].
func sqlOf(text string, args ...any) *statement {
	return (&statement{}).add(text, args...)
}

// add appends text, in which each question mark stands for the next of args.
func (st *statement) add(text string, args ...any) *statement {
	st.text.WriteString(text)
	st.args = append(st.args, args...)
	return st
}

// list is an argument that stands for several values, the right side of IN.
type list []string

// in appends the values, the right side of IN.
func (st *statement) in(values []string) *statement { return st.add(" ?", list(values)) }

// only appends that the column is the value, as a list of one. A statement that orders by
// the column first, and gives no other index anything to look up, is then read from the
// index that begins with the column. Given = instead, PostgreSQL drops the column from the
// order, and where it takes the value for a frequent one it walks another index through
// everybody's rows.
func (st *statement) only(column, value string) *statement {
	return st.add(column + " IN").in([]string{value})
}

// within appends that the column is one of the values, which are sorted. The bounds say
// nothing more, but they tell PostgreSQL which partitions to look into.
func (st *statement) within(column string, values []string) *statement {
	return st.add(column+" IN").in(values).add(" AND "+column+" BETWEEN ? AND ?", values[0], values[len(values)-1])
}

// render returns the text and arguments in the words of the database that q is. A list
// is one array to PostgreSQL, so that the text is the same for any number of values.
func (st *statement) render(q querier) (text string, args []any) {
	arrays := sqlx.BindType(q.DriverName()) == sqlx.DOLLAR
	var b strings.Builder
	rest := st.text.String()
	for _, arg := range st.args {
		before, after, _ := strings.Cut(rest, "?")
		rest = after
		values, many := arg.(list)
		switch {
		case many && arrays:
			b.WriteString(strings.TrimSuffix(before, "IN "))
			b.WriteString("= ANY($" + strconv.Itoa(len(args)+1) + "::text[])")
			args = append(args, arrayOfText(values))
		case many:
			b.WriteString(before + "(" + strings.TrimSuffix(strings.Repeat("?, ", len(values)), ", ") + ")")
			for _, value := range values {
				args = append(args, value)
			}
		case arrays:
			b.WriteString(before + "$" + strconv.Itoa(len(args)+1))
			args = append(args, arg)
		default:
			b.WriteString(before + "?")
			args = append(args, arg)
		}
	}
	return b.String() + rest, args
}

func addIn[T any](st *statement, values []T) *statement {
	for i, v := range values {
		if i == 0 {
			st.add(" (?", v)
		} else {
			st.add(", ?", v)
		}
	}
	return st.add(")")
}

// rows appends rows of values as (…), (…): what VALUES takes.
func (st *statement) rows(rows [][]any) *statement {
	for i, row := range rows {
		if i > 0 {
			st.text.WriteString(",")
		}
		addIn(st, row)
	}
	return st
}

// inRows appends the rows as a subquery, the right side of IN for several columns.
// A bare VALUES there would keep SQLite from looking the rows up in an index.
func (st *statement) inRows(rows [][]any) *statement {
	return st.add(" (SELECT * FROM (VALUES").rows(rows).add(") v)")
}

// lookUp lets read run the query, which must end with columns of text and IN, for all
// of the keys, if there are any: at once where there are arrays, else in parts.
func (s *Store) lookUp(query string, keys [][]any, read func(*statement) error) error {
	if len(keys) == 0 {
		return nil
	}
	if !s.dialect.arrays {
		for part := range slices.Chunk(keys, maxParameters/len(keys[0])) {
			if err := read(sqlOf(query).inRows(part)); err != nil {
				return err
			}
		}
		return nil
	}
	st := sqlOf(query)
	for column := range keys[0] {
		array, err := arrayOf(oid.T_text, keys, column)
		if err != nil {
			return err
		}
		st.add([]string{" (SELECT ", ", "}[min(column, 1)]+"unnest(?::text[])", array)
	}
	return read(st.add(")"))
}

func (st *statement) exec(ctx context.Context, q querier) (sql.Result, error) {
	text, args := st.render(q)
	return q.ExecContext(ctx, text, args...)
}

// affect runs the statement and returns how many rows it changed.
func (st *statement) affect(ctx context.Context, q querier) (int64, error) {
	result, err := st.exec(ctx, q)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// run runs the statement for its effect.
func (st *statement) run(ctx context.Context, q querier) error {
	_, err := st.exec(ctx, q)
	return err
}

// get reads the one row into destination; sql.ErrNoRows when there is none.
func (st *statement) get(ctx context.Context, q querier, destination any) error {
	text, args := st.render(q)
	return sqlx.GetContext(ctx, q, destination, text, args...)
}

// selectInto reads every row into destination, a pointer to a slice.
func (st *statement) selectInto(ctx context.Context, q querier, destination any) error {
	text, args := st.render(q)
	return sqlx.SelectContext(ctx, q, destination, text, args...)
}

// insert writes rows under the given beginning ("INSERT INTO t (a, b) VALUES") and
// end ("ON CONFLICT …"), in as few statements as the databases allow, and returns
// how many rows were written.
func insert(ctx context.Context, q querier, begin string, rows [][]any, end string) (int64, error) {
	var written int64
	if len(rows) == 0 {
		return 0, nil
	}
	for part := range slices.Chunk(rows, maxParameters/len(rows[0])) {
		n, err := sqlOf(begin).rows(part).add(" "+end).affect(ctx, q)
		if err != nil {
			return written, err
		}
		written += n
	}
	return written, nil
}
