package embedded_test

import (
	"testing"

	"go.uber.org/goleak"
)

// What a stopped server leaves behind in its process, none of it started here:
// pollers of its own system workers that sleep before a last try, its clients'
// connections to itself, and the one database connection that its SQLite plugin
// keeps for the life of the process.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("go.temporal.io/sdk/internal.(*baseWorker).pollTask"),
		goleak.IgnoreAnyFunction("go.temporal.io/sdk/internal.(*baseWorker).runTaskDispatcher"),
		goleak.IgnoreAnyFunction("go.temporal.io/sdk/internal.(*baseWorker).runEagerTaskDispatcher"),
		goleak.IgnoreAnyFunction("go.temporal.io/sdk/internal.(*baseWorker).Start.func2"),
		goleak.IgnoreAnyFunction("go.temporal.io/sdk/internal.(*sharedNamespaceWorker).run"),
		goleak.IgnoreAnyFunction("google.golang.org/grpc/internal/grpcsync.(*CallbackSerializer).run"),
		goleak.IgnoreAnyFunction("google.golang.org/grpc.(*addrConn).connect"),
		goleak.IgnoreAnyFunction("database/sql.(*DB).connectionOpener"),
	)
}
