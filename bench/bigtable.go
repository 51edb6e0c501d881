package main

import (
	"context"
	"crypto/rand"
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
	bigDays       = 10 // the length of the history
)

// bigTable measures a database with a long history, and compares it with an empty one.
func bigTable() []part {
	return []part{
		{steps: []step{burst("bigtable-empty-burst", 5000, 1, mostInFlight()), paced("bigtable-empty-paced50", 50, mostInFlight())}},
		{
			start: startOnHistory,
			steps: []step{
				comparedWith("bigtable-empty-burst", burst("bigtable-burst", 5000, 1, mostInFlight())),
				comparedWith("bigtable-empty-paced50", paced("bigtable-paced50", 50, mostInFlight())),
			},
		},
	}
}

// startOnHistory starts a system on a copy of the database with a history. It forces a
// checkpoint, so that writing the copy to disk does not slow down the measurement.
func startOnHistory(ctx context.Context, b *bench, m mode) (*system, error) {
	if err := b.fill(ctx); err != nil {
		return nil, err
	}
	s, err := b.start(ctx, m, startOptions{from: b.historyDatabase})
	if err != nil {
		return nil, err
	}
	if err := execute(ctx, s.address, statement{"writing the copy", "CHECKPOINT"}); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// execute executes statements on a database.
func execute(ctx context.Context, address string, statements ...statement) (err error) {
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

// fill creates and fills the database with a history, once. Each system gets a copy.
func (b *bench) fill(ctx context.Context) error {
	if b.historyDatabase != "" {
		return nil
	}
	const name = "bench_history"
	address, err := b.postgres.Create(ctx, name, "")
	if err != nil {
		return err
	}
	if err := makeTables(ctx, address); err != nil {
		return err
	}
	for _, each := range historyStatements(b.scaled(bigWorkspaces), b.scaled(bigWebhooks), b.scaled(b.Table)) {
		b.sayf("  filling a database: %s", each.what)
		if err := execute(ctx, address, each); err != nil {
			return err
		}
	}
	b.historyDatabase = name
	return nil
}

// makeTables migrates a database, and creates the partitions of the history's days.
func makeTables(ctx context.Context, address string) (err error) {
	db, err := store.Open(ctx, address, store.Options{
		Keys: store.NoKeys(), Now: time.Now, IDs: postrider.NewIDs(time.Now, rand.Reader), Logger: slog.New(slog.DiscardHandler),
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

// statement is one SQL statement, with a description for progress and errors.
type statement struct{ what, query string }

// historyStatements write the rows that publishing and recording would have written. The
// webhooks subscribe to another event type than the benchmark's and have no secrets, so that
// any process can go on with the database.
func historyStatements(workspaces, webhooks, deliveries int) []statement {
	return []statement{
		{fmt.Sprintf("%d workspaces", workspaces), `INSERT INTO workspaces (id, name, created_at)
			SELECT ` + idAt("ws") + `, 'workspace ' || n, at FROM ` + numbered(workspaces)},
		{fmt.Sprintf("%d webhooks", webhooks), fmt.Sprintf(`
			INSERT INTO webhooks (id, workspace_id, url, events, signing_method, scope_type, timeout_ms, max_retries,
				backoff_ms, headers, max_in_flight, status, created_at, updated_at)
			SELECT `+idAt("wh")+`, w.id, 'https://example.com/' || n, '["order.paid"]', 'none', 'global', 5000, 3,
				1000, '{}', 32, 'active', at, at
			FROM `+numbered(webhooks)+`
			JOIN (SELECT id, row_number() OVER (ORDER BY id) - 1 AS number FROM workspaces) w ON w.number = n %% %d`, workspaces)},
		{"their subscriptions", `INSERT INTO webhook_events (workspace_id, pattern, persona_id, webhook_id)
			SELECT workspace_id, 'order.paid', '', id FROM webhooks`},
		{"their statistics", fmt.Sprintf(`
			INSERT INTO webhook_stats (webhook_id, total_deliveries, failed_deliveries, last_delivery_at)
			SELECT id, %d, 0, created_at FROM webhooks`, deliveries/webhooks)},
		{"a table of deliveries to write", fmt.Sprintf(`
			CREATE TABLE history AS SELECT n, at, w.id AS webhook_id, w.workspace_id,
				`+idAt("evt")+` AS event, `+idAt("dlv")+` AS delivery
			FROM `+numbered(deliveries)+` JOIN
				(SELECT id, workspace_id, row_number() OVER (ORDER BY id) - 1 AS number FROM webhooks) w ON w.number = n %% %d`, webhooks)},
		{fmt.Sprintf("%d events", deliveries), fmt.Sprintf(`
			INSERT INTO events (key, id, workspace_id, type, occurred_at, body, created_at)
			SELECT event, event, workspace_id, 'order.paid', at, decode(repeat('7b', %d), 'hex'), at
			FROM history ORDER BY at`, eventSize)},
		{fmt.Sprintf("%d deliveries", deliveries), `
			INSERT INTO deliveries (id, workspace_id, webhook_id, event_id, event_key, event_type, state,
				timeout_ms, max_retries, backoff_ms, attempt_count, created_at, due_at, finished_at, workflow_id)
			SELECT delivery, workspace_id, webhook_id, event, event, 'order.paid',
				CASE WHEN n % 50 = 0 THEN 'failed' ELSE 'succeeded' END,
				5000, 3, 1000, 1, at, at, at, 'delivery/' || delivery FROM history ORDER BY at`},
		{fmt.Sprintf("%d attempts", deliveries), `
			INSERT INTO attempts (delivery_id, number, started_at, duration_ms, status_code, result, response_truncated)
			SELECT delivery, 1, at, 12, 200, 'success', false FROM history ORDER BY at`},
		{"dropping that table", `DROP TABLE history`},
		{"the work of autovacuum", `VACUUM ANALYZE`},
	}
}

// idAt is an SQL expression for an id of the row's time: a prefix and a UUIDv7.
func idAt(prefix string) string {
	return `'` + prefix + `_' || lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') ||
		'7' || substr(md5('` + prefix + `' || n), 1, 19)`
}

// numbered is an SQL table of the numbers n from 1, each with its time: spread evenly over the
// days, up to an hour ago.
func numbered(n int) string {
	return fmt.Sprintf(`(SELECT n, now() - interval '1 hour' - interval '%d days' * (n / %d::float8) AS at
		FROM generate_series(1, %d) n) s`, bigDays-1, n, n)
}
