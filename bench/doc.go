// Command bench measures Postrider: real binaries on a real PostgreSQL, with a load generator
// and a receiver in processes of their own. In the same rounds it measures two programs to
// compare with: a plain Temporal design (naive), and the same work without Temporal (floor).
// docs/performance.md explains the results.
//
// A scenario (scenario.go) is parts; a part is steps on one system under test (system.go); a
// step sets up a run (run.go) and measures it:
//
//	set up    webhooks and connections for this run's events alone
//	warm up   deliveries that do not count
//	measure   publish, and read CPU times before and after
//	drain     wait until every delivery was received and recorded (await.go)
//	match     compare published events with received requests (match.go)
//
// The other types that matter are load (load.go), receiver and receiverProcess, and results.
//
// Invariants:
//   - A run fails unless every event was received exactly as published and no delivery is left.
//     Only duplicates are counted instead.
//   - No two modes run at the same time, and each round has another order of modes.
//   - Load and receiver write HTTP by hand (http1.go), so that they take little CPU from the
//     system under test; their own CPU time is reported apart.
//   - The names in the JSON file stay, because docs/performance.json and older files use them.
//
// A new scenario is an entry in scenarios() with its steps; a new metric is a name in
// results.go and a column in report.go.
package main
