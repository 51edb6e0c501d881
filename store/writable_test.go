package store_test

import (
	"context"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store"
	"postrider.dev/postrider/store/pgtest"
	"postrider.dev/postrider/store/storetest"
)

// probes returns how many probes were written.
func probes(t *testing.T, b *storetest.Bundle, last *string) bool {
	t.Helper()
	ids := read(t, b, "SELECT id FROM write_probe")
	require.LessOrEqual(t, len(ids), 1)
	if len(ids) == 0 || ids[0] == *last {
		return false
	}
	*last = ids[0]
	return true
}

// Guards readiness, which anybody may ask for at any rate, against a write for each question.
func TestWritableWritesOnceASecond(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, b *storetest.Bundle) {
		t.Helper()
		last := ""
		require.False(t, probes(t, b, &last))
		var asking sync.WaitGroup
		for range 20 {
			asking.Go(func() {
				if err := b.Writable(t.Context()); err != nil {
					t.Errorf("not writable: %v", err)
				}
			})
		}
		asking.Wait()
		require.True(t, probes(t, b, &last))
		b.Clock.Advance(time.Second - time.Microsecond)
		require.NoError(t, b.Writable(t.Context()))
		require.False(t, probes(t, b, &last), "the answer still holds")
		b.Clock.Advance(time.Microsecond)
		require.NoError(t, b.Writable(t.Context()))
		require.True(t, probes(t, b, &last))
		b.Clock.Advance(-time.Hour)
		require.NoError(t, b.Writable(t.Context()))
		require.True(t, probes(t, b, &last), "a clock that was set back is no reason to wait")
	})
}

// requireReadOnly guards that what readiness says is what a publish finds.
func requireReadOnly(t *testing.T, b *storetest.Bundle) {
	t.Helper()
	b.Clock.Advance(time.Second)
	require.NoError(t, b.Ping(t.Context()), "it can be read")
	require.Equal(t, postrider.CodeUnavailable, postrider.CodeOf(b.Writable(t.Context())))
	_, err := b.Publish(t.Context(), b.Publication(b.NewEvent("call.ended")))
	require.Equal(t, postrider.CodeUnavailable, postrider.CodeOf(err), "%v", err)
}

// Guards against a database that answers and takes no writes, and that readiness calls ready.
func TestReadOnlySQLiteIsNotReady(t *testing.T) {
	t.Parallel()
	b := storetest.NewBundle(t, "sqlite:"+filepath.Join(t.TempDir(), "postrider.db"))
	w := b.NewWebhook(t)
	require.NoError(t, b.Writable(t.Context()))
	execWriting(t, b, "PRAGMA query_only = 1")
	requireReadOnly(t, b)
	execWriting(t, b, "PRAGMA query_only = 0")
	b.Clock.Advance(time.Second)
	require.NoError(t, b.Writable(t.Context()))

	execWriting(t, b, "PRAGMA max_page_count = 1") // SQLite makes it as many as there are
	fill(t, b, w.ID, 16<<10)
	fill(t, b, w.ID, 1)
	requireReadOnly(t, b)
}

// Guards against a standby that readiness calls ready: after a failover, processes may still be
// connected to the old server.
func TestStandbyIsNotReady(t *testing.T) {
	t.Parallel()
	server, err := pgtest.Start(t.Context(), migrate)
	require.NoError(t, err)
	t.Cleanup(server.Stop)
	url, err := server.Create(t.Context(), "demoted", "postrider_template")
	require.NoError(t, err)
	b := storetest.NewBundle(t, url)
	b.NewWebhook(t)
	require.NoError(t, b.Writable(t.Context()))
	require.NoError(t, server.Demote(t.Context()))
	require.Eventually(t, func() bool { return b.Ping(t.Context()) == nil }, time.Minute, 10*time.Millisecond)
	requireReadOnly(t, b)
}

// The setting is a default, which the driver's transactions override: publishing goes on, so the
// process is ready.
func TestReadOnlyByDefaultIsReady(t *testing.T) {
	t.Parallel()
	b := storetest.NewBundle(t, postgres.NewDatabase(t))
	database := read(t, b, "SELECT current_database()")[0]
	_, err := b.Raw(t).ExecContext(t.Context(), "ALTER DATABASE "+database+" SET default_transaction_read_only = on")
	require.NoError(t, err)
	other := b.Open(t, b.Key) // its connections are new
	require.NoError(t, other.Writable(t.Context()))
	_, err = other.Publish(t.Context(), b.Publication(b.NewEvent("call.ended")))
	require.NoError(t, err)
}

func execWriting(t *testing.T, b *storetest.Bundle, text string) {
	t.Helper()
	require.NoError(t, store.ExecWriting(t.Context(), b.Store, text))
}

// fill publishes events of a size until there is no room for another one: what the probe's row and
// others left is used up first.
func fill(t *testing.T, b *storetest.Bundle, webhookID string, size int) {
	t.Helper()
	for range 1000 {
		p := b.Publication(b.NewEventTo(webhookID))
		p.Events[0].Body = make([]byte, size)
		if _, err := b.Publish(t.Context(), p); err != nil {
			return
		}
	}
	require.Fail(t, "there is always room")
}

// Guards against a question that waits for a probe that hangs.
func TestWritableEndsWithItsContext(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, b *storetest.Bundle) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_ = b.Writable(ctx) // the probe that it began goes on for others
		require.NoError(t, b.Writable(t.Context()))
	})
}
