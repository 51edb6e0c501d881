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
	"go.temporal.io/sdk/client"

	"postrider.dev/postrider"
	"postrider.dev/postrider/standalone/instance"
	"postrider.dev/postrider/store/pgtest"
)

// replayJob is a replay job as the API answers it.
type replayJob struct {
	ID         string `json:"id"`
	State      string `json:"state"`
	Matched    *int   `json:"matched"`
	Sent       int    `json:"sent"`
	Succeeded  int    `json:"succeeded"`
	Failed     int    `json:"failed"`
	WorkflowID string `json:"workflow_id"`
}

// tally is a receiver that refuses everything until it is told to accept, and then counts events.
type tally struct {
	*httptest.Server
	accepts atomic.Bool

	mu   sync.Mutex
	seen map[string]int
}

func newTally(t *testing.T) *tally {
	t.Helper()
	r := &tally{seen: map[string]int{}}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		if !r.accepts.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.seen[request.Header.Get("webhook-id")]++
	}))
	t.Cleanup(r.Close)
	return r
}

// counts returns the numbers of different events and of requests.
func (r *tally) counts() (events, requests int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.seen {
		requests += n
	}
	return len(r.seen), requests
}

// postReplay makes a request that changes a job, or creates one.
func postReplay(t *testing.T, i *instance.Client, path string, body any) (job replayJob) {
	t.Helper()
	require.NoError(t, i.Call(t.Context(), http.MethodPost, "/api/v1/"+path, body, &job))
	return job
}

// untilReplay waits until a job is as wanted, and returns it.
func untilReplay(t *testing.T, i *instance.Client, id string, wanted func(replayJob) bool) (job replayJob) {
	t.Helper()
	require.Eventually(t, func() bool {
		return i.Call(t.Context(), http.MethodGet, "/api/v1/replays/"+id, nil, &job) == nil && wanted(job)
	}, patience, tick)
	return job
}

// window is the body of a replay of all that was accepted in the last hour.
func window(states []string, more map[string]any) map[string]any {
	body := map[string]any{
		"since": time.Now().Add(-time.Hour).UTC().Format(time.RFC3339), "until": time.Now().Add(time.Hour).UTC().Format(time.RFC3339),
		"states": states,
	}
	for name, value := range more {
		body[name] = value
	}
	return body
}

// TestReplay guards that a replay sends each event once, though the process is killed while it is paused and while it
// goes on, on both databases.
func TestReplay(t *testing.T) {
	t.Parallel()
	server, err := pgtest.Start(t.Context())
	require.NoError(t, err)
	t.Cleanup(server.Stop)
	for name, env := range map[string][]string{
		"SQLite":     nil,
		"PostgreSQL": {"POSTRIDER_DATABASE_URL=" + server.EmptyDatabase(t)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			replayThroughKills(t, env)
		})
	}
}

const replayedEvents = 2000

// failAll publishes events to a webhook whose receiver refuses them.
func failAll(t *testing.T, i *instance.Client, webhookID string) {
	t.Helper()
	for n := 0; n < replayedEvents; n += postrider.MaxBatch {
		events := make([]map[string]any, postrider.MaxBatch)
		for j := range events {
			events[j] = map[string]any{"type": "replay.one", "data": n + j}
		}
		require.NoError(t, i.Call(t.Context(), http.MethodPost, "/api/v1/events/batch", map[string]any{"events": events}, nil))
	}
	require.Eventually(t, func() bool {
		var seen instance.Webhook
		err := i.Call(t.Context(), http.MethodGet, "/api/v1/webhooks/"+webhookID, nil, &seen)
		return err == nil && seen.Stats.TotalDeliveries == replayedEvents
	}, patience, 100*time.Millisecond)
}

func replayThroughKills(t *testing.T, env []string) {
	t.Helper()
	dir := t.TempDir()
	i := startWith(t, dir, env)
	receiver := newTally(t)
	w := webhook(t, i, receiver.URL, map[string]any{"max_retries": 0, "max_in_flight": 64})
	failAll(t, &i.Client, w.ID)
	receiver.accepts.Store(true)
	var counted struct{ Matched int }
	path := "/api/v1/webhooks/" + w.ID + "/replay"
	require.NoError(t, i.Call(t.Context(), http.MethodPost, path, window([]string{"failed"}, map[string]any{"dry_run": true}), &counted))
	require.Equal(t, replayedEvents, counted.Matched)

	job := postReplay(t, &i.Client, "webhooks/"+w.ID+"/replay", window([]string{"failed"}, map[string]any{"rate": 200}))
	require.Equal(t, "running", job.State)
	untilReplay(t, &i.Client, job.ID, func(j replayJob) bool { return j.Sent >= 300 })
	require.Equal(t, "paused", postReplay(t, &i.Client, "replays/"+job.ID+"/pause", nil).State)
	c := temporal(t, i)
	require.Eventually(t, func() bool { // no workflow is needed while it is paused
		return statusOf(t, c, job.WorkflowID) == enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED
	}, patience, tick)
	replay(t, c, job.WorkflowID, "replay_v1_paused")
	require.NoError(t, i.Kill())

	i = startWith(t, dir, env)
	paused := untilReplay(t, &i.Client, job.ID, func(j replayJob) bool { return j.Succeeded+j.Failed == j.Sent })
	require.Equal(t, "paused", paused.State)
	require.Less(t, paused.Sent, replayedEvents)
	postReplay(t, &i.Client, "replays/"+job.ID+"/resume", nil)
	untilReplay(t, &i.Client, job.ID, func(j replayJob) bool { return j.Sent >= paused.Sent+200 })
	require.NoError(t, i.Kill())

	i = startWith(t, dir, env)
	done := untilReplay(t, &i.Client, job.ID, func(j replayJob) bool { return j.State == "finished" })
	require.Equal(t, []int{replayedEvents, replayedEvents, replayedEvents, 0}, []int{*done.Matched, done.Sent, done.Succeeded, done.Failed})
	events, requests := receiver.counts()
	require.Equal(t, replayedEvents, events)
	require.LessOrEqual(t, requests-events, 32, "twice but what was in flight at the kill")
	t.Logf("%d of %d arrived twice", requests-events, events)
	endsWell(t, temporal(t, i), job.WorkflowID, "replay_v1_killed")
	replayMissed(t, i)
}

// endsWell waits until a job's workflow has ended, and replays it.
func endsWell(t *testing.T, c client.Client, workflowID, name string) {
	t.Helper()
	require.Eventually(t, func() bool {
		return statusOf(t, c, workflowID) == enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED
	}, patience, tick)
	answer, err := c.QueryWorkflow(t.Context(), workflowID, "", "progress")
	require.NoError(t, err)
	var progress postrider.ReplayProgress
	require.NoError(t, answer.Get(&progress))
	require.Equal(t, postrider.ReplayFinished, progress.State)
	require.Equal(t, replayedEvents, progress.Succeeded)
	replay(t, c, workflowID, name)
}

// replayMissed sends the events so far to a new webhook.
func replayMissed(t *testing.T, i *instance.Instance) {
	t.Helper()
	receiver := newTally(t)
	receiver.accepts.Store(true)
	w := webhook(t, i, receiver.URL, map[string]any{"events": []string{"replay.*"}, "filter": "event.data >= 0", "max_in_flight": 64})
	job := postReplay(t, &i.Client, "webhooks/"+w.ID+"/replay", window([]string{"missing"}, map[string]any{"rate": 1000}))
	done := untilReplay(t, &i.Client, job.ID, func(j replayJob) bool { return j.State == "finished" })
	require.Equal(t, []int{replayedEvents, replayedEvents, replayedEvents, 0}, []int{*done.Matched, done.Sent, done.Succeeded, done.Failed})
	events, requests := receiver.counts()
	require.Equal(t, []int{replayedEvents, replayedEvents}, []int{events, requests})
	require.Eventually(t, func() bool {
		return strings.Contains(get(t, i.Metrics+"/metrics"), `postrider_replays_total{state="finished"} 2`)
	}, patience, tick)
}
