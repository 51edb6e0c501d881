package postrider_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
)

// FuzzEventPattern subscribes to any pattern and publishes any type. A webhook gets what the words of
// its pattern say, found the other way round: by the patterns of the type.
func FuzzEventPattern(f *testing.F) {
	for _, seed := range [][2]string{
		{"*", "call.ended"},
		{"call.*", "call.leg.ended"},
		{"call.*", "call"},
		{"call.*", "caller.ended"},
		{"call.ended", "call.ended"},
		{"call.leg.*", "call.legs"},
		{"*.ended", "call.ended"},
		{"call*", "call"},
		{"", ""},
		{"a..b", "a..b"},
		{"\u0430", "\u0430"},
		{"a\n", "a"},
		{"*", "postrider.delivery.failed"},
		{"postrider.*", "postrider.delivery.failed"},
		{strings.Repeat("a", 127) + ".*", strings.Repeat("a", 128)},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, pattern, eventType string) {
		patterns := postrider.PatternsFor(eventType)
		w := validWebhook()
		w.Events = []string{pattern}
		if len(w.Validate(methods())) > 0 || !postrider.ValidEventType(eventType) {
			return
		}
		require.Equal(t, matches(pattern, eventType), slices.Contains(patterns, pattern), "%q of %q", pattern, eventType)
		w.Events = patterns
		require.Empty(t, w.Validate(methods()), "each pattern of a type is a subscription")
	})
}

// matches says what a pattern means.
func matches(pattern, eventType string) bool {
	if pattern == "*" && strings.HasPrefix(eventType, "postrider.") {
		return false
	}
	wanted, given := strings.Split(pattern, "."), strings.Split(eventType, ".")
	if last := len(wanted) - 1; wanted[last] == "*" {
		return len(given) > last && slices.Equal(wanted[:last], given[:last])
	}
	return slices.Equal(wanted, given)
}

// FuzzJudge judges any attempt under any policy. A wait is never shorter than what the receiver asked
// for, up to one hour, and never longer than that hour; and retries come to an end.
func FuzzJudge(f *testing.F) {
	f.Add(5000, 3, 1000, 1, 503, int64(120), 0.5)
	f.Add(1000, 10, 3600000, 10, 500, int64(0), 1.0)
	f.Add(1000, 0, 100, 1, 410, int64(7200), 0.0)
	f.Add(30000, 10, 100, 1<<62, 200, int64(-1), 0.999)
	f.Fuzz(func(t *testing.T, timeoutMS, maxRetries, backoffMS, number, status int, retryAfterSeconds int64, random float64) {
		w := validWebhook()
		w.Policy = postrider.Policy{TimeoutMS: timeoutMS, MaxRetries: maxRetries, BackoffMS: backoffMS}
		if len(w.Validate(methods())) > 0 || number < 1 || !(random >= 0 && random <= 1) {
			return
		}
		retryAfter := time.Duration(min(max(retryAfterSeconds, 0), 3600)) * time.Second // as egress reads it
		attempt := postrider.Attempt{Number: number, StatusCode: &status, Result: postrider.ResultServerError}
		verdict := w.Judge(attempt, retryAfter, random)
		require.Equal(t, status == 410, verdict.Gone)
		require.Equal(t, status == 410 || number > maxRetries, verdict.State == postrider.StateFailed)
		if verdict.State == postrider.StateFailed {
			require.Zero(t, verdict.Wait)
			return
		}
		require.Equal(t, postrider.StateRetrying, verdict.State)
		require.GreaterOrEqual(t, verdict.Wait, retryAfter)
		require.LessOrEqual(t, verdict.Wait, postrider.MaxBackoff)
		backoff := w.Backoff(number)
		if number > 1 {
			require.GreaterOrEqual(t, backoff, w.Backoff(number-1))
		}
		low, high := time.Duration(float64(backoff)*(1-postrider.Jitter)), time.Duration(float64(backoff)*(1+postrider.Jitter))
		require.GreaterOrEqual(t, verdict.Wait, min(low, postrider.MaxBackoff)-1)
		require.LessOrEqual(t, verdict.Wait, max(high, retryAfter)+1)
	})
}
