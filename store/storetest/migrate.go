//nolint:thelper // these are the tests, not helpers of one
package storetest

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func migrateTests() map[string]func(*testing.T, *Bundle) {
	return map[string]func(*testing.T, *Bundle){
		"the schema is checked, taken back and made again": migrateDownAndUp,
		"an upgrade keeps what waits":                      migrateKeeps,
		"an upgrade finds a carrier for every state":       migrateToCarriers,
		"a downgrade gives retries workflows of their own": migrateFromCarriers,
		"a newer schema is refused":                        migrateNewer,
	}
}

func migrateDownAndUp(t *testing.T, b *Bundle) {
	ctx := t.Context()
	require.NoError(t, b.CheckSchema(ctx))
	steps, err := b.Migrations(ctx)
	require.NoError(t, err)
	require.NotEmpty(t, steps)
	for _, step := range steps {
		require.NotNil(t, step.AppliedAt)
	}
	for range steps {
		_, err = b.Unmigrate(ctx)
		require.NoError(t, err)
	}
	require.ErrorContains(t, b.CheckSchema(ctx), "run `postrider migrate up`")
	steps, err = b.Migrations(ctx)
	require.NoError(t, err)
	require.Nil(t, steps[0].AppliedAt)
	_, err = b.FirstWorkspace(ctx)
	require.Error(t, err, "the tables are gone")

	require.NoError(t, b.Migrate(ctx))
	require.NoError(t, b.CheckSchema(ctx))
	b.NewWorkspace(t)
}

func migrateKeeps(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	waiting := b.PublishTo(t, w.ID, 3)
	_, err := b.Unmigrate(t.Context())
	require.NoError(t, err)
	require.NoError(t, b.Migrate(t.Context()))
	require.Equal(t, waiting, b.Claimed(t, 10)[w.ID])
}

func migrateNewer(t *testing.T, b *Bundle) {
	_, err := b.Raw(t).ExecContext(t.Context(), "INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, TRUE)")
	require.NoError(t, err)
	require.ErrorContains(t, b.CheckSchema(t.Context()), "run a newer build")
}

// downTo takes migrations back until a version is the last one. Where one of them cannot be, it is as
// before, and downTo returns the error.
func (b *Bundle) downTo(t *testing.T, version int64) error {
	t.Helper()
	for at := version + 1; at > version; {
		var err error
		if at, err = b.Unmigrate(t.Context()); err != nil {
			require.NoError(t, b.Migrate(t.Context()))
			return err
		}
	}
	return nil
}
