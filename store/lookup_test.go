package store

import (
	"crypto/rand"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/sqldb"
)

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
	const byID = "SELECT answer FROM idempotency_keys WHERE (workspace_id, kind, value) IN"
	const byKey = "SELECT body FROM events WHERE id = key AND (workspace_id, key) IN"
	const leased = "SELECT COUNT(*) FROM outbox o WHERE o.webhook_id = ? AND " + leasedAttempt
	const retrying = "SELECT 1 FROM outbox o WHERE o.webhook_id = ? AND " + waitingRetry + " AND o.due_at <= ? ORDER BY o.webhook_id, o.due_at"
	for _, lookup := range []struct {
		table string // as the statement names it
		st    *sqldb.Statement
	}{
		{"idempotency_keys", lookUpOf(t, s, byID, []idempotencyKey{{"a", perEvent, "c"}, {"d", perRequest, "f"}})},
		{"e", lookUpOf(t, s, selectMatches, []subscription{{"a", "b", "c"}, {"d", "e", "f"}})},
		{"events", lookUpOf(t, s, byKey, []keyOfEvent{{"a", "b"}, {"c", "d"}})},
		{"o", skipScan(kindStart, "wsp_1/wh_1", "wsp_1/~").Add(selectFound, 5)},
		{"o", skipScan(kindRetry, "wsp_1/wh_1", "wsp_1/~").Add(selectFound, 5)},
		{"o", workspaceSkipScan(kindStart, "").Add(selectFound, 5)},
		{"o", sqldb.SQL(leased, "wh_1")},
		{"o", sqldb.SQL(retrying, "wh_1", "")},
		{"outbox", (&sweptWebhook{WorkspaceID: "wsp_1", ID: "wh_1"}).unfinished()},
		{"deliveries", (&sweptWebhook{WorkspaceID: "wsp_1", ID: "wh_1"}).unfinished()},
		{tableMinutes, sumsOf(tableMinutes, "wsp_1", postrider.StatsQuery{Step: time.Minute, WebhookID: "wh_1"})},
		{tableMinutes, sumsOf(tableMinutes, "wsp_1", postrider.StatsQuery{Step: time.Minute})},
		{tableHours, sumsOf(tableHours, "wsp_1", postrider.StatsQuery{Step: time.Minute})},
		{tableMinutes, oldRollups(tableMinutes, 0)},
	} {
		st := lookup.st
		var steps []struct {
			ID, Parent, Notused int
			Detail              string
		}
		require.NoError(t, sqldb.SQL("EXPLAIN QUERY PLAN ").Append(st).Select(t.Context(), s.db.Writing, &steps))
		used := false
		for _, step := range steps {
			require.NotRegexp(t, "^SCAN "+lookup.table+"( |$)", step.Detail)
			used = used || strings.HasPrefix(step.Detail, "SEARCH "+lookup.table+" USING")
		}
		require.True(t, used, "%s: %v", lookup.table, steps)
	}
}

// lookUpOf returns the statement of a lookup.
func lookUpOf[Key any](t *testing.T, s *Store, query string, keys []Key) (found *sqldb.Statement) {
	t.Helper()
	require.NoError(t, sqldb.LookUp(s.db, query, keys, func(st *sqldb.Statement) error {
		found = st
		return nil
	}))
	return found
}
