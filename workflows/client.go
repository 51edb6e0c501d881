package workflows

import (
	"context"
	"errors"
	"slices"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"postrider.dev/postrider"
	"postrider.dev/postrider/activities"
	"postrider.dev/postrider/tracing"
)

// ErrAlreadyStarted says that the workflow exists, running or ended.
var ErrAlreadyStarted = errors.New("workflows: already started")

// queryTimeout bounds a history query. A workflow answers only after its first attempt, and the
// caller can read the database instead.
const queryTimeout = 2 * time.Second

const (
	defaultTaskTimeout = 10 * time.Second // Temporal's, of a workflow task
	// heartbeatAfter is the part of a task's timeout after which the SDK asks for more time
	// for a local activity.
	heartbeatAfter  = 0.8
	attemptOverhead = 2 * time.Second // of a first attempt, beside its POST
)

// taskTimeout returns a workflow task timeout for a slow receiver, so that its whole first
// attempt fits into one task; 0 for Temporal's default. Asking Temporal for more time costs as
// much as a delivery. A longer timeout delays the takeover from a lost worker: it is at most
// 40 s, which is within the dispatcher's lease.
func taskTimeout(timeout time.Duration) time.Duration {
	fits := time.Duration(float64(timeout+attemptOverhead) / heartbeatAfter)
	if fits <= defaultTaskTimeout {
		return 0
	}
	return fits
}

// Client starts, queries and cancels workflows.
type Client struct {
	temporal  client.Client
	taskQueue string
}

// NewClient returns a Client on a Temporal connection. The task queue is the installation's: of
// all who work on one database. Eager starts need a worker of it on the same connection.
func NewClient(connection client.Client, taskQueue string) *Client {
	return &Client{temporal: connection, taskQueue: taskQueue}
}

// StartOwn starts the workflow of one delivery. It returns [ErrAlreadyStarted] when the
// workflow runs or has completed. It starts a terminated workflow again, since the delivery is
// not finished.
func (c *Client) StartOwn(ctx context.Context, d postrider.Dispatch) error {
	options := c.startOptions(d.WorkflowID, []postrider.Delivery{d.Delivery})
	if d.Slow {
		options.WorkflowTaskTimeout = taskTimeout(d.Policy.Timeout())
	}
	describeOwn(&options, d)
	return c.start(ctx, options, []postrider.Delivery{d.Delivery}, DeliveryInput{
		DeliveryID: d.ID, WebhookID: d.WebhookID, EventType: d.EventType, Policy: d.Policy,
	})
}

// StartBatch starts a workflow of first attempts, which end within longest. This process claims
// its deliveries; known are the ones that it has claimed so far. It returns [ErrAlreadyStarted]
// as StartOwn does.
func (c *Client) StartBatch(ctx context.Context, workflowID string, known []postrider.Dispatch, longest time.Duration) error {
	deliveries := make([]postrider.Delivery, len(known))
	slow, timeout := len(known) > 0, time.Duration(0)
	for i, d := range known {
		deliveries[i] = d.Delivery
		slow, timeout = slow && d.Slow, max(timeout, d.Policy.Timeout())
	}
	options := c.startOptions(workflowID, deliveries)
	if slow {
		options.WorkflowTaskTimeout = taskTimeout(timeout)
	}
	describeBatch(&options, known)
	return c.start(ctx, options, deliveries, DeliveryInput{Batch: &BatchOfFirsts{LongestMS: int(longest.Milliseconds())}})
}

// StartRetries starts a workflow of retries. It returns [ErrAlreadyStarted] as StartOwn does.
func (c *Client) StartRetries(ctx context.Context, h postrider.Handover) error {
	first := h.Deliveries[0]
	in := DeliveryInput{WebhookID: first.WebhookID, Policy: first.Policy, Retries: make([]Retried, len(h.Deliveries))}
	for i, d := range h.Deliveries {
		in.Retries[i] = Retried{DeliveryID: d.ID, Attempts: h.Attempts[d.ID], NextAttemptAt: d.NextAttemptAt}
	}
	options := c.startOptions(h.WorkflowID, h.Deliveries)
	describeRetries(&options, h)
	return c.start(ctx, options, h.Deliveries, in)
}

// startOptions returns the options of a workflow that carries the deliveries.
func (c *Client) startOptions(workflowID string, deliveries []postrider.Delivery) client.StartWorkflowOptions {
	return client.StartWorkflowOptions{
		ID:                                       workflowID,
		TaskQueue:                                c.taskQueue,
		WorkflowIDReusePolicy:                    enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY,
		WorkflowExecutionErrorWhenAlreadyStarted: true,
		EnableEagerStart:                         true,
		TypedSearchAttributes:                    searchAttributes(deliveries),
	}
}

func (c *Client) start(
	ctx context.Context, options client.StartWorkflowOptions, deliveries []postrider.Delivery, in DeliveryInput,
) error {
	_, err := c.temporal.ExecuteWorkflow(tracing.Context(ctx, traceOf(deliveries)), options, nameDelivery, in)
	var started *serviceerror.WorkflowExecutionAlreadyStarted
	if errors.As(err, &started) {
		return ErrAlreadyStarted
	}
	return err
}

// commonValue returns the value of a field if all deliveries share it; else "".
func commonValue(deliveries []postrider.Delivery, field func(postrider.Delivery) string) string {
	if len(deliveries) == 0 {
		return ""
	}
	value := field(deliveries[0])
	if slices.ContainsFunc(deliveries, func(d postrider.Delivery) bool { return field(d) != value }) {
		return ""
	}
	return value
}

// traceOf returns the trace context if all deliveries share it; else "".
func traceOf(deliveries []postrider.Delivery) string {
	return commonValue(deliveries, func(d postrider.Delivery) string { return d.TraceContext })
}

// Cancel asks a workflow to cancel itself and its deliveries. It returns nil when the workflow
// has ended or is unknown.
func (c *Client) Cancel(ctx context.Context, workflowID string) error {
	err := c.temporal.CancelWorkflow(ctx, workflowID, "")
	var missing *serviceerror.NotFound
	if errors.As(err, &missing) {
		return nil
	}
	return err
}

// History queries the workflow that carries a delivery for the delivery's history. It returns
// [postrider.CodeNotFound] when Temporal does not retain the workflow, and another error when
// the workflow did not answer within two seconds.
func (c *Client) History(ctx context.Context, workflowID, deliveryID string) (postrider.History, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	var history postrider.History
	answer, err := c.temporal.QueryWorkflow(ctx, workflowID, "", queryHistory, deliveryID)
	if err == nil {
		err = answer.Get(&history)
	}
	var missing *serviceerror.NotFound
	if errors.As(err, &missing) {
		return history, &postrider.Error{Code: postrider.CodeNotFound, Message: "workflow not found", Err: err}
	}
	return history, err
}

// Tell tells the workflow that carried deliveries of operators' actions on them, by a signal. It
// returns nil when the workflow has ended or is unknown.
func (c *Client) Tell(ctx context.Context, n postrider.Notice) error {
	err := c.temporal.SignalWorkflow(ctx, n.WorkflowID, "", signalActed, n.Acted)
	var missing *serviceerror.NotFound
	if errors.As(err, &missing) {
		return nil
	}
	return err
}

// Report reports attempts to the running workflow whose activity made them, by a signal.
func (c *Client) Report(ctx context.Context, workflowID, runID string, reports activities.Reports) error {
	return c.temporal.SignalWorkflow(ctx, workflowID, runID, signalReport, reports)
}
