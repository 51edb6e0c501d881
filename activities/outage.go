package activities

import (
	"net/url"
	"sync"
	"time"

	"postrider.dev/postrider"
)

// When this machine's network is down, every attempt fails as if its receiver were. So failures without
// an answer are nobody's while no receiver answers and several of them fail.
const (
	// outageWindow is for how long no receiver has answered. It is shorter than
	// [postrider.Breaker.Failing], so that no circuit opens before the outage is suspected.
	outageWindow = 8 * time.Second
	// outageHosts is at how many hosts attempts have failed meanwhile.
	outageHosts = 3
)

// outage suspects that this machine reaches no receiver. It is safe for concurrent use.
type outage struct {
	mu       sync.Mutex
	answered time.Time            // when a receiver answered, the latest
	failed   map[string]time.Time // since then, by host
}

// suspects notes how an attempt ended, and reports whether its failure may be this side's.
func (o *outage) suspects(address string, made postrider.Attempt, now time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch made.Result {
	case postrider.ResultConnect, postrider.ResultDNS, postrider.ResultTimeout:
	case postrider.ResultCancelled, postrider.ResultTransform, postrider.ResultBlocked: // no request was made
		return false
	default:
		o.answered = now
		clear(o.failed)
		return false
	}
	if o.failed == nil {
		o.failed = map[string]time.Time{}
	}
	for host, at := range o.failed {
		if now.Sub(at) > outageWindow {
			delete(o.failed, host)
		}
	}
	if len(o.failed) < outageHosts {
		o.failed[hostAndPort(address)] = now
	}
	return now.Sub(o.answered) > outageWindow && len(o.failed) >= outageHosts
}

// hostAndPort returns the host and port of a URL; the URL itself when it does not parse.
func hostAndPort(address string) string {
	parsed, err := url.Parse(address)
	if err != nil {
		return address
	}
	return parsed.Host
}
