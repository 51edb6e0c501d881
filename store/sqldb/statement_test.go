package sqldb

import (
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"
)

type pair struct{ C, D int }

func TestStatementsAreRenderedForEitherDatabase(t *testing.T) {
	t.Parallel()
	st := SQL("a = ? AND b IN", 1).In([]string{"x", "y"}).Add(" AND ").PinnedTo("e", "z").Add(" AND ").InKeyRange("f", []string{"p", "q"})
	text, args := st.render(named("sqlite"))
	require.Equal(t, "a = ? AND b IN (?, ?) AND e IN (?) AND f IN (?, ?) AND f BETWEEN ? AND ?", text)
	require.Equal(t, []any{1, "x", "y", "z", "p", "q", "p", "q"}, args)
	text, args = st.render(named("postgres"))
	require.Equal(t, "a = $1 AND b = ANY($2::text[]) AND e = ANY($3::text[]) AND f = ANY($4::text[]) AND f BETWEEN $5 AND $6", text)
	require.Equal(t, []any{1, arrayOfText([]string{"x", "y"}), arrayOfText([]string{"z"}), arrayOfText([]string{"p", "q"}), "p", "q"}, args)
}

func TestRowsAreATableInEitherDatabase(t *testing.T) {
	t.Parallel()
	rows := []pair{{2, 3}, {4, 5}}
	text, args := With(&DB{}, rows).Add("SELECT c").render(named("sqlite"))
	require.Equal(t, "WITH input (c, d) AS (VALUES  (?, ?), (?, ?)) SELECT c", text)
	require.Equal(t, []any{2, 3, 4, 5}, args)
	text, args = With(&DB{Dialect: Dialect{Arrays: true}}, rows).Add("SELECT c").render(named("postgres"))
	require.Equal(t, "WITH input (c, d) AS (SELECT * FROM unnest($1::integer[], $2::integer[])) SELECT c", text)
	require.Len(t, args, 2)

	parts := 0
	for part := range Chunks(make([]pair, 10_000)) {
		require.LessOrEqual(t, len(part)*4, maxParameters)
		parts++
	}
	require.Equal(t, 3, parts)
}

func TestLookUpsAreMadeInParts(t *testing.T) {
	t.Parallel()
	var statements []*Statement
	read := func(st *Statement) error {
		statements = append(statements, st)
		return nil
	}
	type key struct{ A, B string }
	require.NoError(t, LookUp(&DB{}, "SELECT 1 WHERE (a, b) IN", []key{}, read))
	require.Empty(t, statements, "there is nothing to look up")
	require.NoError(t, LookUp(&DB{}, "SELECT 1 WHERE (a, b) IN", make([]key, maxParameters), read))
	require.Len(t, statements, 2)
	require.NoError(t, LookUp(&DB{Dialect: Dialect{Arrays: true}}, "SELECT 1 WHERE (a, b) IN", make([]key, maxParameters), read))
	require.Len(t, statements, 3)
	text, _ := statements[2].render(named("postgres"))
	require.Equal(t, "SELECT 1 WHERE (a, b) IN (SELECT unnest($1::text[]), unnest($2::text[]))", text)
}

func TestBulkRefusesRowsOfOtherTables(t *testing.T) {
	t.Parallel()
	one, two := NewTable("one", ColumnsOf[pair](), ""), NewTable("two", ColumnsOf[pair]().Except("d"), "ON CONFLICT DO NOTHING")
	bulk := NewBulk(one, two)
	require.Equal(t, "WITH one_rows AS (INSERT INTO one (c, d) SELECT unnest($1::integer[]), unnest($2::integer[]) ) "+
		"INSERT INTO two (c) SELECT unnest($3::integer[]) ON CONFLICT DO NOTHING", bulk.text)
	_, err := bulk.Write(t.Context(), &DB{}, nil, two.Rows(nil), one.Rows(nil))
	require.ErrorContains(t, err, "not the rows")
}

func TestColumnsComeFromTags(t *testing.T) {
	t.Parallel()
	type inner struct {
		ID   string
		Name string `db:"its_name"`
	}
	type outer struct {
		inner
		ID    int // hides the inner one
		Count int
	}
	columns := ColumnsOf[outer]()
	require.Equal(t, []string{"id", "count", "its_name"}, columns.Names())
	require.Equal(t, "w.id, w.count, w.its_name", columns.Of("w"))
	require.Equal(t, "count = ?, its_name = ?", columns.Except("id").Assignments())
	require.Equal(t, "count = input.count", columns.Except("id", "its_name").AssignmentsFrom("input"))
	require.Equal(t, []any{1, 2, "n"}, columns.Values(&outer{inner{"hidden", "n"}, 1, 2}))
}

// named is a database of which only the driver is known.
func named(driver string) Querier { return sqlx.NewDb(nil, driver) }
