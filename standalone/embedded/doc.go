// Package embedded runs a Temporal server and its web UI in this process, on a SQLite file or on
// PostgreSQL. [Start] returns a [Server] by a [Config].
//
// It is the real server: the services frontend, history, matching and worker, each with its
// listener on the loopback interface. The two databases differ behind the interface database
// (database.go): sqlite.go, and postgres.go with its schema and its claim.
//
// Invariants:
//   - Every commit is synced, so a process that is killed finds all acknowledged state again.
//   - One server uses a data directory or a database at a time. On PostgreSQL an advisory lock
//     (claim.go) keeps other servers away. Ports can differ between starts.
//   - Tables of another version are refused with [ErrOtherSchema], never changed.
//   - The server makes no connection to the internet.
//   - The web UI answers for hosts of this machine alone (hosts.go): it asks for no password.
//
// The package knows nothing of Postrider: search attributes and retention are configuration. A
// setting of the server itself belongs into dynamicSettings (settings.go), with the reason why it
// differs from the default.
package embedded
