package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// failingEvents are two events that were tried four times each, as the policy says, and a
// request of another run.
func failingEvents() ([]publishedEvent, []receivedRequest) {
	began := time.Unix(1_700_000_000, 0)
	published := []publishedEvent{{event: "evt_1", sent: began.Add(time.Second)}, {event: "evt_2", sent: began}}
	received := []receivedRequest{{event: "evt_3", delivery: "dlv_3", at: began.Add(time.Hour)}}
	for _, after := range []time.Duration{9, 4, 2, 1} { // the waits, latest first: 1, 2 and 5 s
		received = append(received,
			receivedRequest{event: "evt_1", delivery: "dlv_1", refused: true, at: began.Add(after * time.Second)},
			receivedRequest{event: "evt_2", delivery: "dlv_2", refused: true, at: began.Add((after + 1) * time.Second)})
	}
	return published, received
}

func TestMatchFailing(t *testing.T) {
	t.Parallel()
	published, received := failingEvents()
	f, err := matchFailing(published, received, stormPolicy())
	require.NoError(t, err)
	require.Equal(t, 8, f.attempts)
	require.Equal(t, 10*time.Second, f.last.Sub(f.first))
	require.Equal(t, []float64{1, 1, 1, 1, 1.25, 1.25}, f.gaps)
	require.Len(t, accepted(received), 1)
}

func TestMatchFailingRefusesWrongAttempts(t *testing.T) {
	t.Parallel()
	for problem, spoil := range map[string]func([]publishedEvent, []receivedRequest) ([]publishedEvent, []receivedRequest){
		"tried 3 times instead of 4": func(s []publishedEvent, r []receivedRequest) ([]publishedEvent, []receivedRequest) { return s, r[:8] },
		"tried 5 times instead of 4": func(s []publishedEvent, r []receivedRequest) ([]publishedEvent, []receivedRequest) {
			return s, append(r, r[1])
		},
		"received and not published": func(s []publishedEvent, r []receivedRequest) ([]publishedEvent, []receivedRequest) { return s[:1], r },
		"only 2 ids": func(s []publishedEvent, r []receivedRequest) ([]publishedEvent, []receivedRequest) {
			return append(s, s[0]), r
		},
		"has two deliveries": func(s []publishedEvent, r []receivedRequest) ([]publishedEvent, []receivedRequest) {
			r[3].delivery = "dlv_4"
			return s, r
		},
		"wrong signature": func(s []publishedEvent, r []receivedRequest) ([]publishedEvent, []receivedRequest) {
			r[1].unsigned = true
			return s, r
		},
	} {
		published, received := failingEvents()
		published, received = spoil(published, received)
		_, err := matchFailing(published, received, stormPolicy())
		require.ErrorContains(t, err, problem)
	}
}

func TestHangingTimeoutIsOneThatAWebhookCanHave(t *testing.T) {
	t.Parallel()
	for scale, want := range map[float64]time.Duration{0.01: time.Second, 0.1: 3 * time.Second, 1: 30 * time.Second, 10: 30 * time.Second} {
		require.Equal(t, want, (&bench{runCommand: &runCommand{Scale: scale}}).hangingTimeout())
	}
}
