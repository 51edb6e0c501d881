package store_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/storetest"
)

const bigDays = 10

// bigTable is a database with a past: deliveries of 100 webhooks, spread evenly
// over the ten days before now, one in fifty of them failed.
type bigTable struct {
	*storetest.Bundle
	webhooks []postrider.Webhook
}

func newBigTable(tb testing.TB, deliveries int) *bigTable {
	tb.Helper()
	b := &bigTable{Bundle: storetest.NewBundle(tb, postgres.NewDatabase(tb))}
	for offset := range bigDays {
		require.NoError(tb, b.EnsurePartitions(tb.Context(), b.Clock.Now().AddDate(0, 0, -offset)))
	}
	for range 100 {
		b.webhooks = append(b.webhooks, b.NewWebhook(tb))
	}
	// What publish and record would have written. An id is a prefix and a UUIDv7.
	id := func(prefix string) string {
		return `'` + prefix + `_' || lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' ||
			substr(md5('` + prefix + `' || n), 1, 19)`
	}
	raw := b.Raw(tb)
	for _, query := range []string{
		`CREATE TEMP TABLE past AS SELECT n, at, w.id AS webhook_id, w.workspace_id FROM (
			SELECT n, $1::timestamptz - interval '10 days' * n / $2 AS at FROM generate_series(1, $2::int) n) s
			JOIN (SELECT id, workspace_id, row_number() OVER (ORDER BY id) - 1 AS number FROM webhooks) w ON w.number = n % 100`,
		`INSERT INTO events (key, id, workspace_id, type, occurred_at, body, created_at)
			SELECT ` + id("evt") + `, ` + id("evt") + `, workspace_id, 'call.ended', at, '{}', at FROM past
			WHERE $1::timestamptz IS NOT NULL AND $2::int > 0`,
		`INSERT INTO deliveries (id, workspace_id, webhook_id, event_id, event_key, event_type, state, timeout_ms, max_retries, backoff_ms,
				attempt_count, created_at, due_at, finished_at, workflow_id)
			SELECT ` + id("dlv") + `, workspace_id, webhook_id, ` + id("evt") + `, ` + id("evt") + `, 'call.ended',
				CASE WHEN n % 50 = 0 THEN 'failed' ELSE 'succeeded' END, 5000, 3, 1000, 1, at, at, at, 'delivery/' || ` + id("dlv") + ` FROM past
			WHERE $1::timestamptz IS NOT NULL AND $2::int > 0`,
		`INSERT INTO attempts (delivery_id, number, started_at, duration_ms, status_code, result, response_truncated)
			SELECT ` + id("dlv") + `, 1, at, 12, 200, 'success', false FROM past WHERE $1::timestamptz IS NOT NULL AND $2::int > 0`,
	} {
		_, err := raw.ExecContext(tb.Context(), query, b.Clock.Now(), deliveries)
		require.NoError(tb, err)
	}
	_, err := raw.ExecContext(tb.Context(), "ANALYZE")
	require.NoError(tb, err)
	return b
}

// lists reads what people and programs list, n-th by n-th.
func (b *bigTable) lists(tb testing.TB, n int) map[string]func() {
	tb.Helper()
	ctx, w := tb.Context(), b.webhooks[n%len(b.webhooks)]
	now := b.Clock.Now()
	deliveries := func(f postrider.DeliveryFilter) func() {
		return func() {
			page, err := b.Deliveries(ctx, b.Workspace, f, postrider.Page{Limit: 50})
			require.NoError(tb, err)
			for range 2 { // the pages after it, too
				if page.Next == "" {
					return
				}
				page, err = b.Deliveries(ctx, b.Workspace, f, postrider.Page{Limit: 50, After: page.Next})
				require.NoError(tb, err)
			}
		}
	}
	return map[string]func(){
		"deliveries":          deliveries(postrider.DeliveryFilter{WebhookID: w.ID}),
		"deliveries, failed":  deliveries(postrider.DeliveryFilter{WebhookID: w.ID, State: postrider.StateFailed}),
		"deliveries, one day": deliveries(postrider.DeliveryFilter{WebhookID: w.ID, Since: now.AddDate(0, 0, -5), Until: now.AddDate(0, 0, -4)}),
		"events": func() {
			_, err := b.Events(ctx, b.Workspace, postrider.EventFilter{Type: "call.ended"}, postrider.Page{Limit: 50})
			require.NoError(tb, err)
		},
		"webhooks": func() {
			_, err := b.Webhooks(ctx, b.Workspace, postrider.WebhookFilter{}, postrider.Page{Limit: 50})
			require.NoError(tb, err)
		},
		"one delivery": func() {
			page, err := b.Deliveries(ctx, b.Workspace, postrider.DeliveryFilter{WebhookID: w.ID}, postrider.Page{Limit: 1})
			require.NoError(tb, err)
			d, err := b.Delivery(ctx, b.Workspace, page.Items[0].ID)
			require.NoError(tb, err)
			_, err = b.Attempts(ctx, d.ID)
			require.NoError(tb, err)
			_, err = b.Deliveries(ctx, b.Workspace, postrider.DeliveryFilter{EventID: d.EventID}, postrider.Page{})
			require.NoError(tb, err)
		},
	}
}

// TestNothingScans does everything that the store does on a database with a past,
// and asks PostgreSQL whether it read a whole partition for it.
func TestNothingScans(t *testing.T) {
	t.Parallel()
	b := newBigTable(t, 50_000)
	raw := b.Raw(t)
	// The reads that made the tables must not be counted.
	settle(t, raw)
	_, err := raw.ExecContext(t.Context(), "SELECT pg_stat_reset()")
	require.NoError(t, err)

	working := b.Open(t, b.Key)
	w := b.webhooks[0]
	for _, list := range b.lists(t, 7) {
		list()
	}
	for _, id := range b.PublishTo(t, w.ID, 20) {
		require.NotEmpty(t, id)
	}
	claimed := b.Claimed(t, 20)[w.ID]
	require.Len(t, claimed, 20)
	_, err = working.Targets(t.Context(), claimed)
	require.NoError(t, err)
	require.NoError(t, b.Record(t.Context(), []postrider.Outcome{
		b.Outcome(t, claimed[0], 1, postrider.StateSucceeded), b.Outcome(t, claimed[1], 1, postrider.StateRetrying),
	}))
	_, err = b.Backlog(t.Context())
	require.NoError(t, err)
	_, err = b.Retain(t.Context(), b.Clock.Now().AddDate(0, 0, -30), func(postrider.Removed) {})
	require.NoError(t, err)
	require.NoError(t, b.DeleteWebhook(t.Context(), b.Workspace, w.ID))

	settle(t, raw)
	reads := func(column string) (partitions []string) {
		require.NoError(t, raw.SelectContext(t.Context(), &partitions, `SELECT s.relname
			FROM pg_stat_user_tables s JOIN pg_class c ON c.oid = s.relid
			WHERE s.relname ~ '^(events|deliveries|attempts)_[0-9]' AND c.reltuples > 1000 AND s.`+column+` > 0 ORDER BY 1`))
		return partitions
	}
	require.Greater(t, len(reads("idx_scan")), bigDays, "something was read")
	require.Empty(t, reads("seq_scan"))
}

// otherSessions are those of this database but the one that asks.
const otherSessions = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"

// settle ends all other sessions of the database: PostgreSQL counts the reads of a session
// when it ends, or a second later.
func settle(t *testing.T, raw *sqlx.DB) {
	t.Helper()
	raw.SetMaxOpenConns(1)
	require.Eventually(t, func() bool {
		var others int // one that was about to work may come back
		require.NoError(t, raw.GetContext(t.Context(), &others, "SELECT COUNT(pg_terminate_backend(pid)) "+otherSessions))
		return others == 0
	}, time.Minute, time.Millisecond)
}

// TestPlansWithoutScans asks PostgreSQL how it ran each statement of the lists and of
// a delivery's way through a database with a past and with much that waits. It says
// which statement it is where [TestNothingScans] counts, and knows of the outbox too.
func TestPlansWithoutScans(t *testing.T) {
	t.Parallel()
	b := newBigTable(t, 50_000)
	for _, w := range b.webhooks[:20] {
		b.PublishTo(t, w.ID, 500)
	}
	raw := b.Raw(t)
	_, err := raw.ExecContext(t.Context(), "ANALYZE")
	require.NoError(t, err)
	var big []string
	require.NoError(t, raw.SelectContext(t.Context(), &big, `SELECT relname FROM pg_class
		WHERE relkind = 'r' AND reltuples > 1000 AND relname ~ '^(events|deliveries|attempts|outbox)'`))
	require.Contains(t, big, "outbox")

	b.URL += "&session_preload_libraries=auto_explain&auto_explain.log_min_duration=0"
	b.Store = b.Open(t, b.Key)
	for _, list := range b.lists(t, 7) {
		list()
	}
	claimed, err := b.Claim(t.Context(), postrider.ClaimRequest{Limit: 20, Lease: time.Minute})
	require.NoError(t, err)
	require.Len(t, claimed, 20)
	_, _, err = b.NextDue(t.Context())
	require.NoError(t, err)
	deliveryIDs := make([]string, len(claimed))
	outcomes := make([]postrider.Outcome, len(claimed))
	for i, d := range claimed {
		deliveryIDs[i] = d.ID
		outcomes[i] = b.Outcome(t, d.ID, 1, postrider.StateSucceeded)
	}
	_, err = b.Targets(t.Context(), deliveryIDs)
	require.NoError(t, err)
	require.NoError(t, b.Record(t.Context(), outcomes))

	log, err := postgres.Log()
	require.NoError(t, err)
	scan := regexp.MustCompile(`Seq Scan on (` + strings.Join(big, "|") + `)\b`)
	plans := 0
	for entry := range strings.SplitSeq(log, " LOG:  ") {
		statement, planned := strings.CutPrefix(entry, "duration: ")
		if planned && !strings.Contains(statement, "SELECT EXISTS") { // which ends at the first row it finds
			plans++
			require.NotRegexp(t, scan, statement)
		}
	}
	require.Greater(t, plans, 20)
}

// BenchmarkBigTable is a million deliveries over ten days: how long lists take, and
// the removal of a day.
func BenchmarkBigTable(b *testing.B) {
	table := newBigTable(b, 1_000_000)
	var took []time.Duration
	for b.Loop() {
		for n := range 50 {
			for _, list := range table.lists(b, n) {
				begun := time.Now()
				list()
				took = append(took, time.Since(begun))
			}
		}
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms/list")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms/list")
	begun := time.Now()
	removed, err := table.Retain(b.Context(), table.Clock.Now().AddDate(0, 0, -8), func(postrider.Removed) {})
	require.NoError(b, err)
	require.NotEmpty(b, removed.Days)
	b.ReportMetric(float64(time.Since(begun).Milliseconds())/float64(len(removed.Days)), "ms/day-removed")
	b.ReportMetric(0, "ns/op")
}
