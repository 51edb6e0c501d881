package api

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"postrider.dev/postrider"
)

// requestLimits are the limits of requests a second, one for each API key. A key that has rested
// may make a second's requests at once. It is safe for concurrent use.
type requestLimits struct {
	perSecond int // 0 sets no limit

	mu       sync.Mutex
	limiters map[string]*rate.Limiter // by the key's id; of keys that made requests lately
	room     int                      // as many limiters as this, and rested ones are looked for
}

// take counts a request of the key. Returns [postrider.CodeLimited] if it is one too many.
func (l *requestLimits) take(keyID string, now time.Time) error {
	if l.perSecond == 0 {
		return nil
	}
	request := l.of(keyID, now).ReserveN(now, 1)
	wait := request.DelayFrom(now)
	if wait == 0 {
		return nil
	}
	request.CancelAt(now) // who is refused uses up nothing
	return &postrider.Error{
		Code: postrider.CodeLimited, RetryAfter: wait,
		Message: fmt.Sprintf("this API key makes more than %d requests a second, which is its limit", l.perSecond),
	}
}

// of returns the limiter of the key.
func (l *requestLimits) of(keyID string, now time.Time) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	limiter, found := l.limiters[keyID]
	if !found {
		if len(l.limiters) >= l.room {
			l.forget(now)
		}
		limiter = rate.NewLimiter(rate.Limit(l.perSecond), l.perSecond)
		l.limiters[keyID] = limiter
	}
	return limiter
}

// forget drops the limiters of keys that have rested: a new one lets through just as much. So there
// are about twice as many as keys that made a request within a second, or [maxKeys].
func (l *requestLimits) forget(now time.Time) {
	for id, limiter := range l.limiters {
		if limiter.TokensAt(now) >= float64(l.perSecond) {
			delete(l.limiters, id)
		}
	}
	l.room = max(maxKeys, 2*len(l.limiters))
}
