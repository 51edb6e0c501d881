package store

import (
	"crypto/rand"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"postrider.dev/postrider"
)

func TestStatement(t *testing.T) {
	t.Parallel()
	st := sqlOf("a = ? AND b IN", 1).in([]string{"x", "y"}).add(" AND (c, d) IN").inRows([][]any{{2, 3}, {4, 5}})
	text, args := st.render(named("sqlite"))
	require.Equal(t, "a = ? AND b IN (?, ?) AND (c, d) IN (SELECT * FROM (VALUES (?, ?), (?, ?)) v)", text)
	require.Equal(t, []any{1, "x", "y", 2, 3, 4, 5}, args)
	text, args = st.render(named("postgres"))
	require.Equal(t, "a = $1 AND b = ANY($2::text[]) AND (c, d) IN (SELECT * FROM (VALUES ($3, $4), ($5, $6)) v)", text)
	require.Equal(t, []any{1, arrayOfText([]string{"x", "y"}), 2, 3, 4, 5}, args)
}

// named is a database of which only the driver is known.
func named(driver string) querier { return sqlx.NewDb(nil, driver) }

// A lookup of several rows at once must not read whole tables: SQLite's planner
// needs them in the right form.
func TestLookupsUseIndexesOnSQLite(t *testing.T) {
	t.Parallel()
	keys, err := ParseKeyring(newKey(t))
	require.NoError(t, err)
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "plans.db"), Options{
		Keys: keys, Now: time.Now, IDs: postrider.NewIDs(time.Now, rand.Reader), Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	require.NoError(t, s.Migrate(t.Context()))
	pairs, triples := [][]any{{"a", "b"}, {"c", "d"}}, [][]any{{"a", "b", "c"}, {"d", "e", "f"}}
	for _, lookup := range []struct {
		table string // as the statement names it
		st    *statement
	}{
		{"idempotency_keys", sqlOf("SELECT answer FROM idempotency_keys WHERE (workspace_id, kind, value) IN").inRows(triples)},
		{"e", sqlOf("SELECT w.id FROM webhook_events e JOIN webhooks w ON w.id = e.webhook_id WHERE (e.workspace_id, e.pattern, e.persona_id) IN").inRows(triples)},
		{"events", sqlOf("SELECT body FROM events WHERE id = key AND (workspace_id, key) IN").inRows(pairs)},
		{"o", hops("start", "wsp_1/wh_1", "wsp_1/~").add("SELECT queue FROM hop WHERE queue IS NOT NULL LIMIT ?", 5)},
		{"o", hops("retry", "wsp_1/wh_1", "wsp_1/~").add("SELECT queue FROM hop WHERE queue IS NOT NULL LIMIT ?", 5)},
		{"o", sqlOf(workspaceHops("start"), "").add("SELECT queue FROM hop WHERE queue IS NOT NULL LIMIT ?", 5)},
		{"o", sqlOf("SELECT COUNT(*) FROM outbox o WHERE o.webhook_id = ? AND o.leased AND o.kind <> 'cancel'", "wh_1")},
		{"o", sqlOf("SELECT 1 FROM outbox o WHERE o.webhook_id = ? AND o.kind = 'retry' AND NOT o.leased AND o.due_at <= ? ORDER BY o.webhook_id, o.due_at", "wh_1", "")},
		{"outbox", unfinished("wsp_1", "wh_1")},
		{"deliveries", unfinished("wsp_1", "wh_1")},
	} {
		st := lookup.st
		var steps []struct {
			ID, Parent, Notused int
			Detail              string
		}
		explain := sqlOf("EXPLAIN QUERY PLAN "+st.text.String(), st.args...)
		require.NoError(t, explain.selectInto(t.Context(), s.db, &steps))
		used := false
		for _, step := range steps {
			require.NotRegexp(t, "^SCAN "+lookup.table+"( |$)", step.Detail)
			used = used || strings.HasPrefix(step.Detail, "SEARCH "+lookup.table+" USING")
		}
		require.True(t, used, "%s: %v", lookup.table, steps)
	}
}
