// Package store keeps everything that must survive a crash, in PostgreSQL or SQLite:
// workspaces, webhooks and their secrets, events, deliveries with their attempts, and the
// outbox from which deliveries are handed to workflows.
//
// # Invariants
//
//   - Publish answers after its transaction is committed, and that transaction holds the
//     events, their deliveries and an outbox row for each delivery that is to be made. So
//     an accepted delivery is finished, parked, in the outbox, with a workflow, or still to be
//     made by a fan-out, at any time.
//   - An outbox row is deleted only in the transaction that finishes or parks its
//     delivery: see outbox.go for its states. A lease that runs out makes the row
//     claimable again, so a lost workflow loses no delivery.
//   - Secrets and the values of custom headers are stored encrypted, see [Keyring].
//   - A webhook is read with secrets of its own workspace only.
//   - Everything of a workspace is read and changed with the workspace's id in the
//     condition, so another workspace's id is an unknown id.
//
// Transactions lock in one order, so that they do not deadlock: webhooks, then their
// workspaces (which a change of a webhook does by a trigger), fanouts, sweeps, webhook_pace,
// deliveries, lanes, expiries, outbox, webhook_stats, rollup_minutes, webhook_gates, each in the order of ids.
// A step of a fan-out locks its fan-out before the workspace, as a step of a replay locks its job, and
// claims and permits lock paces before the sweeps that they find missing; nothing waits the other way
// around. Rows of operational_events are locked by who finds them free. Work that many rows may wait for
// is done in steps, each a transaction of its own. Where a statement cannot keep the order, the
// transaction is run again.
//
// # Where things are
//
//   - store.go opens the store; listen.go tells other processes; migrate.go, partition.go
//     and retention.go look after the tables.
//   - publish.go accepts events; match.go finds the webhooks that get them; idempotency.go
//     makes publishing repeatable.
//   - outbox.go draws the states of an outbox row and has the conditions for them. The
//     other outbox files are one operation each: claim (first attempts), handover
//     (retries), permit (one retry). queue and limits say who may claim and how much; pace.go is the rate limit.
//   - sweep.go lets deliveries follow a webhook that was changed; fanout.go makes those of
//     large publications; expiry.go fails those whose time is over; event_cancel.go calls off
//     those of an event.
//   - order.go lets deliveries of a lane be made one at a time; order_read.go says what blocks, and mends.
//   - act.go is what operators do to deliveries, with a file for what each action does; action.go
//     keeps who did what, and whom to tell. delivery_search.go lists a whole workspace.
//   - replay.go keeps replay jobs; replay_step.go makes their deliveries, and replay_walk.go finds what they send.
//   - record.go stores attempts; record_update.go has what they mean for deliveries and stats.
//   - health.go follows how webhooks' attempts go; gate.go limits those whose circuit is open, and
//     those that were resumed.
//   - rollup.go counts what happened by the minute and the hour; stats.go reads it.
//   - operational.go has events about the engine itself: who fails a delivery or changes a webhook emits them.
//   - audit.go keeps who did what: a method that changes something for a caller ends its transaction with an entry.
//   - writable.go tells readiness whether a write would succeed.
//   - webhook.go, headers.go, secret.go, keyring.go, event.go, event_headers.go, delivery.go,
//     target.go, apikey.go and workspace.go are one resource each; list.go pages.
//   - words.go has the words that are stored: kinds, states and statuses. tables.go has
//     the tables that are written by typed rows and the beginnings of queries.
//   - sqldb/ knows the two databases; storetest/ is the conformance suite that runs on
//     both; pgtest/ starts PostgreSQL for tests.
//
// # Where to add things
//
//   - A column: a migration for each database in ../schema, a field with a db tag in its
//     row type, and where a query lists columns by hand, the column there. A webhook's
//     setting needs the field in [postrider.WebhookSettings] and the migration only.
//     Afterwards run `go test ./store -run CurrentSchema -update`.
//   - A column that decides who gets an event: in the row type subscriber (match.go), and
//     in the triggers that renew a workspace's generation. A test compares them.
//   - A state or kind: in words.go or the root package, and in the CHECK of both
//     databases. A test compares them.
//   - A statement on a table that grows: as docs/decisions/0006-one-plan.md says, and a
//     call of it in reads_test.go.
//   - A test of what every database must do: in storetest.
//
// The SQL is one text for both databases. What differs is a field of [sqldb.Dialect].
package store
