package e2e

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"

	"postrider.dev/postrider/standalone/instance"
	"postrider.dev/postrider/store/pgtest"
)

// moody is a receiver that refuses everything until it is told to accept, and counts requests.
type moody struct {
	*httptest.Server
	accepts  atomic.Bool
	requests atomic.Int64
}

func newMoody(t *testing.T) *moody {
	t.Helper()
	m := &moody{}
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		m.requests.Add(1)
		if !m.accepts.Load() {
			w.WriteHeader(http.StatusBadGateway)
		}
	}))
	t.Cleanup(m.Close)
	return m
}

// action is what the history tells of an operator's action.
type action struct{ Action, Actor, Detail string }

// actions returns the actions in a delivery's history.
func actions(t *testing.T, i *instance.Client, id string) []action {
	t.Helper()
	var history struct{ Actions []action }
	require.NoError(t, i.Call(t.Context(), http.MethodGet, "/api/v1/deliveries/"+id+"/history", nil, &history))
	return history.Actions
}

// act makes an action on a delivery, and returns the answer.
func act(t *testing.T, i *instance.Client, id, what string) instance.Delivery {
	t.Helper()
	var d instance.Delivery
	require.NoError(t, i.Call(t.Context(), http.MethodPost, "/api/v1/deliveries/"+id+"/"+what, nil, &d))
	return d
}

// inBackoff returns a delivery whose attempts have all failed and whose next is due in an hour.
func inBackoff(t *testing.T, i *instance.Client, url, topic string, attempts int) string {
	t.Helper()
	fields := map[string]any{"events": []string{topic}, "backoff_ms": 3600000}
	if attempts > 1 {
		fields["backoff_ms"] = 1800000
	}
	w := webhook(t, i, url, fields)
	publish(t, i, topic, nil)
	id := only(t, i, w.ID).ID
	for n := 1; n < attempts; n++ {
		waitFor(t, i, id, "retrying", n)
		act(t, i, id, "retry")
	}
	waitFor(t, i, id, "retrying", attempts)
	return id
}

// waitFor waits until a delivery is in the state after so many attempts, and returns it.
func waitFor(t *testing.T, i *instance.Client, id, state string, attempts int) instance.Delivery {
	t.Helper()
	var d instance.Delivery
	require.Eventually(t, func() bool {
		var err error
		d, err = i.Delivery(t.Context(), id)
		return err == nil && d.State == state && d.AttemptCount == attempts
	}, patience, tick, "%s %d", state, attempts)
	return d
}

// TestActions tests what operators can do to a delivery under way, on both databases, and with
// deliveries that share workflows and that do not.
func TestActions(t *testing.T) {
	t.Parallel()
	server, err := pgtest.Start(t.Context())
	require.NoError(t, err)
	t.Cleanup(server.Stop)
	for name, env := range map[string][]string{
		"SQLite":     {"POSTRIDER_BATCHING=never"},
		"PostgreSQL": {"POSTRIDER_BATCHING=always", "POSTRIDER_DATABASE_URL=" + server.EmptyDatabase(t)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			i := startWith(t, dir, env)
			for name, try := range map[string]func(*testing.T, *instance.Instance){
				"a retry comes within a second, once":        testRetryNow,
				"a retry of a finished delivery is another":  testRetryFinished,
				"a paused delivery is sent when it resumes":  testPauseDelivery,
				"max_retries changes when it gives up":       testPatchDelivery,
				"a workflow ends that carries nothing":       testCarrierEnds,
				"a cancelled delivery makes no more attempt": testCancelDelivery,
				"many are acted on and listed":               testActOnMany,
			} {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					try(t, i)
				})
			}
		})
	}
}

func testRetryNow(t *testing.T, i *instance.Instance) {
	t.Helper()
	receiver := newMoody(t)
	id := inBackoff(t, &i.Client, receiver.URL, topic(t), 1)
	receiver.accepts.Store(true)
	began := time.Now()
	var calls sync.WaitGroup
	for range 200 {
		calls.Go(func() {
			if err := i.Call(t.Context(), http.MethodPost, "/api/v1/deliveries/"+id+"/retry", nil, nil); err != nil {
				t.Errorf("retry: %v", err)
			}
		})
	}
	calls.Wait()
	d := waitFor(t, &i.Client, id, "succeeded", 2)
	second, err := time.Parse(time.RFC3339Nano, d.Attempts[1].StartedAt)
	require.NoError(t, err)
	t.Logf("the attempt began %v after the first of 200 calls", second.Sub(began))
	require.EqualValues(t, 2, receiver.requests.Load(), "200 calls are one attempt")
	told := actions(t, &i.Client, id)
	require.NotEmpty(t, told)
	require.Equal(t, "attempt 2 is made now", told[0].Detail)
	require.Regexp(t, "^key_", told[0].Actor)

	id = inBackoff(t, &i.Client, receiver.refusing(t), topic(t)+".one", 1)
	began = time.Now()
	act(t, &i.Client, id, "retry")
	d = waitFor(t, &i.Client, id, "retrying", 2)
	second, err = time.Parse(time.RFC3339Nano, d.Attempts[1].StartedAt)
	require.NoError(t, err)
	require.Less(t, second.Sub(began), time.Second)
}

// refusing is another receiver, which refuses all.
func (m *moody) refusing(t *testing.T) string {
	t.Helper()
	return newMoody(t).URL
}

func testRetryFinished(t *testing.T, i *instance.Instance) {
	t.Helper()
	receiver := newMoody(t)
	receiver.accepts.Store(true)
	w := webhook(t, i, receiver.URL, map[string]any{"events": []string{topic(t)}})
	publish(t, i, topic(t), nil)
	first := finished(t, i, w.ID)
	again := act(t, &i.Client, first.ID, "retry")
	require.NotEqual(t, first.ID, again.ID)
	require.Equal(t, &first.ID, again.ReplayOf)
	require.Equal(t, first.EventID, again.EventID)
	waitFor(t, &i.Client, again.ID, "succeeded", 1)
	require.EqualValues(t, 2, receiver.requests.Load())
}

func testPauseDelivery(t *testing.T, i *instance.Instance) {
	t.Helper()
	receiver := newMoody(t)
	w := webhook(t, i, receiver.URL, map[string]any{"events": []string{topic(t)}, "backoff_ms": 3000})
	publish(t, i, topic(t), nil)
	id := only(t, i, w.ID).ID
	due := waitFor(t, &i.Client, id, "retrying", 1).NextAttemptAt
	require.NotNil(t, due)
	require.Equal(t, "parked", act(t, &i.Client, id, "pause").State)
	receiver.accepts.Store(true)
	require.Eventually(t, func() bool { // its time passes
		at, err := time.Parse(time.RFC3339Nano, *due)
		return err == nil && time.Since(at) > 2*time.Second
	}, patience, tick)
	require.EqualValues(t, 1, receiver.requests.Load(), "nothing is sent")
	require.Equal(t, "retrying", act(t, &i.Client, id, "resume").State)
	waitFor(t, &i.Client, id, "succeeded", 2)
	told := actions(t, &i.Client, id)
	require.Len(t, told, 2)
	require.Equal(t, []string{"pause", "resume"}, []string{told[0].Action, told[1].Action})
}

func testPatchDelivery(t *testing.T, i *instance.Instance) {
	t.Helper()
	patch := func(id string, fields map[string]any) instance.Delivery {
		t.Helper()
		var d instance.Delivery
		require.NoError(t, i.Call(t.Context(), http.MethodPatch, "/api/v1/deliveries/"+id, fields, &d))
		return d
	}
	url := newMoody(t).URL
	id := inBackoff(t, &i.Client, url, topic(t)+".fewer", 1)
	patch(id, map[string]any{"max_retries": 1})
	act(t, &i.Client, id, "retry")
	waitFor(t, &i.Client, id, "failed", 2)

	id = inBackoff(t, &i.Client, url, topic(t)+".more", 3)
	patch(id, map[string]any{"max_retries": 4, "backoff_ms": 100})
	act(t, &i.Client, id, "retry") // the fourth attempt would have been the last; a fifth follows soon
	waitFor(t, &i.Client, id, "failed", 5)

	id = inBackoff(t, &i.Client, url, topic(t)+".none", 1)
	require.Equal(t, "failed", patch(id, map[string]any{"max_retries": 0}).State)
}

// The workflow that waited for an hour ends when its delivery is taken from it, in its timer and in
// the backoff of its activity.
func testCarrierEnds(t *testing.T, i *instance.Instance) {
	t.Helper()
	c := temporal(t, i)
	url := newMoody(t).URL
	for _, attempts := range []int{1, 2} {
		id := inBackoff(t, &i.Client, url, topic(t)+[]string{"", ".timer", ".backoff"}[attempts], attempts)
		var carrier string
		require.Eventually(t, func() bool { // by now
			d, err := i.Delivery(t.Context(), id)
			if err != nil || d.WorkflowID == nil {
				return false
			}
			carrier = *d.WorkflowID
			return !strings.HasPrefix(carrier, "batch/") && statusOf(t, c, carrier) == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING
		}, patience, tick)
		act(t, &i.Client, id, "pause")
		require.Eventually(t, func() bool {
			return statusOf(t, c, carrier) == enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED
		}, patience, tick)
		replay(t, c, carrier, []string{"", "acted_v2_timer", "acted_v2_backoff"}[attempts])
	}
}

func testCancelDelivery(t *testing.T, i *instance.Instance) {
	t.Helper()
	receiver := newMoody(t)
	id := inBackoff(t, &i.Client, receiver.URL, topic(t), 1)
	require.Equal(t, "cancelled", act(t, &i.Client, id, "cancel").State)
	err := i.Call(t.Context(), http.MethodPost, "/api/v1/deliveries/"+id+"/pause", nil, nil)
	require.ErrorContains(t, err, "409")
	require.ErrorContains(t, err, "the delivery is cancelled")
	require.EqualValues(t, 1, receiver.requests.Load())
}

func testActOnMany(t *testing.T, i *instance.Instance) {
	t.Helper()
	url := newMoody(t).URL
	ids := []string{inBackoff(t, &i.Client, url, topic(t)+".a", 1), inBackoff(t, &i.Client, url, topic(t)+".b", 1), "dlv_unknown"}
	var answer struct {
		Data []struct {
			ID     string
			Status int
			State  *string
		}
	}
	body := map[string]any{"action": "cancel", "ids": ids}
	require.NoError(t, i.Call(t.Context(), http.MethodPost, "/api/v1/deliveries/actions", body, &answer))
	require.Len(t, answer.Data, 3)
	for n, status := range []int{http.StatusAccepted, http.StatusAccepted, http.StatusNotFound} {
		require.Equal(t, ids[n], answer.Data[n].ID)
		require.Equal(t, status, answer.Data[n].Status)
	}
	var list struct{ Data []instance.Delivery }
	query := "?state=cancelled,failed&result=server_error&status_code=502&event_type=" + topic(t) + ".b"
	require.NoError(t, i.Call(t.Context(), http.MethodGet, "/api/v1/deliveries"+query, nil, &list))
	require.Len(t, list.Data, 1)
	require.Equal(t, ids[1], list.Data[0].ID)
}

// TestActionsWhileAllIsAway guards that an action is durable: it has its effect although worker, API and
// Temporal stop between the call and the effect.
func TestActionsWhileAllIsAway(t *testing.T) {
	t.Parallel()
	l := newLayout(t)
	api, worker := l.run(t, "api"), l.run(t, "worker")
	receiver := newMoody(t)
	retried := inBackoff(t, &l.Client, receiver.URL, "away.retried", 1)
	held := inBackoff(t, &l.Client, receiver.URL, "away.paused", 1)
	fewer := inBackoff(t, &l.Client, receiver.URL, "away.fewer", 1)
	require.NoError(t, worker.Kill())
	require.NoError(t, l.temporal.Kill())
	act(t, &l.Client, retried, "retry")
	act(t, &l.Client, held, "pause")
	require.NoError(t, l.Call(t.Context(), http.MethodPatch, "/api/v1/deliveries/"+fewer, map[string]any{"max_retries": 1}, nil))
	act(t, &l.Client, fewer, "retry")
	require.NoError(t, api.Kill())
	require.EqualValues(t, 3, receiver.requests.Load())

	l.startTemporal(t)
	l.run(t, "worker")
	again := l.run(t, "api")
	l.API = again.API
	waitFor(t, &l.Client, retried, "retrying", 2)
	waitFor(t, &l.Client, fewer, "failed", 2)
	require.Equal(t, 1, waitFor(t, &l.Client, held, "parked", 1).AttemptCount)
	receiver.accepts.Store(true)
	act(t, &l.Client, held, "resume")
	waitFor(t, &l.Client, held, "succeeded", 2)
	require.EqualValues(t, 6, receiver.requests.Load())
	require.Equal(t, "retry", actions(t, &l.Client, retried)[0].Action)
}
