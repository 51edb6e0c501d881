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
	s := storeOnSQLite(t)
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
		{"deliveries", newSearch("ws_1", postrider.DeliverySearch{}, postrider.Page{After: "dlv_1"}).candidates()},
		{"deliveries", newSearch("ws_1", postrider.DeliverySearch{WebhookID: "wh_1"}, postrider.Page{}).candidates()},
		{"deliveries", newSearch("ws_1", postrider.DeliverySearch{States: troubleStates()}, postrider.Page{}).candidates()},
		{"deliveries", (&sweptWebhook{WorkspaceID: "wsp_1", ID: "wh_1"}).unfinished()},
		{"expiries", sqldb.SQL(selectExpiring, "", expireChunk)},
		{"events", sqldb.SQL(selectNextKey, "")},
		{"events", sqldb.SQL(selectSealedEvents, "", "", "newest", reencryptChunk)},
		{tableMinutes, sumsOf(tableMinutes, "wsp_1", postrider.StatsQuery{Step: time.Minute, WebhookID: "wh_1"})},
		{tableMinutes, sumsOf(tableMinutes, "wsp_1", postrider.StatsQuery{Step: time.Minute})},
		{tableHours, sumsOf(tableHours, "wsp_1", postrider.StatsQuery{Step: time.Minute})},
		{tableMinutes, oldRollups(tableMinutes, 0)},
	} {
		steps := planOnSQLite(t, s, lookup.st)
		used := false
		for _, step := range steps {
			require.NotRegexp(t, "^SCAN "+lookup.table+"( |$)", step)
			used = used || strings.HasPrefix(step, "SEARCH "+lookup.table+" USING")
		}
		require.True(t, used, "%s: %v", lookup.table, steps)
	}
}

// planOnSQLite returns the steps of a statement's plan.
func planOnSQLite(t *testing.T, s *Store, st *sqldb.Statement) []string {
	t.Helper()
	var rows []struct {
		ID, Parent, Notused int
		Detail              string
	}
	require.NoError(t, sqldb.SQL("EXPLAIN QUERY PLAN ").Append(st).Select(t.Context(), s.db.Writing, &rows))
	steps := make([]string, len(rows))
	for i, row := range rows {
		steps[i] = row.Detail
	}
	return steps
}

// A list must be read from its index alone, in the index's order.
func TestListsWalkTheirIndexesOnSQLite(t *testing.T) {
	t.Parallel()
	s := storeOnSQLite(t)
	workspace := postrider.Workspace{ID: "ws_1", Name: "w", CreatedAt: time.Now()}
	require.NoError(t, s.CreateWorkspace(t.Context(), workspace))
	w, err := s.CreateWebhook(t.Context(), postrider.Webhook{WorkspaceID: workspace.ID}, "")
	require.NoError(t, err)
	deliveries := func(f postrider.DeliveryFilter) listing {
		l := listing{rows: sqldb.SQL(selectDeliveries), table: "deliveries d", filter: &sqldb.Statement{}}
		f.WebhookID = w.ID
		require.NoError(t, s.walkWebhook(t.Context(), &l, workspace.ID, f))
		addEventTypeAndPeriod(&l, f)
		return l
	}
	for _, c := range []struct {
		index string
		list  listing
	}{
		{"SEARCH w USING INDEX webhooks_workspace", webhooksOf("ws_1", postrider.WebhookFilter{Event: "call.ended"})},
		{"SEARCH w USING INDEX webhooks_status", webhooksOf("ws_1", postrider.WebhookFilter{Status: postrider.WebhookPaused})},
		{
			"SEARCH w USING INDEX webhooks_persona",
			webhooksOf("ws_1", postrider.WebhookFilter{Status: postrider.WebhookPaused, PersonaID: "p", Event: "call.ended"}),
		},
		{"SEARCH events USING INDEX events_workspace", eventsOf("ws_1", postrider.EventFilter{Type: "call.ended", Since: time.Now()})},
		{"SEARCH d USING INDEX deliveries_webhook", deliveries(postrider.DeliveryFilter{EventType: "call.ended", Until: time.Now()})},
		{"SEARCH d USING INDEX deliveries_webhook", deliveries(postrider.DeliveryFilter{State: postrider.StatePending})},
		{"SEARCH d USING INDEX deliveries_trouble", deliveries(postrider.DeliveryFilter{State: postrider.StateFailed, EventType: "call.ended"})},
	} {
		st, _, err := c.list.page(t.Context(), s.db.Reading, postrider.Page{Limit: 5, After: "z"})
		require.NoError(t, err)
		plan := strings.Join(planOnSQLite(t, s, st), "\n")
		require.Contains(t, plan, c.index+" (")
		require.NotContains(t, plan, "TEMP B-TREE")
		require.NotContains(t, plan, "SCAN")
	}
}

// storeOnSQLite returns a store on an empty file.
func storeOnSQLite(t *testing.T) *Store {
	t.Helper()
	keys, err := ParseKeyring(newKey(t))
	require.NoError(t, err)
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "plans.db"), Options{
		Keys: keys, Now: time.Now, IDs: postrider.NewIDs(time.Now, rand.Reader), Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	require.NoError(t, s.Migrate(t.Context()))
	return s
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
