package embedded_test

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain ignores goroutines that Temporal's code leaves after a stop: pollers of its system
// workers that sleep before a last attempt, connections of its clients to itself, and the
// database connection that its SQLite plugin keeps until the process ends.
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
