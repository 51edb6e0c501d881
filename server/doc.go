// Package server is one process of Postrider: its settings, its parts, how they are put together,
// and the order in which they start and stop. The production binary and the standalone one use
// it with different roles, so that they behave the same.
//
// A [Role] says which parts run: the API, the worker, or both. A role with a data directory owns
// its database: the process migrates and provisions it ([Role.DataDir]). [Settings] and the
// other ...Settings types are the flags and environment variables; each validates itself.
//
// Start, in this order:
//
//	BindPorts  listen on every address, so that a taken port is reported at once
//	New        traces, Temporal's client (it connects later), the database; with a data
//	           directory: keys, migrations, first workspace and key; then the parts
//	Run        at the same time: the database's notifications, metrics and health, profiles,
//	           the API, endpoints.json, partitions, and delivering. Delivering waits until
//	           Temporal answers, schedules maintenance, and starts worker and dispatcher.
//
// Stop, when Run's context is done or a part has failed:
//
//  1. Readiness is a 503. endpoints.json is removed.
//  2. For [APISettings].DrainDelay the API goes on, and each answer closes its connection. Then it stops
//     accepting, closes what is idle, and lets open requests end.
//  3. The dispatcher ends: what it claimed and did not start goes back to the outbox.
//  4. The worker ends after the dispatcher, when its attempts are recorded.
//  5. The metrics listener ends, after all of these.
//  6. Temporal's client closes, then the database; last, the remaining spans are sent.
//
// Steps 1 to 3 begin together, and [Settings].ShutdownTimeout bounds each but for the delay. The log
// says how long each part was waited for (ending.go).
//
// Invariants: without the database New fails; without Temporal the API still accepts events
// and readiness reports it. A schema or keys that do not fit are refused before any work.
// No label of a metric has a value that a customer chose.
//
// A new setting is a field with a help text here; a new part is a field of [Server], a line in
// assemble and an entry in tasks. Nothing here may hold SQL or decide about deliveries.
package server
