// Package cli holds the commands of the binaries. A main function only chooses commands and
// defaults, and calls [Main].
//
//   - [ServeCommand], [APICommand] and [WorkerCommand] run package server with another role
//     each, against a database and a Temporal cluster that operators run.
//   - [MigrateCommand], [WorkspaceCommand], [KeyCommand] and [SecretsCommand] work directly on
//     the database, so that they need no running process.
//   - [TemporalCommand] prepares a Temporal cluster and promotes versions of workers.
//   - [HealthCommand], [ListenCommand] and [VersionCommand] are tools.
//
// A command is a struct: its tags are the flags, Validate checks what parsing cannot, and Run
// does the work. Kong (github.com/alecthomas/kong) calls them.
//
// Invariants:
//   - An error about a setting names the flag, the variable and the rule. It never repeats a
//     secret, or a URL that may hold a password.
//   - Standard output has only the result, for programs; remarks for people go to standard
//     error ([notef]).
//   - Every command ends soon after its context is done.
//   - What was not understood is one line on standard error and exit code 2, before any work; a
//     failure is exit code 1.
//
// A new command is a file here and a field in the commands of a main function. The table of
// settings in docs/operations.md is generated: `go test ./cmd/postrider -update`. Logic that is
// not about flags and output belongs into another package.
package cli
