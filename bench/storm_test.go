package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// tempest is two events that were tried four times each, as it should be, and one that
// is somebody else's.
func tempest() ([]shot, []receipt) {
	began := time.Unix(1_700_000_000, 0)
	shots := []shot{{event: "evt_1", sent: began.Add(time.Second)}, {event: "evt_2", sent: began}}
	receipts := []receipt{{event: "evt_3", delivery: "dlv_3", at: began.Add(time.Hour)}}
	for _, after := range []time.Duration{9, 4, 2, 1} { // the waits, latest first: 1, 2 and 5 s
		receipts = append(receipts,
			receipt{event: "evt_1", delivery: "dlv_1", refused: true, at: began.Add(after * time.Second)},
			receipt{event: "evt_2", delivery: "dlv_2", refused: true, at: began.Add((after + 1) * time.Second)})
	}
	return shots, receipts
}

func TestJudgeFailing(t *testing.T) {
	t.Parallel()
	shots, receipts := tempest()
	f, err := judgeFailing(shots, receipts, stormPolicy())
	require.NoError(t, err)
	require.Equal(t, 8, f.attempts)
	require.Equal(t, 10*time.Second, f.last.Sub(f.first))
	require.Equal(t, []float64{1, 1, 1, 1, 1.25, 1.25}, f.gaps)
	require.Len(t, accepted(receipts), 1)
}

func TestJudgeFailingFailsLoudly(t *testing.T) {
	t.Parallel()
	for problem, spoil := range map[string]func([]shot, []receipt) ([]shot, []receipt){
		"tried 3 times, and 4 were":  func(s []shot, r []receipt) ([]shot, []receipt) { return s, r[:8] },
		"tried 5 times, and 4 were":  func(s []shot, r []receipt) ([]shot, []receipt) { return s, append(r, r[1]) },
		"received and not published": func(s []shot, r []receipt) ([]shot, []receipt) { return s[:1], r },
		"only 2 ids":                 func(s []shot, r []receipt) ([]shot, []receipt) { return append(s, s[0]), r },
		"has two deliveries":         func(s []shot, r []receipt) ([]shot, []receipt) { r[3].delivery = "dlv_4"; return s, r },
		"wrong signature":            func(s []shot, r []receipt) ([]shot, []receipt) { r[1].unsigned = true; return s, r },
	} {
		shots, receipts := tempest()
		shots, receipts = spoil(shots, receipts)
		_, err := judgeFailing(shots, receipts, stormPolicy())
		require.ErrorContains(t, err, problem)
	}
}

func TestHangingTimeoutIsOneThatAWebhookMayHave(t *testing.T) {
	t.Parallel()
	for scale, want := range map[float64]time.Duration{0.01: time.Second, 0.1: 3 * time.Second, 1: 30 * time.Second, 10: 30 * time.Second} {
		require.Equal(t, want, (&bench{runCommand: &runCommand{Scale: scale}}).hangingTimeout())
	}
}
