package postrider_test

import (
	"crypto/rand"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"postrider.dev/postrider"
)

func TestIDsIncreaseEvenWhenTheClockDoesNot(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)
	ids := postrider.NewIDs(func() time.Time { at = at.Add(-time.Millisecond); return at }, rand.Reader)
	var made []string
	for range 5000 {
		made = append(made, ids.New(postrider.PrefixDelivery))
	}
	require.True(t, slices.IsSorted(made))
	require.Len(t, slices.Compact(made), 5000)
}

func TestIDsAreUniqueAcrossGoroutines(t *testing.T) {
	t.Parallel()
	ids := postrider.NewIDs(time.Now, rand.Reader)
	var (
		mu   sync.Mutex
		seen = map[string]bool{}
		all  sync.WaitGroup
	)
	for range 8 {
		all.Go(func() {
			for range 500 {
				id := ids.New(postrider.PrefixEvent)
				mu.Lock()
				seen[id] = true
				mu.Unlock()
			}
		})
	}
	all.Wait()
	require.Len(t, seen, 4000)
}

func TestIDHoldsItsTimeAndItsUUIDVersion(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		micros := rapid.Int64Range(0, 1<<52).Draw(t, "microseconds")
		at := time.UnixMicro(micros).UTC()
		id := postrider.NewIDs(func() time.Time { return at }, rand.Reader).New(postrider.PrefixEvent)

		got, err := postrider.IDTime(id)
		require.NoError(t, err)
		require.WithinDuration(t, at, got, time.Microsecond)
		digits := strings.TrimPrefix(id, "evt_")
		require.Len(t, digits, 32)
		require.Equal(t, byte('7'), digits[12])
		require.Contains(t, "89ab", string(digits[16]))

		require.LessOrEqual(t, postrider.IDFloor(postrider.PrefixEvent, at), id)
		require.Greater(t, postrider.IDFloor(postrider.PrefixEvent, at.Add(time.Microsecond)), id)
	})
}

// TestIDsFitTheirColumns guards the length that id columns and the receiver of the benchmark expect.
func TestIDsFitTheirColumns(t *testing.T) {
	t.Parallel()
	ids := postrider.NewIDs(time.Now, rand.Reader)
	for _, prefix := range []string{
		postrider.PrefixWebhook, postrider.PrefixEvent, postrider.PrefixBatch, postrider.PrefixDelivery,
		postrider.PrefixWorkspace, postrider.PrefixAPIKey, postrider.PrefixSecret, postrider.PrefixReplay,
	} {
		require.Regexp(t, "^"+prefix+"_[0-9a-f]{32}$", ids.New(prefix))
		require.LessOrEqual(t, len(prefix), 3)
	}
}

// TestIDsNeedRandomness guards against ids that others can guess.
func TestIDsNeedRandomness(t *testing.T) {
	t.Parallel()
	ids := postrider.NewIDs(time.Now, iotest.ErrReader(iotest.ErrTimeout))
	require.PanicsWithValue(t, "postrider: no randomness for an id: timeout", func() { ids.New(postrider.PrefixEvent) })
}

func TestTimestampIsKeptByPostgreSQL(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.FixedZone("CET", 3600))
	require.Equal(t, time.Date(2026, 3, 1, 11, 0, 0, 123456000, time.UTC), postrider.Timestamp(at))
	require.Equal(t, postrider.Timestamp(at), postrider.Timestamp(postrider.Timestamp(at)))
	require.NotContains(t, postrider.Timestamp(time.Now()).String(), "m=", "no monotonic clock reading")
}

func TestIDFloorOfTimesBeforeAllIDs(t *testing.T) {
	t.Parallel()
	require.Equal(t, postrider.IDFloor("evt", time.UnixMilli(0)), postrider.IDFloor("evt", time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)))
}

func TestIDTimeRefusesWhatIsNoID(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "evt_", "evt_12", "evt", "0123456789abcdef0123456789abcdef", "evt_zz23456789abcdef0123456789abcdef"} {
		_, err := postrider.IDTime(bad)
		require.Equal(t, postrider.CodeInvalid, postrider.CodeOf(err), bad)
	}
}
