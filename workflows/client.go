package workflows

import (
	"context"
	"errors"
	"slices"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"postrider.dev/postrider"
	"postrider.dev/postrider/activities"
	"postrider.dev/postrider/tracing"
)

// ErrAlreadyStarted says that a delivery has its workflow, running or ended: there
// is nothing left to hand over.
var ErrAlreadyStarted = errors.New("workflows: already started")

// queryTimeout bounds a history query: a workflow inside its first attempt answers
// only after it, and the caller has the database to ask instead.
const queryTimeout = 2 * time.Second

// What Temporal gives a workflow task by itself, how much of that the SDK lets a local
// activity use before it asks for more, and what a first attempt takes beside its POST.
const (
	usualTaskTimeout = 10 * time.Second
	usedOfTask       = 0.8
	aroundPost       = 2 * time.Second
)

// taskTimeout returns a workflow task timeout with which a whole first attempt fits into
// its task, 0 for the usual one. Asking for more time costs as much as a delivery does, so
// slow receivers get this one. With the longest timeout it is 40 s, within the dispatcher's
// lease: so much later does another worker take over from a lost one.
func taskTimeout(timeout time.Duration) time.Duration {
	fits := time.Duration(float64(timeout+aroundPost) / usedOfTask)
	if fits <= usualTaskTimeout {
		return 0
	}
	return fits
}

// Client starts, asks and cancels workflows.
type Client struct {
	temporal client.Client
}

// NewClient returns a Client on a Temporal connection. For eager starts, the
// worker must run on the very same connection.
func NewClient(connection client.Client) *Client { return &Client{temporal: connection} }

// StartOwn starts the workflow of one delivery. Returns [ErrAlreadyStarted] when it runs
// or has completed. One that was terminated before it recorded anything is started again:
// what is handed over here is not finished.
func (c *Client) StartOwn(ctx context.Context, d postrider.Dispatch) error {
	options := startOptions(d.WorkflowID, []postrider.Delivery{d.Delivery})
	if d.Slow {
		options.WorkflowTaskTimeout = taskTimeout(d.Policy.Timeout())
	}
	return c.start(ctx, options, []postrider.Delivery{d.Delivery}, DeliveryInput{
		DeliveryID: d.ID, WebhookID: d.WebhookID, EventType: d.EventType, Policy: d.Policy,
	})
}

// StartBatch starts the workflow of the first attempts of those that this process claims
// for it, which end within longest. The deliveries are those known by now, and may be
// none. The error is as StartOwn's.
func (c *Client) StartBatch(ctx context.Context, workflowID string, known []postrider.Dispatch, longest time.Duration) error {
	deliveries := make([]postrider.Delivery, len(known))
	slow, timeout := len(known) > 0, time.Duration(0)
	for i, d := range known {
		deliveries[i] = d.Delivery
		slow, timeout = slow && d.Slow, max(timeout, d.Policy.Timeout())
	}
	options := startOptions(workflowID, deliveries)
	if slow {
		options.WorkflowTaskTimeout = taskTimeout(timeout)
	}
	return c.start(ctx, options, deliveries, DeliveryInput{Batch: &BatchOfFirsts{LongestMS: int(longest.Milliseconds())}})
}

// StartRetries starts the workflow of retries. The error is as StartOwn's.
func (c *Client) StartRetries(ctx context.Context, h postrider.Handover) error {
	first := h.Deliveries[0]
	in := DeliveryInput{WebhookID: first.WebhookID, Policy: first.Policy, Retries: make([]Retried, len(h.Deliveries))}
	for i, d := range h.Deliveries {
		in.Retries[i] = Retried{DeliveryID: d.ID, Attempts: h.Attempts[d.ID], NextAttemptAt: d.NextAttemptAt}
	}
	return c.start(ctx, startOptions(h.WorkflowID, h.Deliveries), h.Deliveries, in)
}

// startOptions are those of a workflow that carries the deliveries.
func startOptions(workflowID string, deliveries []postrider.Delivery) client.StartWorkflowOptions {
	return client.StartWorkflowOptions{
		ID:                                       workflowID,
		TaskQueue:                                TaskQueue,
		WorkflowIDReusePolicy:                    enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY,
		WorkflowExecutionErrorWhenAlreadyStarted: true,
		EnableEagerStart:                         true,
		TypedSearchAttributes:                    searchAttributes(deliveries),
	}
}

func (c *Client) start(ctx context.Context, options client.StartWorkflowOptions, deliveries []postrider.Delivery, in DeliveryInput) error {
	_, err := c.temporal.ExecuteWorkflow(tracing.Context(ctx, traceOf(deliveries)), options, nameDelivery, in)
	var started *serviceerror.WorkflowExecutionAlreadyStarted
	if errors.As(err, &started) {
		return ErrAlreadyStarted
	}
	return err
}

// common returns what all the deliveries have in common, "" for nothing.
func common(deliveries []postrider.Delivery, of func(postrider.Delivery) string) string {
	if len(deliveries) == 0 {
		return ""
	}
	value := of(deliveries[0])
	if slices.ContainsFunc(deliveries, func(d postrider.Delivery) bool { return of(d) != value }) {
		return ""
	}
	return value
}

// traceOf is the trace context that all the deliveries have in common, "" for none.
func traceOf(deliveries []postrider.Delivery) string {
	return common(deliveries, func(d postrider.Delivery) string { return d.TraceContext })
}

// searchAttributes are what all the deliveries have in common.
func searchAttributes(deliveries []postrider.Delivery) temporal.SearchAttributes {
	var known []temporal.SearchAttributeUpdate
	for key, of := range map[temporal.SearchAttributeKeyKeyword]func(postrider.Delivery) string{
		attributeWorkspace: func(d postrider.Delivery) string { return d.WorkspaceID },
		attributeWebhook:   func(d postrider.Delivery) string { return d.WebhookID },
		attributeEventType: func(d postrider.Delivery) string { return d.EventType },
	} {
		if value := common(deliveries, of); value != "" {
			known = append(known, key.ValueSet(value))
		}
	}
	return temporal.NewSearchAttributes(known...)
}

// Cancel asks a workflow to cancel itself, and what it carries. One that has ended, or
// never was, is as good as cancelled.
func (c *Client) Cancel(ctx context.Context, workflowID string) error {
	err := c.temporal.CancelWorkflow(ctx, workflowID, "")
	var missing *serviceerror.NotFound
	if errors.As(err, &missing) {
		return nil
	}
	return err
}

// History asks the workflow that carries a delivery for its history. Returns
// [postrider.CodeNotFound] when Temporal knows no such workflow, or no more, and
// another error when it did not answer within two seconds.
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

// Report signals attempts to the running workflow whose activity made them.
func (c *Client) Report(ctx context.Context, workflowID, runID string, reports activities.Reports) error {
	return c.temporal.SignalWorkflow(ctx, workflowID, runID, signalReport, reports)
}
