// Command postrider-standalone is all of Postrider in one process: the API, the worker, Temporal
// with its web interface, and a database in a file or in PostgreSQL.
//
// It is a Go module of its own, so that the production binary does not link a Temporal server.
// The parts of Postrider are those of package server, with the role of a process that owns its
// database; this package adds what goes around them:
//
//   - claimDataDir (datadir.go) locks the data directory and closes it to other users.
//   - runCommand (run.go) claims the data directory, opens the ports, starts Temporal, and then
//     runs the server. It stops in the opposite order.
//   - temporalCommand (temporal.go) runs Temporal alone, for production binaries to use.
//   - embedded runs the Temporal server, demo is the demonstration, instance runs this binary as
//     a child process, and e2e are the end-to-end tests.
//
// Two processes must never use one data directory: claimDataDir locks it. Settings of the embedded
// server belong into TemporalSettings; everything that production needs too belongs into package
// server or cli.
package main
