package postrider_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"postrider.dev/postrider"
)

func attempt(number, status int, result postrider.Result) postrider.Attempt {
	a := postrider.Attempt{Number: number, Result: result}
	if status != 0 {
		a.StatusCode = &status
	}
	return a
}

func TestJudge(t *testing.T) {
	t.Parallel()
	policy := postrider.Policy{TimeoutMS: 5000, MaxRetries: 3, BackoffMS: 1000}
	const middle = 0.5 // no jitter
	retryAfter := func(wait time.Duration) postrider.Verdict {
		return postrider.Verdict{State: postrider.StateRetrying, Wait: wait}
	}
	succeeded, failed := postrider.Verdict{State: postrider.StateSucceeded}, postrider.Verdict{State: postrider.StateFailed}
	gone := postrider.Verdict{State: postrider.StateFailed, Gone: true}
	for name, c := range map[string]struct {
		attempt    postrider.Attempt
		retryAfter time.Duration
		random     float64
		want       postrider.Verdict
	}{
		"2xx":                          {attempt(1, 204, postrider.ResultSuccess), 0, middle, succeeded},
		"first failure":                {attempt(1, 500, postrider.ResultServerError), 0, middle, retryAfter(time.Second)},
		"the wait doubles":             {attempt(3, 500, postrider.ResultServerError), 0, middle, retryAfter(4 * time.Second)},
		"redirect is a failure":        {attempt(1, 301, postrider.ResultRedirect), 0, middle, retryAfter(time.Second)},
		"blocked is retried":           {attempt(1, 0, postrider.ResultBlocked), 0, middle, retryAfter(time.Second)},
		"retries used up":              {attempt(4, 500, postrider.ResultServerError), 0, middle, failed},
		"410 at once":                  {attempt(1, 410, postrider.ResultClientError), 0, middle, gone},
		"called off":                   {attempt(1, 0, postrider.ResultCancelled), 0, middle, failed},
		"Retry-After is a least wait":  {attempt(1, 429, postrider.ResultClientError), 7 * time.Second, middle, retryAfter(7 * time.Second)},
		"Retry-After shortens nothing": {attempt(3, 503, postrider.ResultServerError), time.Second, middle, retryAfter(4 * time.Second)},
		"Retry-After is capped":        {attempt(1, 429, postrider.ResultClientError), 48 * time.Hour, middle, retryAfter(time.Hour)},
		"least jitter":                 {attempt(1, 500, postrider.ResultServerError), 0, 0, retryAfter(800 * time.Millisecond)},
		"most jitter":                  {attempt(1, 500, postrider.ResultServerError), 0, 1, retryAfter(1200 * time.Millisecond)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, policy.Judge(c.attempt, c.retryAfter, c.random))
		})
	}
}

func TestBackoffDoublesUpToAnHour(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		policy := postrider.Policy{BackoffMS: rapid.IntRange(postrider.MinBackoffMS, postrider.MaxBackoffMS).Draw(t, "backoff_ms")}
		number := rapid.IntRange(1, postrider.MaxMaxRetries).Draw(t, "number")
		this, next := policy.Backoff(number), policy.Backoff(number+1)
		require.Equal(t, min(2*this, postrider.MaxBackoff), next)
	})
}
