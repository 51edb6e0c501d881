package main

import (
	"fmt"
	"slices"
	"time"
)

// verdict is what came of the events of a run.
type verdict struct {
	deliveries  int
	duplicates  int
	first, last time.Time                // first publish, last receipt
	firstCame   time.Time                // first receipt
	latencies   []time.Duration          // from publish to receipt, sorted
	taken       map[string]time.Duration // of the CPU, by process, when all was recorded
}

// judge matches what was published with what was received. It returns an error
// unless every event was received by each of its fan webhooks, with right
// signatures where they were checked.
func judge(shots []shot, receipts []receipt, fan int) (verdict, error) {
	sent := make(map[string]time.Time, len(shots))
	v := verdict{deliveries: len(shots) * fan}
	for _, s := range shots {
		sent[s.event] = s.sent
		if v.first.IsZero() || s.sent.Before(v.first) {
			v.first = s.sent
		}
	}
	if len(sent) != len(shots) {
		return v, fmt.Errorf("%d events were published and got only %d ids", len(shots), len(sent))
	}
	came := make(map[string]int, len(sent))
	seen := make(map[string]bool, v.deliveries)
	for _, r := range receipts {
		at, known := sent[r.event]
		switch {
		case r.unsigned:
			return v, fmt.Errorf("%s came with a wrong signature", r.event)
		case !known:
			return v, fmt.Errorf("%s was received and not published", r.event)
		case seen[r.delivery]:
			v.duplicates++
			continue
		}
		seen[r.delivery] = true
		came[r.event]++
		v.latencies = append(v.latencies, r.at.Sub(at))
		if r.at.After(v.last) {
			v.last = r.at
		}
		if v.firstCame.IsZero() || r.at.Before(v.firstCame) {
			v.firstCame = r.at
		}
	}
	for id := range sent {
		if came[id] != fan {
			return v, fmt.Errorf("%s was received by %d of %d webhooks", id, came[id], fan)
		}
	}
	slices.Sort(v.latencies)
	return v, nil
}

// metrics are the verdict's numbers; began is where its time starts.
func (v verdict) metrics(began time.Time) metrics {
	return metrics{
		deliveries:     float64(v.deliveries),
		duplicates:     float64(v.duplicates),
		deliveriesPerS: float64(v.deliveries) / v.last.Sub(began).Seconds(),
		p50:            milliseconds(percentile(v.latencies, 50)),
		p99:            milliseconds(percentile(v.latencies, 99)),
	}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
