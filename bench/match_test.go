package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// twoEvents are two published events and the requests of two webhooks that got both.
func twoEvents() ([]publishedEvent, []receivedRequest) {
	began := time.Unix(1_700_000_000, 0)
	published := []publishedEvent{{event: "evt_1", sent: began.Add(time.Second)}, {event: "evt_2", sent: began}}
	var received []receivedRequest
	for i, delivery := range []struct{ event, id string }{{"evt_1", "dlv_1"}, {"evt_1", "dlv_2"}, {"evt_2", "dlv_3"}, {"evt_2", "dlv_4"}} {
		at := began.Add(time.Duration(i+2) * time.Second)
		received = append(received, receivedRequest{event: delivery.event, delivery: delivery.id, at: at})
	}
	return published, received
}

func TestMatch(t *testing.T) {
	t.Parallel()
	published, received := twoEvents()
	received = append(received, received[3]) // a duplicate changes no other number
	v, err := match(published, received, 2)
	require.NoError(t, err)
	require.Equal(t, 1, v.duplicates)
	require.Equal(t, []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 5 * time.Second}, v.latencies)
	m := v.metrics(v.first)
	require.InDelta(t, 4.0/5, m[deliveriesPerS], 0)
	require.InDelta(t, 2000, m[p50], 0)
	require.InDelta(t, 5000, m[p99], 0)
}

func TestMatchRefusesWrongRequests(t *testing.T) {
	t.Parallel()
	for problem, spoil := range map[string]func([]publishedEvent, []receivedRequest) ([]publishedEvent, []receivedRequest){
		"received by 1 of 2":         func(s []publishedEvent, r []receivedRequest) ([]publishedEvent, []receivedRequest) { return s, r[:3] },
		"received and not published": func(s []publishedEvent, r []receivedRequest) ([]publishedEvent, []receivedRequest) { return s[:1], r },
		"only 2 ids": func(s []publishedEvent, r []receivedRequest) ([]publishedEvent, []receivedRequest) {
			return append(s, s[0]), r
		},
		"wrong signature": func(s []publishedEvent, r []receivedRequest) ([]publishedEvent, []receivedRequest) {
			r[1].unsigned = true
			return s, r
		},
	} {
		published, received := twoEvents()
		published, received = spoil(published, received)
		_, err := match(published, received, 2)
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
