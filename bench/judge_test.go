package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// flight is two events that two webhooks got, as it should be.
func flight() ([]shot, []receipt) {
	began := time.Unix(1_700_000_000, 0)
	shots := []shot{{event: "evt_1", sent: began.Add(time.Second)}, {event: "evt_2", sent: began}}
	var receipts []receipt
	for i, delivery := range []struct{ event, id string }{{"evt_1", "dlv_1"}, {"evt_1", "dlv_2"}, {"evt_2", "dlv_3"}, {"evt_2", "dlv_4"}} {
		receipts = append(receipts, receipt{event: delivery.event, delivery: delivery.id, at: began.Add(time.Duration(i+2) * time.Second)})
	}
	return shots, receipts
}

func TestJudge(t *testing.T) {
	t.Parallel()
	shots, receipts := flight()
	receipts = append(receipts, receipts[3]) // a second copy counts for nothing else
	v, err := judge(shots, receipts, 2)
	require.NoError(t, err)
	require.Equal(t, 1, v.duplicates)
	require.Equal(t, []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 5 * time.Second}, v.latencies)
	m := v.metrics(v.first)
	require.InDelta(t, 4.0/5, m[deliveriesPerS], 0)
	require.InDelta(t, 2000, m[p50], 0)
	require.InDelta(t, 5000, m[p99], 0)
}

func TestJudgeFailsLoudly(t *testing.T) {
	t.Parallel()
	for problem, spoil := range map[string]func([]shot, []receipt) ([]shot, []receipt){
		"received by 1 of 2":         func(s []shot, r []receipt) ([]shot, []receipt) { return s, r[:3] },
		"received and not published": func(s []shot, r []receipt) ([]shot, []receipt) { return s[:1], r },
		"only 2 ids":                 func(s []shot, r []receipt) ([]shot, []receipt) { return append(s, s[0]), r },
		"wrong signature":            func(s []shot, r []receipt) ([]shot, []receipt) { r[1].unsigned = true; return s, r },
	} {
		shots, receipts := flight()
		shots, receipts = spoil(shots, receipts)
		_, err := judge(shots, receipts, 2)
		require.ErrorContains(t, err, problem)
	}
}

func TestPercentile(t *testing.T) {
	t.Parallel()
	values := []int{1, 2, 3, 4}
	require.Equal(t, 2, percentile(values, 50))
	require.Equal(t, 4, percentile(values, 99))
	require.Equal(t, 1, percentile(values, 0))
}
