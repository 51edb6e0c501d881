package workflows_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"postrider.dev/postrider"
	"postrider.dev/postrider/workflows"
)

// connection is a Temporal connection that records how a workflow was started.
type connection struct {
	client.Client

	span    trace.SpanContext
	options client.StartWorkflowOptions
	in      []any
	err     error // of a start
}

// ExecuteWorkflow implements [client.Client].
func (c *connection) ExecuteWorkflow(
	ctx context.Context, options client.StartWorkflowOptions, _ any, in ...any,
) (client.WorkflowRun, error) {
	c.span, c.options, c.in = trace.SpanContextFromContext(ctx), options, in
	return nil, c.err
}

func TestStartContinuesTheDeliveriesTrace(t *testing.T) {
	t.Parallel()
	const one = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	const other = "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for name, c := range map[string]struct {
		traces []string
		want   string // trace id
	}{
		"of one":                {[]string{one}, one[3:35]},
		"of one, not traced":    {[]string{""}, ""},
		"of many, in one trace": {[]string{one, one}, one[3:35]},
		"of many, in several":   {[]string{one, other}, ""},
		"of many, one traced":   {[]string{"", one}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var carried []postrider.Dispatch
			for _, text := range c.traces {
				carried = append(carried, postrider.Dispatch{Delivery: postrider.Delivery{ID: "dlv_1", TraceContext: text}})
			}
			temporal := &connection{}
			require.NoError(t, workflows.NewClient(temporal, "postrider").StartBatch(t.Context(), "batch/bat_1", carried, time.Minute))
			require.Equal(t, c.want != "", temporal.span.IsValid())
			if c.want != "" {
				require.Equal(t, c.want, temporal.span.TraceID().String())
			}
		})
	}
}

// Guards against heartbeats of a slow first attempt, each of which costs as much as a delivery.
func TestSlowAttemptFitsIntoOneWorkflowTask(t *testing.T) {
	t.Parallel()
	start := func(slow bool, timeoutMS int) time.Duration {
		temporal := &connection{}
		d := postrider.Dispatch{Slow: slow, Delivery: postrider.Delivery{
			ID: "dlv_1", WorkflowID: "delivery/dlv_1", Policy: postrider.Policy{TimeoutMS: timeoutMS},
		}}
		require.NoError(t, workflows.NewClient(temporal, "postrider").StartOwn(t.Context(), d))
		own := temporal.options.WorkflowTaskTimeout
		c := workflows.NewClient(temporal, "postrider")
		require.NoError(t, c.StartBatch(t.Context(), "batch/bat_1", []postrider.Dispatch{d}, time.Minute))
		require.Equal(t, own, temporal.options.WorkflowTaskTimeout, "a batch gets the same")
		return own
	}
	require.Zero(t, start(false, postrider.MaxTimeoutMS), "Temporal's default, after which another worker takes over from a lost one")
	require.Zero(t, start(true, postrider.DefaultTimeoutMS), "it fits into Temporal's default")
	require.Equal(t, 40*time.Second, start(true, postrider.MaxTimeoutMS), "the timeout and 2 s are 80 % of it, when the SDK asks for more")
}

// Guards what operators find workflows by: the one value that all deliveries share, or the list.
func TestSearchAttributesHoldForAllDeliveries(t *testing.T) {
	t.Parallel()
	one := postrider.Delivery{ID: "dlv_1", WorkspaceID: "ws_1", WebhookID: "wh_1", EventType: "a"}
	other := postrider.Delivery{ID: "dlv_2", WorkspaceID: "ws_1", WebhookID: "wh_2", EventType: "a"}
	for name, c := range map[string]struct {
		known []postrider.Dispatch
		want  map[string]any
	}{
		"none": {nil, map[string]any{}},
		"one": {
			[]postrider.Dispatch{{Delivery: one}},
			map[string]any{"PostriderWorkspace": "ws_1", "PostriderWebhook": "wh_1", "PostriderEventType": "a"},
		},
		"several": {
			[]postrider.Dispatch{{Delivery: one}, {Delivery: other}},
			map[string]any{"PostriderWorkspace": "ws_1", "PostriderWebhooks": []string{"wh_1", "wh_2"}, "PostriderEventType": "a"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			temporal := &connection{}
			require.NoError(t, workflows.NewClient(temporal, "postrider").StartBatch(t.Context(), "batch/bat_1", c.known, 43*time.Second))
			found := map[string]any{}
			for key, value := range temporal.options.TypedSearchAttributes.GetUntypedValues() {
				found[key.GetName()] = value
			}
			require.Equal(t, c.want, found)
			in := workflows.DeliveryInput{Batch: &workflows.BatchOfFirsts{LongestMS: 43000}}
			require.Equal(t, []any{in}, temporal.in, "its deliveries come through the feed")
		})
	}
}

// Guards the query's answer: a workflow of retries also knows the earlier attempts.
func TestStartOfRetriesPassesEarlierAttempts(t *testing.T) {
	t.Parallel()
	due := time.Date(2026, 3, 14, 9, 26, 53, 0, time.UTC)
	own := postrider.Policy{TimeoutMS: 5000, MaxRetries: 3, BackoffMS: 1000}
	before := []postrider.Attempt{{Number: 1, Result: postrider.ResultTimeout}}
	temporal := &connection{}
	require.NoError(t, workflows.NewClient(temporal, "postrider").StartRetries(t.Context(), postrider.Handover{
		WorkflowID: "retry/bat_1",
		Deliveries: []postrider.Delivery{
			{ID: "dlv_1", WebhookID: "wh_1", Policy: own, NextAttemptAt: &due}, {ID: "dlv_2", WebhookID: "wh_1", Policy: own},
		},
		Attempts: map[string][]postrider.Attempt{"dlv_1": before},
	}))
	require.Equal(t, "retry/bat_1", temporal.options.ID)
	require.Equal(t, []any{workflows.DeliveryInput{WebhookID: "wh_1", Policy: own, Retries: []workflows.Retried{
		{DeliveryID: "dlv_1", Attempts: before, NextAttemptAt: &due}, {DeliveryID: "dlv_2"},
	}}}, temporal.in)
}

func TestSecondStartReturnsErrAlreadyStarted(t *testing.T) {
	t.Parallel()
	c := workflows.NewClient(&connection{err: &serviceerror.WorkflowExecutionAlreadyStarted{}}, "postrider")
	own := postrider.Delivery{ID: "dlv_1"}
	require.ErrorIs(t, c.StartOwn(t.Context(), postrider.Dispatch{Delivery: own}), workflows.ErrAlreadyStarted)
	require.ErrorIs(t, c.StartBatch(t.Context(), "batch/bat_1", nil, time.Minute), workflows.ErrAlreadyStarted)
	require.ErrorIs(t, c.StartRetries(t.Context(), postrider.Handover{Deliveries: []postrider.Delivery{own}}), workflows.ErrAlreadyStarted)
}
