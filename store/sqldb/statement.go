package sqldb

import (
	"context"
	"database/sql"
	"reflect"
	"strconv"
	"strings"

	"github.com/jmoiron/sqlx"
)

// maxParameters is the most parameters of one statement: SQLite takes 32,766 and
// PostgreSQL 65,535.
const maxParameters = 16000

// ChunkSize is the most ids that one statement is given.
const ChunkSize = 5000

// Statement is SQL under construction. Values go in as parameters only, and the text has a
// question mark for each, in order. SQLite itself takes question marks: it would look
// numbered parameters up by name, in a time that grows with the square of their number.
// For PostgreSQL they are numbered when the statement is run.
type Statement struct {
	text strings.Builder
	args []any
}

// SQL returns a statement that begins with text, see [Statement.Add].
func SQL(text string, args ...any) *Statement {
	return (&Statement{}).Add(text, args...)
}

// Add appends text, in which each question mark stands for the next of args.
func (st *Statement) Add(text string, args ...any) *Statement {
	st.text.WriteString(text)
	st.args = append(st.args, args...)
	return st
}

// Empty reports whether nothing was added yet.
func (st *Statement) Empty() bool { return st.text.Len() == 0 }

// Append appends another statement with its parameters.
func (st *Statement) Append(other *Statement) *Statement {
	return st.Add(other.text.String(), other.args...)
}

// list is an argument that stands for several values, the right side of IN.
type list []string

// In appends the values, the right side of IN.
func (st *Statement) In(values []string) *Statement { return st.Add(" ?", list(values)) }

// PinnedTo appends that the column is the value, as a list of one. A statement that orders
// by the column first, and gives no other index anything to look up, is then read from the
// index that begins with the column. Given = instead, PostgreSQL drops the column from the
// order. Where it believes that the value is frequent, it then walks another index through
// the rows of all other values.
func (st *Statement) PinnedTo(column, value string) *Statement {
	return st.Add(column + " IN").In([]string{value})
}

// InKeyRange appends that the column is one of the values, which are sorted, and that it
// lies between the first and the last. The range adds no condition, but it tells PostgreSQL
// which partitions to look into.
func (st *Statement) InKeyRange(column string, values []string) *Statement {
	return st.Add(column+" IN").In(values).Add(" AND "+column+" BETWEEN ? AND ?", values[0], values[len(values)-1])
}

// values appends rows, a slice of the columns' row type, as (…), (…): what VALUES takes.
func (st *Statement) values(columns []column, rows reflect.Value) *Statement {
	row := " (" + strings.TrimSuffix(strings.Repeat("?, ", len(columns)), ", ") + ")"
	for i := range rows.Len() {
		if i > 0 {
			st.text.WriteString(",")
		}
		st.Add(row, valuesOf(columns, rows.Index(i))...)
	}
	return st
}

// render returns the text and arguments in the words of the database that q is. A list is
// one array to PostgreSQL, so that the text is the same for any number of values.
func (st *Statement) render(q Querier) (text string, args []any) {
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

func (st *Statement) exec(ctx context.Context, q Querier) (sql.Result, error) {
	text, args := st.render(q)
	return q.ExecContext(ctx, text, args...)
}

// Affect runs the statement and returns how many rows it changed.
func (st *Statement) Affect(ctx context.Context, q Querier) (int64, error) {
	result, err := st.exec(ctx, q)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// Run runs the statement for its effect.
func (st *Statement) Run(ctx context.Context, q Querier) error {
	_, err := st.exec(ctx, q)
	return err
}

// Get reads the one row into destination. It returns [sql.ErrNoRows] when there is none.
func (st *Statement) Get(ctx context.Context, q Querier, destination any) error {
	text, args := st.render(q)
	return sqlx.GetContext(ctx, q, destination, text, args...)
}

// Select reads every row into destination, a pointer to a slice.
func (st *Statement) Select(ctx context.Context, q Querier, destination any) error {
	text, args := st.render(q)
	return sqlx.SelectContext(ctx, q, destination, text, args...)
}

// Strings returns the first column of a query's rows.
func (st *Statement) Strings(ctx context.Context, q Querier) ([]string, error) {
	var found []string
	err := st.Select(ctx, q, &found)
	return found, err
}
