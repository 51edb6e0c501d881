package worker

import (
	"math"
	"time"
)

// rate is how many deliveries a second were claimed lately. It decays exponentially, by a
// factor of e each second.
type rate struct {
	value float64
	at    time.Time
}

// add counts deliveries that were claimed now, and returns the rate.
func (r *rate) add(claimed int, now time.Time) float64 {
	r.value = r.value*math.Exp(-max(now.Sub(r.at), 0).Seconds()) + float64(claimed)
	r.at = now
	return r.value
}
