package postrider_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
)

func TestRetryScheduleIsAListInJSON(t *testing.T) {
	t.Parallel()
	p := postrider.Policy{TimeoutMS: 1, RetrySchedule: postrider.RetryScheduleOf(100, 86400000)}
	text, err := json.Marshal(p)
	require.NoError(t, err)
	require.JSONEq(t, `{"timeout_ms":1,"max_retries":0,"backoff_ms":0,"retry_schedule_ms":[100,86400000]}`, string(text))
	var read postrider.Policy
	require.NoError(t, json.Unmarshal(text, &read))
	require.Equal(t, p, read)
	text, err = json.Marshal(postrider.Policy{})
	require.NoError(t, err)
	require.NotContains(t, string(text), "retry_schedule_ms", "workflows without one keep the input that they had")
	require.NoError(t, json.Unmarshal([]byte(`{"retry_schedule_ms":null}`), &read))
	require.Empty(t, read.RetrySchedule)
}

// Guards the waits: exactly those of the list, beyond an hour too, with the jitter that every wait has.
func TestPolicyWaitsAsItsScheduleSays(t *testing.T) {
	t.Parallel()
	p := postrider.Policy{RetrySchedule: postrider.RetryScheduleOf(5000, 100, 86400000)}.Scheduled()
	require.Equal(t, 3, p.MaxRetries)
	require.Equal(t, 5000, p.BackoffMS)
	judge := func(number int, retryAfter time.Duration, random float64) postrider.Verdict {
		return p.Judge(postrider.Attempt{Number: number, Result: postrider.ResultServerError}, retryAfter, random)
	}
	for i, want := range []time.Duration{5 * time.Second, 100 * time.Millisecond, 24 * time.Hour} {
		require.Equal(t, want, judge(i+1, 0, 0.5).Wait)
		require.InEpsilon(t, 0.8*float64(want), float64(judge(i+1, 0, 0).Wait), 1e-9)
		require.InEpsilon(t, 1.2*float64(want), float64(judge(i+1, 0, 1).Wait), 1e-9)
	}
	require.Equal(t, time.Minute, judge(2, time.Minute, 0.5).Wait, "the receiver may ask for more")
	require.Equal(t, postrider.StateFailed, judge(4, 0, 0.5).State, "attempts are one more than waits")
	p.MaxRetries = 5 // by an operator's edit
	require.Equal(t, 24*time.Hour, judge(5, 0, 0.5).Wait, "the last wait goes on")
	one := 300
	edited := postrider.TermsEdit{BackoffMS: &one}.Apply(postrider.Terms{Policy: p})
	require.Equal(t, 300*time.Millisecond, edited.Backoff(1), "an edit of backoff_ms takes its place")
}
