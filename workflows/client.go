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

	"postrider"
	"postrider/activities"
	"postrider/traces"
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
func taskTimeout(policy postrider.Policy) time.Duration {
	fits := time.Duration(float64(policy.Timeout()+aroundPost) / usedOfTask)
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

// Start starts the one workflow that carries all the deliveries given: a delivery's
// own, or a batch's. Returns [ErrAlreadyStarted] when it runs or has completed. A
// delivery's that was terminated before it recorded anything is started again: what is
// handed over here is not finished.
func (c *Client) Start(ctx context.Context, carried []postrider.Dispatch) error {
	first := carried[0]
	options := client.StartWorkflowOptions{
		ID:                                       first.WorkflowID,
		TaskQueue:                                TaskQueue,
		WorkflowIDReusePolicy:                    enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY,
		WorkflowExecutionErrorWhenAlreadyStarted: true,
		EnableEagerStart:                         true,
		TypedSearchAttributes:                    searchAttributes(carried),
	}
	if first.Slow {
		options.WorkflowTaskTimeout = taskTimeout(first.Policy)
	}
	ctx = traces.Context(ctx, traceOf(carried))
	var err error
	if first.Alone() {
		in := DeliveryInput{DeliveryID: first.DeliveryID, WebhookID: first.WebhookID, EventType: first.EventType, Policy: first.Policy}
		_, err = c.temporal.ExecuteWorkflow(ctx, options, nameDelivery, in)
	} else {
		_, err = c.temporal.ExecuteWorkflow(ctx, options, nameBatch, batchInput(carried))
	}
	var started *serviceerror.WorkflowExecutionAlreadyStarted
	if errors.As(err, &started) {
		return ErrAlreadyStarted
	}
	return err
}

// traceOf is the trace context that all the deliveries have in common, "" for none.
func traceOf(carried []postrider.Dispatch) string {
	if slices.ContainsFunc(carried, func(d postrider.Dispatch) bool { return d.TraceContext != carried[0].TraceContext }) {
		return ""
	}
	return carried[0].TraceContext
}

// searchAttributes are what all the deliveries have in common.
func searchAttributes(carried []postrider.Dispatch) temporal.SearchAttributes {
	var common []temporal.SearchAttributeUpdate
	for key, of := range map[temporal.SearchAttributeKeyKeyword]func(postrider.Dispatch) string{
		attributeWorkspace: func(d postrider.Dispatch) string { return d.WorkspaceID },
		attributeWebhook:   func(d postrider.Dispatch) string { return d.WebhookID },
		attributeEventType: func(d postrider.Dispatch) string { return d.EventType },
	} {
		value := of(carried[0])
		if !slices.ContainsFunc(carried, func(d postrider.Dispatch) bool { return of(d) != value }) {
			common = append(common, key.ValueSet(value))
		}
	}
	return temporal.NewSearchAttributes(common...)
}

// Cancel asks the workflow of a delivery to cancel itself. A workflow that has
// ended, or never was, is as good as cancelled. One of many is left alone: it finds
// the delivery cancelled in the database.
func (c *Client) Cancel(ctx context.Context, deliveryID string) error {
	err := c.temporal.CancelWorkflow(ctx, postrider.DeliveryWorkflowID(deliveryID), "")
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

// Report signals an attempt to the running workflow whose activity made it.
func (c *Client) Report(ctx context.Context, workflowID, runID string, report activities.Report) error {
	return c.temporal.SignalWorkflow(ctx, workflowID, runID, signalReport, report)
}
