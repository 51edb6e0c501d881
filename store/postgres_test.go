package store_test

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store"
	"postrider.dev/postrider/store/storetest"
)

func TestPostgres(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) string {
		t.Helper()
		return postgres.NewDatabase(t)
	})
}

// partitionsOf returns how many rows of a table each partition holds.
func partitionsOf(t *testing.T, b *storetest.Bundle, table string) map[string]int {
	t.Helper()
	var rows []struct {
		Partition string
		Rows      int
	}
	query := "SELECT tableoid::regclass::text AS partition, COUNT(*) AS rows FROM " + table + " GROUP BY 1"
	require.NoError(t, b.Raw(t).SelectContext(t.Context(), &rows, query))
	counts := map[string]int{}
	for _, row := range rows {
		counts[row.Partition] = row.Rows
	}
	return counts
}

func TestPartitions(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	b := storetest.NewBundle(t, postgres.EmptyDatabase(t))
	w := b.NewWebhook(t)
	made := func() []string {
		return read(t, b, "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE c.relkind = 'r'")
	}
	require.Len(t, made(), 3*10) // yesterday, today, a week, and the default
	require.NoError(t, b.EnsurePartitions(ctx, b.Clock.Now()))
	require.Len(t, made(), 3*10)
	var unanalyzed int
	const late = "SELECT COUNT(*) FROM pg_class WHERE 'autovacuum_analyze_threshold=1000' = ANY(reloptions)"
	require.NoError(t, b.Raw(t).GetContext(ctx, &unanalyzed, late))
	require.Equal(t, 3*9, unanalyzed, "every day, while it is nearly empty")

	b.PublishTo(t, w.ID, 2)
	b.Clock.Advance(24 * time.Hour)
	today := b.PublishTo(t, w.ID, 1)
	require.Len(t, b.Claimed(t, 10)[w.ID], 3)
	require.NoError(t, b.Record(ctx, []postrider.Outcome{b.Outcome(t, today[0], 1, postrider.StateSucceeded)}))
	require.Equal(t, map[string]int{"events_20260314": 2, "events_20260315": 1}, partitionsOf(t, b, "events"))
	require.Equal(t, map[string]int{"deliveries_20260314": 2, "deliveries_20260315": 1}, partitionsOf(t, b, "deliveries"))
	require.Equal(t, map[string]int{"attempts_20260315": 1}, partitionsOf(t, b, "attempts"))

	// Nothing is refused on a day without a partition, and its rows stay where they
	// are when partitions are made at last.
	b.Clock.Advance(30 * 24 * time.Hour)
	b.PublishTo(t, w.ID, 1)
	require.Equal(t, 1, partitionsOf(t, b, "deliveries")["deliveries_default"])
	require.NoError(t, b.EnsurePartitions(ctx, b.Clock.Now()))
	require.NoError(t, b.EnsurePartitions(ctx, b.Clock.Now()))
	require.NotContains(t, made(), "deliveries_20260414")
	require.Contains(t, made(), "deliveries_20260415")
	b.Clock.Advance(24 * time.Hour)
	b.PublishTo(t, w.ID, 1)
	require.Equal(t, 1, partitionsOf(t, b, "deliveries")["deliveries_20260415"])
}

// planOf returns the plan of a query with sequential scans ruled out where there
// is any other way.
func planOf(t *testing.T, b *storetest.Bundle, query string) string {
	t.Helper()
	tx, err := b.Raw(t).BeginTxx(t.Context(), nil)
	require.NoError(t, err)
	defer tx.Rollback() //nolint:errcheck // nothing was written
	_, err = tx.ExecContext(t.Context(), "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")
	require.NoError(t, err)
	var lines []string
	require.NoError(t, tx.SelectContext(t.Context(), &lines, "EXPLAIN (COSTS OFF) "+query))
	return strings.Join(lines, "\n")
}

func TestPlans(t *testing.T) {
	t.Parallel()
	b := storetest.NewBundle(t, postgres.NewDatabase(t))
	id := b.IDs.New(postrider.PrefixDelivery)
	byID := planOf(t, b, "SELECT * FROM deliveries WHERE id = '"+id+"'")
	require.Contains(t, byID, "deliveries_20260314")
	require.NotContains(t, byID, "Append", "a lookup by id reads one partition")
	attempts := planOf(t, b, "SELECT * FROM attempts WHERE delivery_id = '"+id+"'")
	require.NotContains(t, attempts, "Append")
	partial := store.PartialIndexes()
	retrying := partial["outbox_retrying"] + " AND due_at <= now()"
	const mine = "SELECT * FROM webhooks WHERE deleted_at IS NULL AND workspace_id = ANY('{w}') AND "
	for index, query := range map[string]string{
		"webhooks_status":           mine + "status = ANY('{paused}') ORDER BY workspace_id DESC, status DESC, id DESC LIMIT 50",
		"webhooks_persona":          mine + "persona_id = ANY('{p}') ORDER BY workspace_id DESC, persona_id DESC, id DESC LIMIT 50",
		"webhook_id_trouble_id_idx": "SELECT * FROM deliveries WHERE webhook_id = 'w' AND trouble = 'failed' ORDER BY id DESC LIMIT 50",
		"webhook_id_id_idx":         "SELECT * FROM deliveries WHERE webhook_id = 'w' ORDER BY id DESC LIMIT 50",
		"event_key_id_idx":          "SELECT * FROM deliveries WHERE event_key = 'e' ORDER BY id DESC LIMIT 50",
		"workspace_id_key_idx":      "SELECT * FROM events WHERE workspace_id = 'w' ORDER BY key DESC LIMIT 50",
		"workspace_id_id_idx":       "SELECT * FROM events WHERE workspace_id = 'w' AND id = 'i' AND id <> key",
		"outbox_ready":              "SELECT queue FROM outbox WHERE " + partial["outbox_ready"] + " AND queue > 'w' ORDER BY queue LIMIT 1",
		"outbox_handover":           "SELECT queue FROM outbox WHERE " + partial["outbox_handover"] + " AND queue > 'w' ORDER BY queue LIMIT 1",
		"outbox_held":               "SELECT MIN(hold_until) FROM outbox WHERE " + partial["outbox_held"],
		"outbox_leased":             "SELECT COUNT(*) FROM outbox WHERE webhook_id = 'w' AND " + partial["outbox_leased"],
		"outbox_retrying":           "SELECT 1 FROM outbox WHERE webhook_id = 'w' AND " + retrying + " ORDER BY due_at LIMIT 500",
		"outbox_cancel":             "SELECT delivery_id FROM outbox WHERE " + partial["outbox_cancel"] + " ORDER BY delivery_id LIMIT 5",
	} {
		plan := planOf(t, b, query)
		require.Contains(t, plan, index, query)
		require.NotRegexp(t, `(?m)^\s*(->\s*)?Sort$`, plan, query)
	}
}

// Guards against a retention that reads all that came after a day to find what sends its events again.
func TestReplaysAreFoundByTheirEvents(t *testing.T) {
	t.Parallel()
	b := storetest.NewBundle(t, postgres.NewDatabase(t))
	const later = " AND id >= 'dlv_1' AND finished_at IS NULL"
	plan := planOf(t, b, "SELECT 1 FROM deliveries WHERE event_key >= 'evt_1' AND event_key < 'evt_2'"+later)
	require.Contains(t, plan, "event_key_id_idx")
	require.NotContains(t, plan, "pkey")
	require.NotContains(t, plan, "Seq Scan")
}

// Guards against minutes that are read, become hours, and are read again as these.
func TestStatsBesideACompaction(t *testing.T) {
	t.Parallel()
	ctx, b := t.Context(), storetest.NewBundle(t, postgres.NewDatabase(t))
	w := b.NewWebhook(t)
	id := b.PublishTo(t, w.ID, 1)[0]
	b.Claimed(t, 1)
	require.NoError(t, b.Record(ctx, []postrider.Outcome{b.Outcome(t, id, 1, postrider.StateSucceeded)}))
	raw := b.Raw(t)
	compaction, err := raw.BeginTxx(ctx, nil)
	require.NoError(t, err)
	defer compaction.Rollback() //nolint:errcheck // it is committed
	_, err = compaction.ExecContext(ctx, "LOCK TABLE rollup_hours IN ACCESS EXCLUSIVE MODE")
	require.NoError(t, err)
	delivered := make(chan int64)
	go func() {
		since := postrider.FloorTo(b.Clock.Now(), time.Hour)
		points, err := b.Stats(ctx, b.Workspace, postrider.StatsQuery{
			WebhookID: w.ID, Since: since, Until: since.Add(time.Hour), Step: time.Hour,
		})
		if err != nil {
			delivered <- -1
			return
		}
		delivered <- points[0].Delivered
	}()
	require.Eventually(t, func() bool { return waiting(t, raw) == 1 }, time.Minute, time.Millisecond)
	const move = "WITH moved AS (DELETE FROM rollup_minutes WHERE subject = $1 RETURNING *) INSERT INTO rollup_hours SELECT * FROM moved"
	_, err = compaction.ExecContext(ctx, move, w.ID)
	require.NoError(t, err)
	require.NoError(t, compaction.Commit())
	require.EqualValues(t, 1, <-delivered)
}

func TestUnavailable(t *testing.T) {
	t.Parallel()
	b := storetest.NewBundle(t, postgres.NewDatabase(t))
	keys, err := store.ParseKeyring(b.Key)
	require.NoError(t, err)
	options := store.Options{Keys: keys, Now: b.Clock.Now, IDs: b.IDs, Logger: discard()}
	_, err = store.Open(t.Context(), "postgres://postrider@127.0.0.1:1/none?sslmode=disable", options)
	require.Equal(t, postrider.CodeUnavailable, postrider.CodeOf(err))

	_, err = store.Open(t.Context(), "postgres://user:pass word@[", options)
	require.Error(t, err)
	require.NotContains(t, err.Error(), "pass word")
	_, err = store.Open(t.Context(), b.URL, store.Options{})
	require.Error(t, err)

	// Connections that break are made anew; calls that were under way fail as unavailable.
	require.NoError(t, b.Ping(t.Context()))
	_, err = b.Raw(t).ExecContext(t.Context(), "SELECT pg_terminate_backend(pid) "+otherSessions)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		err := b.Ping(t.Context())
		require.Contains(t, []postrider.Code{"", postrider.CodeUnavailable}, postrider.CodeOf(err))
		return err == nil
	}, 10*time.Second, 10*time.Millisecond)
}

func TestRefusedText(t *testing.T) {
	t.Parallel()
	b := storetest.NewBundle(t, postgres.NewDatabase(t))
	nul := "a\x00b"
	w := b.Settings()
	w.Name = &nul
	_, err := b.CreateWebhook(t.Context(), w, "")
	require.Equal(t, postrider.CodeInvalid, postrider.CodeOf(err))
}

// TestListen is the wake-up across processes: two stores on one database.
func TestListen(t *testing.T) {
	t.Parallel()
	b := storetest.NewBundle(t, postgres.NewDatabase(t))
	other := b.Open(t, b.Key)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- other.Listen(ctx) }()

	raw := b.Raw(t)
	const listeners = "FROM pg_stat_activity WHERE datname = current_database() AND query LIKE "
	listening := func(to string) func() bool {
		return func() bool {
			var pids []int
			require.NoError(t, raw.SelectContext(t.Context(), &pids, "SELECT pid "+listeners+"$1 AND state = 'idle'", `LISTEN "`+to+`"`))
			return len(pids) > 0
		}
	}
	// This is the channel that it listens to last.
	require.Eventually(t, listening("postrider_due"), time.Minute, 5*time.Millisecond)
	w := b.NewWebhook(t)
	drain(other.Wake())
	b.PublishTo(t, w.ID, 1)
	<-other.Wake()

	// Revocations are heard of, too.
	before := other.Revocations()
	key, _, err := postrider.APIKey{WorkspaceID: b.Workspace, Name: "k", Scopes: postrider.Scopes()}.Issue(b.IDs, rand.Reader, b.Clock.Now())
	require.NoError(t, err)
	require.NoError(t, b.CreateAPIKey(t.Context(), key))
	require.NoError(t, b.RevokeAPIKey(t.Context(), key.ID))
	require.Eventually(t, func() bool { return other.Revocations() != before }, time.Minute, time.Millisecond)

	// A connection that is lost comes back, and wakes in case it missed something.
	drain(other.Wake())
	before = other.Revocations()
	_, err = raw.ExecContext(t.Context(), "SELECT pg_terminate_backend(pid) "+listeners+"$1", `LISTEN "postrider_%"`)
	require.NoError(t, err)
	<-other.Wake()
	require.Eventually(t, listening("postrider_%"), time.Minute, 5*time.Millisecond)
	require.NotEqual(t, before, other.Revocations())

	cancel()
	require.NoError(t, <-ended)
}

func drain(wake <-chan struct{}) {
	select {
	case <-wake:
	default:
	}
}

// TestMigrateTogether is several processes that start on an empty database.
func TestMigrateTogether(t *testing.T) {
	t.Parallel()
	url := postgres.EmptyDatabase(t)
	errs := make([]error, 4)
	var processes sync.WaitGroup
	for i := range errs {
		keys, err := store.ParseKeyring("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")
		require.NoError(t, err)
		options := store.Options{Keys: keys, Now: time.Now, IDs: postrider.NewIDs(time.Now, rand.Reader), Logger: discard()}
		db, err := store.Open(t.Context(), url, options)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, db.Close()) })
		processes.Go(func() { errs[i] = errors.Join(db.Migrate(t.Context()), db.CheckSchema(t.Context())) })
	}
	processes.Wait()
	require.NoError(t, errors.Join(errs...))
}
