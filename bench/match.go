package main

import (
	"fmt"
	"slices"
	"time"
)

// matched is the published events of a run beside the requests that the receiver got.
type matched struct {
	deliveries  int
	duplicates  int
	first, last time.Time                // the first publish and the last request
	firstCame   time.Time                // the first request
	latencies   []time.Duration          // from publish to request, sorted
	cpuTimes    map[string]time.Duration // by process, when the last delivery was recorded
}

// match compares published events with received requests. It returns an error unless each of
// the fanOut webhooks received every event, and every signature that was checked was right.
func match(published []publishedEvent, received []receivedRequest, fanOut int) (matched, error) {
	sent := make(map[string]time.Time, len(published))
	m := matched{deliveries: len(published) * fanOut}
	for _, s := range published {
		sent[s.event] = s.sent
		if m.first.IsZero() || s.sent.Before(m.first) {
			m.first = s.sent
		}
	}
	if len(sent) != len(published) {
		return m, fmt.Errorf("%d events were published and got only %d ids", len(published), len(sent))
	}
	came := make(map[string]int, len(sent))
	seen := make(map[string]bool, m.deliveries)
	for _, r := range received {
		at, known := sent[r.event]
		switch {
		case r.unsigned:
			return m, fmt.Errorf("%s came with a wrong signature", r.event)
		case !known:
			return m, fmt.Errorf("%s was received and not published", r.event)
		case seen[r.delivery]:
			m.duplicates++
			continue
		}
		seen[r.delivery] = true
		came[r.event]++
		m.latencies = append(m.latencies, r.at.Sub(at))
		if r.at.After(m.last) {
			m.last = r.at
		}
		if m.firstCame.IsZero() || r.at.Before(m.firstCame) {
			m.firstCame = r.at
		}
	}
	for id := range sent {
		if came[id] != fanOut {
			return m, fmt.Errorf("%s was received by %d of %d webhooks", id, came[id], fanOut)
		}
	}
	slices.Sort(m.latencies)
	return m, nil
}

// metrics returns counts, rate and latencies. The rate is counted from began.
func (m matched) metrics(began time.Time) metrics {
	return metrics{
		deliveries:     float64(m.deliveries),
		duplicates:     float64(m.duplicates),
		deliveriesPerS: float64(m.deliveries) / m.last.Sub(began).Seconds(),
		p50:            milliseconds(percentile(m.latencies, 50)),
		p99:            milliseconds(percentile(m.latencies, 99)),
	}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
