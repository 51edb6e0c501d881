package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store"
)

const (
	bigWebhooks   = 100_000
	bigWorkspaces = 1_000
	bigDays       = 10 // that the past is spread over
)

// bigTable compares a database that has a long past with an empty one.
func bigTable() []part {
	return []part{
		{steps: []step{burst("bigtable-empty-burst", 5000, 1, wide()), paced("bigtable-empty-paced50", 50, wide())}},
		{
			start: startOnPast,
			steps: []step{
				against("bigtable-empty-burst", burst("bigtable-burst", 5000, 1, wide())),
				against("bigtable-empty-paced50", paced("bigtable-paced50", 50, wide())),
			},
		},
	}
}

// startOnPast starts a subject on a copy of the database with a past, and has all of
// the copy on the disk, so that nobody is measured while it is written.
func startOnPast(ctx context.Context, b *bench, m mode) (*subject, error) {
	if err := b.fill(ctx); err != nil {
		return nil, err
	}
	s, err := b.start(ctx, m, setup{from: b.filled})
	if err != nil {
		return nil, err
	}
	if err := execute(ctx, s.address, filling{"writing the copy", "CHECKPOINT"}); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// execute executes statements on a database.
func execute(ctx context.Context, address string, statements ...filling) (err error) {
	db, err := sql.Open("postgres", address)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	for _, each := range statements {
		if _, err := db.ExecContext(ctx, each.query); err != nil {
			return fmt.Errorf("%s: %w", each.what, err)
		}
	}
	return nil
}

// fill makes the database with a past, once: subjects get copies.
func (b *bench) fill(ctx context.Context) error {
	if b.filled != "" {
		return nil
	}
	const name = "bench_past"
	address, err := b.postgres.Create(ctx, name, "")
	if err != nil {
		return err
	}
	if err := makeTables(ctx, address); err != nil {
		return err
	}
	for _, each := range past(b.scaled(bigWorkspaces), b.scaled(bigWebhooks), b.scaled(b.Table)) {
		b.sayf("  filling a database: %s", each.what)
		if err := execute(ctx, address, each); err != nil {
			return err
		}
	}
	b.filled = name
	return nil
}

// makeTables migrates a database, and makes the partitions of the days before now.
func makeTables(ctx context.Context, address string) (err error) {
	db, err := store.Open(ctx, address, store.Options{
		Keys: store.NoKeys(), Now: time.Now, IDs: postrider.NewIDs(time.Now, nil), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := db.Migrate(ctx); err != nil {
		return err
	}
	for day := range bigDays + 1 {
		if err := db.EnsurePartitions(ctx, time.Now().AddDate(0, 0, -day)); err != nil {
			return err
		}
	}
	return nil
}

// filling is one statement of a past.
type filling struct{ what, query string }

// past is what publish and record would have written. Its webhooks want another
// event type than the benchmark's and have no secrets, so that any process can go
// on with the database. An id is a prefix and a UUIDv7.
func past(workspaces, webhooks, deliveries int) []filling {
	id := func(prefix string) string {
		return `'` + prefix + `_' || lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(md5('` + prefix + `' || n), 1, 19)`
	}
	// n counts, and at is its time: evenly over the days, up to an hour ago.
	counted := func(n int) string {
		return fmt.Sprintf(`(SELECT n, now() - interval '1 hour' - interval '%d days' * (n / %d::float8) AS at FROM generate_series(1, %d) n) s`, bigDays-1, n, n)
	}
	return []filling{
		{fmt.Sprintf("%d workspaces", workspaces), `INSERT INTO workspaces (id, name, created_at)
			SELECT ` + id("ws") + `, 'workspace ' || n, at FROM ` + counted(workspaces)},
		{fmt.Sprintf("%d webhooks", webhooks), fmt.Sprintf(`INSERT INTO webhooks (id, workspace_id, url, events, signing_method, scope_type, timeout_ms, max_retries,
				backoff_ms, headers, max_in_flight, status, created_at, updated_at)
			SELECT `+id("wh")+`, w.id, 'https://example.com/' || n, '["order.paid"]', 'none', 'global', 5000, 3, 1000, '{}', 32, 'active', at, at
			FROM `+counted(webhooks)+` JOIN (SELECT id, row_number() OVER (ORDER BY id) - 1 AS number FROM workspaces) w ON w.number = n %% %d`, workspaces)},
		{"their subscriptions", `INSERT INTO webhook_events (workspace_id, pattern, persona_id, webhook_id) SELECT workspace_id, 'order.paid', '', id FROM webhooks`},
		{"their statistics", fmt.Sprintf(`INSERT INTO webhook_stats (webhook_id, total_deliveries, failed_deliveries, last_delivery_at)
			SELECT id, %d, 0, created_at FROM webhooks`, deliveries/webhooks)},
		{"who delivered what when", fmt.Sprintf(`CREATE TABLE past AS SELECT n, at, w.id AS webhook_id, w.workspace_id, `+id("evt")+` AS event, `+id("dlv")+` AS delivery
			FROM `+counted(deliveries)+` JOIN (SELECT id, workspace_id, row_number() OVER (ORDER BY id) - 1 AS number FROM webhooks) w ON w.number = n %% %d`, webhooks)},
		{fmt.Sprintf("%d events", deliveries), fmt.Sprintf(`INSERT INTO events (key, id, workspace_id, type, occurred_at, body, created_at)
			SELECT event, event, workspace_id, 'order.paid', at, decode(repeat('7b', %d), 'hex'), at FROM past ORDER BY at`, eventSize)},
		{fmt.Sprintf("%d deliveries", deliveries), `INSERT INTO deliveries (id, workspace_id, webhook_id, event_id, event_key, event_type, state, timeout_ms, max_retries,
				backoff_ms, attempt_count, created_at, due_at, finished_at, workflow_id)
			SELECT delivery, workspace_id, webhook_id, event, event, 'order.paid', CASE WHEN n % 50 = 0 THEN 'failed' ELSE 'succeeded' END,
				5000, 3, 1000, 1, at, at, at, 'delivery/' || delivery FROM past ORDER BY at`},
		{fmt.Sprintf("%d attempts", deliveries), `INSERT INTO attempts (delivery_id, number, started_at, duration_ms, status_code, result, response_truncated)
			SELECT delivery, 1, at, 12, 200, 'success', false FROM past ORDER BY at`},
		{"dropping what it was made of", `DROP TABLE past`},
		{"what autovacuum would have done by now", `VACUUM ANALYZE`},
	}
}
