package activities_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/egress"
)

// partition answers for hosts that can be reached, with an error of the receiver's.
type partition struct{ now func() time.Time }

// Post implements [activities.Poster].
func (p partition) Post(_ context.Context, request egress.Request) (postrider.Attempt, time.Duration, error) {
	reason, teapot := "it fails", http.StatusTeapot
	made := postrider.Attempt{StartedAt: postrider.Timestamp(p.now()), Result: postrider.ResultConnect, Error: &reason}
	if strings.HasPrefix(request.URL, "http://well") {
		made.Result, made.StatusCode = postrider.ResultClientError, &teapot
	}
	return made, 0, nil
}

// Guards receivers from being blamed, and their webhooks from being disabled, when this machine's own
// network is down.
func TestFailuresOfAllAreNobodys(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.acts.Poster = partition{b.now}
	failures := func(host string) int {
		b.watched.change = func(target *postrider.Target) { target.URL = "http://" + host + "/hook" }
		b.deliver(b.publish())
		w, err := b.db.Webhook(t.Context(), "ws_1", b.webhook.ID)
		require.NoError(t, err)
		return w.Health.ConsecutiveFailures
	}
	require.Equal(t, 1, failures("well"), "an answer, if no success")
	for i, host := range []string{"a", "b", "c"} {
		require.Equal(t, 2+i, failures(host), "somebody has answered just now")
	}
	b.advance(9 * time.Second)
	require.Equal(t, 5, failures("a"), "one receiver alone")
	require.Equal(t, 6, failures("b"))
	require.Equal(t, 6, failures("c"), "three fail, and none answers")
	require.Equal(t, 6, failures("a"))
	require.Equal(t, 7, failures("well"))
	require.Equal(t, 8, failures("a"), "the network is there")
}
