// Package instance runs Postrider's binaries as child processes on free ports, and talks to them as
// any client does. The demo, the end-to-end tests and the benchmark use it, so that they test the
// real binaries.
//
//   - [Start] starts a postrider-standalone and returns an [Instance] when it is ready.
//   - [Spawn] starts any program as a [Process]; [Process.Stop] and [Process.Kill] end it.
//   - [Client] makes requests to the API. Its types have only the fields that callers read.
//
// The package must not import Postrider's packages: it knows the binary by its flags, files and
// API alone. A new route is a method of Client.
package instance
