package store_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store"
	"postrider.dev/postrider/store/storetest"
)

// TestPoolsAreApart guards that many slow reads hold up neither publishing nor deliveries, nor
// these two each other. Connections that are held stand for statements that do not end.
func TestPoolsAreApart(t *testing.T) {
	t.Parallel()
	for name, url := range map[string]string{"SQLite": filepath.Join(t.TempDir(), "pools.db"), "PostgreSQL": postgres.NewDatabase(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := storetest.NewBundle(t, url)
			w := b.NewWebhook(t)
			work := map[string]func(context.Context) error{
				"reading": func(ctx context.Context) error {
					_, err := b.Events(ctx, b.Workspace, postrider.EventFilter{}, postrider.Page{})
					return err
				},
				"publishing": func(ctx context.Context) error { return acceptEvent(ctx, b, w.ID) },
				"delivering": func(ctx context.Context) error { return deliverOne(ctx, t, b) },
			}
			pools := store.Pools(b.Store)
			for held, pool := range pools {
				release := holdAll(t, pool)
				for name, do := range work {
					if name == held {
						ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
						require.ErrorIs(t, do(ctx), context.DeadlineExceeded, "%s waits for its own connections", name)
						cancel()
						continue
					}
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					require.NoError(t, do(ctx), "%s, while all connections for %s are held", name, held)
					cancel()
				}
				release()
			}
		})
	}
}

// holdAll takes all of a pool's connections, until release.
func holdAll(t *testing.T, pool *sqlx.DB) (release func()) {
	t.Helper()
	held := make([]*sqlx.Conn, pool.Stats().MaxOpenConnections)
	for i := range held {
		var err error
		held[i], err = pool.Connx(t.Context())
		require.NoError(t, err)
	}
	return func() {
		for _, conn := range held {
			require.NoError(t, conn.Close())
		}
	}
}

// acceptEvent does what a publisher waits for.
func acceptEvent(ctx context.Context, b *storetest.Bundle, webhookID string) error {
	if _, err := b.APIKeyByHash(ctx, "unknown"); postrider.CodeOf(err) != postrider.CodeNotFound {
		return err
	}
	if err := b.Ping(ctx); err != nil {
		return err
	}
	_, err := b.Publish(ctx, b.Publication(b.NewEventTo(webhookID)))
	return err
}

// deliverOne does what a delivery waits for.
func deliverOne(ctx context.Context, t *testing.T, b *storetest.Bundle) error {
	t.Helper()
	claimed, err := b.Claim(ctx, postrider.ClaimRequest{Limit: 1, Lease: time.Minute})
	if err != nil || len(claimed) == 0 {
		return err
	}
	targets, err := b.Targets(ctx, []string{claimed[0].ID})
	if err != nil {
		return err
	}
	d := targets[0].Delivery
	if _, err := b.AttemptsOf(ctx, []string{d.ID}); err != nil {
		return err
	}
	return b.Record(ctx, []postrider.Outcome{{
		DeliveryID: d.ID, WorkspaceID: d.WorkspaceID, WebhookID: d.WebhookID, State: postrider.StateSucceeded, WorkflowID: claimed[0].WorkflowID,
		Attempt: postrider.Attempt{Number: 1, StartedAt: b.Clock.Now(), Result: postrider.ResultSuccess},
	}})
}

// waiting returns how many sessions of the database wait for a lock.
func waiting(t *testing.T, raw *sqlx.DB) (n int) {
	t.Helper()
	const query = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
	require.NoError(t, raw.GetContext(t.Context(), &n, query))
	return n
}

// Guards against a read that its caller has given up, and that goes on in the database.
func TestReadsEndInTheDatabase(t *testing.T) {
	t.Parallel()
	b := storetest.NewBundle(t, postgres.NewDatabase(t))
	raw := b.Raw(t)
	held, err := raw.BeginTxx(t.Context(), nil)
	require.NoError(t, err)
	defer held.Rollback() //nolint:errcheck // it only locks
	_, err = held.ExecContext(t.Context(), "LOCK TABLE attempts IN ACCESS EXCLUSIVE MODE")
	require.NoError(t, err)
	ctx, giveUp := context.WithCancel(t.Context())
	failure := make(chan error)
	go func() {
		_, err := b.Attempts(ctx, b.IDs.New(postrider.PrefixDelivery))
		failure <- err
	}()
	require.Eventually(t, func() bool { return waiting(t, raw) == 1 }, time.Minute, time.Millisecond)
	giveUp()
	require.Error(t, <-failure)
	require.Eventually(t, func() bool { return waiting(t, raw) == 0 }, time.Minute, time.Millisecond)
	require.NoError(t, held.Rollback())
	_, err = b.Attempts(t.Context(), b.IDs.New(postrider.PrefixDelivery))
	require.NoError(t, err)
}

// TestConnectionsAddUp guards the number that docs/operations.md and the embedded Temporal count on.
func TestConnectionsAddUp(t *testing.T) {
	t.Parallel()
	b := storetest.NewBundle(t, postgres.NewDatabase(t))
	sum := 0
	for _, pool := range store.AllPools(b.Store) {
		sum += pool.Stats().MaxOpenConnections
	}
	require.Equal(t, 24, sum)
	var timeout string
	require.NoError(t, store.Pools(b.Store)["reading"].GetContext(t.Context(), &timeout, "SHOW statement_timeout"))
	require.Equal(t, "10s", timeout)
}
