package e2e

import (
	"flag"
	"iter"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/client"
	sdkworker "go.temporal.io/sdk/worker"
	"google.golang.org/protobuf/encoding/protojson"

	"postrider.dev/postrider"
	"postrider.dev/postrider/standalone/instance"
	"postrider.dev/postrider/workflows"
)

var record = flag.String("record", "", "folder to write the recorded histories to, for the replay test of package workflows")

// fate is one way in which a delivery can end, and the receiver that causes it.
type fate struct {
	fields map[string]any
	answer func(request int64) int // status of the n-th request
	end    func(*testing.T, *instance.Instance, client.Client, string)
	state  string
}

func always(status int) func(int64) int { return func(int64) int { return status } }

func fates() map[string]fate {
	return map[string]fate{
		"succeeded": {answer: always(http.StatusOK), state: "succeeded"},
		"recovered": {state: "succeeded", answer: func(n int64) int {
			if n <= 2 {
				return http.StatusInternalServerError
			}
			return http.StatusOK
		}},
		"exhausted":  {answer: always(http.StatusBadGateway), state: "failed", fields: map[string]any{"max_retries": 2}},
		"no_retries": {answer: always(http.StatusBadGateway), state: "failed", fields: map[string]any{"max_retries": 0}},
		"gone":       {answer: always(http.StatusGone), state: "failed"},
		"cancelled": {
			answer: always(http.StatusBadGateway), state: "cancelled", fields: map[string]any{"backoff_ms": 3600000},
			end: func(t *testing.T, i *instance.Instance, c client.Client, id string) {
				t.Helper()
				require.Eventually(t, func() bool {
					d, err := i.Delivery(t.Context(), id)
					return err == nil && d.State == "retrying"
				}, patience, tick)
				require.NoError(t, c.CancelWorkflow(t.Context(), postrider.DeliveryWorkflowID(id), ""))
			},
		},
	}
}

// TestHistories guards that workflows replay: it runs a delivery of each fate on a real server and
// replays its history. With -record it stores the histories.
func TestHistories(t *testing.T) {
	t.Parallel()
	i := startWith(t, t.TempDir(), []string{"POSTRIDER_BATCHING=never"})
	for name, f := range fates() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var requests atomic.Int64
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(f.answer(requests.Add(1)))
			}))
			t.Cleanup(server.Close)
			fields := map[string]any{"events": []string{topic(t)}}
			for field, value := range f.fields {
				fields[field] = value
			}
			w := webhook(t, i, server.URL, fields)
			publish(t, i, topic(t), nil)
			id, c := only(t, i, w.ID).ID, temporal(t, i)
			if f.end != nil {
				f.end(t, i, c, id)
			}
			require.Equal(t, f.state, finished(t, i, w.ID).State)
			require.Eventually(t, func() bool {
				return status(t, c, id) != enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING
			}, patience, tick)
			replay(t, c, postrider.DeliveryWorkflowID(id), "delivery_v2_"+name)
		})
	}
}

// TestMaintenance guards that the maintenance is a schedule in Temporal, and that it runs as soon
// as the schedule is created.
func TestMaintenance(t *testing.T) {
	t.Parallel()
	c := temporal(t, start(t, t.TempDir()))
	var ran string
	require.Eventually(t, func() bool {
		schedules, err := c.ScheduleClient().List(t.Context(), client.ScheduleListOptions{})
		if err != nil || !schedules.HasNext() {
			return false
		}
		listed, err := schedules.Next()
		require.NoError(t, err)
		require.Regexp(t, "^postrider-[0-9a-f]{12}-maintenance$", listed.ID)
		found, err := c.ScheduleClient().GetHandle(t.Context(), listed.ID).Describe(t.Context())
		if err != nil || len(found.Info.RecentActions) == 0 {
			return false
		}
		ran = found.Info.RecentActions[0].StartWorkflowResult.WorkflowID
		return true
	}, patience, tick)
	var removed postrider.Removed
	require.NoError(t, c.GetWorkflow(t.Context(), ran, "").Get(t.Context(), &removed))
	require.Zero(t, removed.Deliveries)
	replay(t, c, ran, "maintenance_v1")
}

// eventsOf returns a workflow's history.
func eventsOf(t *testing.T, c client.Client, workflowID string) iter.Seq[*historypb.HistoryEvent] {
	t.Helper()
	return func(yield func(*historypb.HistoryEvent) bool) {
		events := c.GetWorkflowHistory(t.Context(), workflowID, "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
		for events.HasNext() {
			event, err := events.Next()
			require.NoError(t, err)
			if !yield(event) {
				return
			}
		}
	}
}

// replay replays the history of a workflow. With -record it stores the history under the name.
func replay(t *testing.T, c client.Client, workflowID, name string) {
	t.Helper()
	history := historypb.History{Events: slices.Collect(eventsOf(t, c, workflowID))}
	replayer := sdkworker.NewWorkflowReplayer()
	workflows.Register(replayer)
	require.NoError(t, replayer.ReplayWorkflowHistory(nil, &history))
	if *record != "" {
		text, err := protojson.MarshalOptions{Multiline: true, Indent: " "}.Marshal(&history)
		require.NoError(t, err)
		text = regexp.MustCompile(`("identity":\s*)"[^"]*"`).ReplaceAll(text, []byte(`$1"recorder"`)) // without the name of the host
		text = regexp.MustCompile(`("name":\s*)"[^"]*:[0-9a-f-]{36}"`).ReplaceAll(text, []byte(`$1"recorder"`))
		require.NoError(t, os.WriteFile(filepath.Join(*record, name+".json"), append(text, '\n'), 0o600))
	}
}
