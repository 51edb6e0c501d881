package workflows_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"
	"go.temporal.io/sdk/client"

	"postrider"
	"postrider/workflows"
)

// connection is a Temporal connection that notes how a workflow was started.
type connection struct {
	client.Client

	span    trace.SpanContext
	options client.StartWorkflowOptions
}

func (c *connection) ExecuteWorkflow(ctx context.Context, options client.StartWorkflowOptions, _ any, _ ...any) (client.WorkflowRun, error) {
	c.span, c.options = trace.SpanContextFromContext(ctx), options
	return nil, nil
}

func TestStartGoesOnTheDeliveriesTrace(t *testing.T) {
	t.Parallel()
	const one, other = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
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
			require.NoError(t, workflows.NewClient(temporal).StartBatch(t.Context(), "batch/bat_1", carried, time.Minute))
			require.Equal(t, c.want != "", temporal.span.IsValid())
			if c.want != "" {
				require.Equal(t, c.want, temporal.span.TraceID().String())
			}
		})
	}
}

// Guards against the heartbeats of a first attempt that takes its time, each of which
// costs as much as a delivery: it fits into one workflow task.
func TestSlowAttemptIsOneWorkflowTask(t *testing.T) {
	t.Parallel()
	start := func(slow bool, timeoutMS int) time.Duration {
		temporal := &connection{}
		d := postrider.Dispatch{Slow: slow, Delivery: postrider.Delivery{ID: "dlv_1", WorkflowID: "delivery/dlv_1", Policy: postrider.Policy{TimeoutMS: timeoutMS}}}
		require.NoError(t, workflows.NewClient(temporal).StartOwn(t.Context(), d))
		own := temporal.options.WorkflowTaskTimeout
		require.NoError(t, workflows.NewClient(temporal).StartBatch(t.Context(), "batch/bat_1", []postrider.Dispatch{d}, time.Minute))
		require.Equal(t, own, temporal.options.WorkflowTaskTimeout, "one of many is as long")
		return own
	}
	require.Zero(t, start(false, postrider.MaxTimeoutMS), "Temporal's own, after which a lost worker's work is taken over")
	require.Zero(t, start(true, postrider.DefaultTimeoutMS), "it fits into Temporal's own")
	require.Equal(t, 40*time.Second, start(true, postrider.MaxTimeoutMS), "80 % of it, when the SDK asks for more, are the timeout and 2 s")
}
