package workflows_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	"postrider.dev/postrider"
	"postrider.dev/postrider/activities"
	"postrider.dev/postrider/workflows"
)

var errRefused = errors.New("connection refused")

// running is a Temporal connection to a running workflow. It records calls, and answers them
// with err.
type running struct {
	client.Client

	err     error
	history postrider.History
	called  []any
	bounded bool // the call had a deadline
}

// CancelWorkflow implements [client.Client].
func (r *running) CancelWorkflow(_ context.Context, workflowID, runID string) error {
	r.called = []any{workflowID, runID}
	return r.err
}

// SignalWorkflow implements [client.Client].
func (r *running) SignalWorkflow(_ context.Context, workflowID, runID, signal string, content any) error {
	r.called = []any{workflowID, runID, signal, content}
	return r.err
}

// QueryWorkflow implements [client.Client].
func (r *running) QueryWorkflow(ctx context.Context, workflowID, runID, query string, args ...any) (converter.EncodedValue, error) {
	r.called = append([]any{workflowID, runID, query}, args...)
	_, r.bounded = ctx.Deadline()
	if r.err != nil {
		return nil, r.err
	}
	return encoded{r.history}, nil
}

// ScheduleClient implements [client.Client].
func (r *running) ScheduleClient() client.ScheduleClient { return &schedules{r: r} }

// encoded is a value as Temporal returns it.
type encoded struct{ value any }

func (encoded) HasValue() bool { return true }

// Get implements [converter.EncodedValue].
func (e encoded) Get(target any) error {
	text, err := json.Marshal(e.value)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, target)
}

// Guards against a cancellation that is repeated for ever because its workflow has ended.
func TestCancelOfAnEndedWorkflowSucceeds(t *testing.T) {
	t.Parallel()
	r := &running{}
	c := workflows.NewClient(r, "postrider")
	require.NoError(t, c.Cancel(t.Context(), "delivery/dlv_1"))
	require.Equal(t, []any{"delivery/dlv_1", ""}, r.called, "whichever run is the latest")
	r.err = serviceerror.NewNotFound("workflow execution already completed")
	require.NoError(t, c.Cancel(t.Context(), "delivery/dlv_1"))
	r.err = errRefused
	require.ErrorIs(t, c.Cancel(t.Context(), "delivery/dlv_1"), errRefused)
}

// The signal names the run, so that it reaches no later run under the same id.
func TestReportIsASignalToTheRun(t *testing.T) {
	t.Parallel()
	r := &running{}
	reports := activities.Reports{{DeliveryID: "dlv_1", State: postrider.StateRetrying}}
	c := workflows.NewClient(r, "postrider")
	require.NoError(t, c.Report(t.Context(), "retry/bat_1", "run", reports))
	require.Equal(t, []any{"retry/bat_1", "run", "attempt-report", reports}, r.called)
	r.err = errRefused
	require.ErrorIs(t, c.Report(t.Context(), "retry/bat_1", "run", reports), errRefused)
}

// Guards the API's fallback to the database: it tells a workflow that is gone from one that
// does not answer, and waits for neither.
func TestHistoryTellsAMissingWorkflowFromASilentOne(t *testing.T) {
	t.Parallel()
	r := &running{history: postrider.History{State: postrider.StateRetrying, RunID: "run"}}
	c := workflows.NewClient(r, "postrider")
	history, err := c.History(t.Context(), "retry/bat_1", "dlv_1")
	require.NoError(t, err)
	require.Equal(t, r.history.State, history.State)
	require.Equal(t, "run", history.RunID)
	require.Equal(t, []any{"retry/bat_1", "", "history", "dlv_1"}, r.called)
	require.True(t, r.bounded)

	r.err = serviceerror.NewNotFound("no such workflow")
	_, err = c.History(t.Context(), "retry/bat_1", "dlv_1")
	require.Equal(t, postrider.CodeNotFound, postrider.CodeOf(err))
	require.ErrorIs(t, err, r.err)
	r.err = errRefused
	_, err = c.History(t.Context(), "retry/bat_1", "dlv_1")
	require.ErrorIs(t, err, errRefused)
	require.NotEqual(t, postrider.CodeNotFound, postrider.CodeOf(err))
}

// schedules are Temporal's schedules, of which one may exist.
type schedules struct {
	client.ScheduleClient

	r *running
}

// Create implements [client.ScheduleClient].
func (s *schedules) Create(ctx context.Context, options client.ScheduleOptions) (client.ScheduleHandle, error) {
	s.r.called = []any{options}
	_, s.r.bounded = ctx.Deadline()
	return nil, s.r.err
}

// GetHandle implements [client.ScheduleClient].
func (s *schedules) GetHandle(_ context.Context, id string) client.ScheduleHandle {
	s.r.called = append(s.r.called, id)
	return &schedule{r: s.r}
}

// schedule is a schedule that an operator has paused.
type schedule struct {
	client.ScheduleHandle

	r *running
}

// Update implements [client.ScheduleHandle].
func (s *schedule) Update(_ context.Context, options client.ScheduleUpdateOptions) error {
	found := client.ScheduleUpdateInput{Description: client.ScheduleDescription{Schedule: client.Schedule{
		Spec: &client.ScheduleSpec{}, State: &client.ScheduleState{Paused: true, Note: "an operator's"},
	}}}
	update, err := options.DoUpdate(found)
	s.r.called = append(s.r.called, update.Schedule)
	return err
}

func TestMaintenanceIsScheduledEveryHour(t *testing.T) {
	t.Parallel()
	r := &running{}
	require.NoError(t, workflows.NewClient(r, "postrider").ScheduleMaintenance(t.Context()))
	require.True(t, r.bounded)
	require.Len(t, r.called, 1)
	options := r.called[0].(client.ScheduleOptions) //nolint:errcheck // a wrong type panics
	require.Equal(t, []client.ScheduleIntervalSpec{{Every: time.Hour}}, options.Spec.Intervals)
	require.Equal(t, enumspb.SCHEDULE_OVERLAP_POLICY_SKIP, options.Overlap, "two runs would wait for each other's locks")
	require.True(t, options.TriggerImmediately, "a new installation needs its partitions now")
	require.Equal(t, "postrider", options.Action.(*client.ScheduleWorkflowAction).TaskQueue) //nolint:errcheck // a wrong type panics
	r.err = errRefused
	require.ErrorIs(t, workflows.NewClient(r, "postrider").ScheduleMaintenance(t.Context()), errRefused)
}

// Guards against a start of a process that resumes a schedule which an operator has paused.
func TestExistingScheduleIsUpdatedAndStaysPaused(t *testing.T) {
	t.Parallel()
	r := &running{err: temporal.ErrScheduleAlreadyRunning}
	require.NoError(t, workflows.NewClient(r, "postrider").ScheduleMaintenance(t.Context()))
	require.Len(t, r.called, 3)
	require.Equal(t, "postrider-maintenance", r.called[1])
	updated := r.called[2].(*client.Schedule) //nolint:errcheck // a wrong type panics
	require.True(t, updated.State.Paused)
	require.Equal(t, []client.ScheduleIntervalSpec{{Every: time.Hour}}, updated.Spec.Intervals)
	require.Equal(t, "Maintenance", updated.Action.(*client.ScheduleWorkflowAction).Workflow) //nolint:errcheck // a wrong type panics
}

// Guards the names by which namespaces were prepared and operators search.
func TestSearchAttributesAreKeywords(t *testing.T) {
	t.Parallel()
	require.Equal(t, map[string]enumspb.IndexedValueType{
		"PostriderWorkspace": enumspb.INDEXED_VALUE_TYPE_KEYWORD,
		"PostriderWebhook":   enumspb.INDEXED_VALUE_TYPE_KEYWORD,
		"PostriderEventType": enumspb.INDEXED_VALUE_TYPE_KEYWORD,

		"PostriderWorkspaces": enumspb.INDEXED_VALUE_TYPE_KEYWORD_LIST,
		"PostriderWebhooks":   enumspb.INDEXED_VALUE_TYPE_KEYWORD_LIST,
		"PostriderEventTypes": enumspb.INDEXED_VALUE_TYPE_KEYWORD_LIST,
	}, workflows.SearchAttributes())
}
