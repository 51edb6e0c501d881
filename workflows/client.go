package workflows

import (
	"context"
	"errors"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"postrider"
	"postrider/activities"
)

// ErrAlreadyStarted says that a delivery has its workflow, running or ended: there
// is nothing left to hand over.
var ErrAlreadyStarted = errors.New("workflows: already started")

// queryTimeout bounds a history query: a workflow inside its first attempt answers
// only after it, and the caller has the database to ask instead.
const queryTimeout = 2 * time.Second

// Client starts, asks and cancels workflows.
type Client struct {
	temporal client.Client
}

// NewClient returns a Client on a Temporal connection. For eager starts, the
// worker must run on the very same connection.
func NewClient(connection client.Client) *Client { return &Client{temporal: connection} }

// Start starts the workflow of a delivery. Returns [ErrAlreadyStarted] when it has
// one that runs or has completed. One that was terminated before it recorded
// anything is started again: what is handed over here is not finished.
func (c *Client) Start(ctx context.Context, d postrider.Dispatch) error {
	_, err := c.temporal.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID:                                       DeliveryWorkflowID(d.DeliveryID),
		TaskQueue:                                TaskQueue,
		WorkflowIDReusePolicy:                    enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY,
		WorkflowExecutionErrorWhenAlreadyStarted: true,
		EnableEagerStart:                         true,
		TypedSearchAttributes: temporal.NewSearchAttributes(
			attributeWorkspace.ValueSet(d.WorkspaceID),
			attributeWebhook.ValueSet(d.WebhookID),
			attributeEventType.ValueSet(d.EventType),
		),
	}, nameDelivery, DeliveryInput{DeliveryID: d.DeliveryID, WebhookID: d.WebhookID, EventType: d.EventType, Policy: d.Policy})
	var started *serviceerror.WorkflowExecutionAlreadyStarted
	if errors.As(err, &started) {
		return ErrAlreadyStarted
	}
	return err
}

// Cancel asks the workflow of a delivery to cancel itself. A workflow that has
// ended, or never was, is as good as cancelled.
func (c *Client) Cancel(ctx context.Context, deliveryID string) error {
	err := c.temporal.CancelWorkflow(ctx, DeliveryWorkflowID(deliveryID), "")
	var missing *serviceerror.NotFound
	if errors.As(err, &missing) {
		return nil
	}
	return err
}

// History asks the workflow of a delivery for its history. Returns
// [postrider.CodeNotFound] when Temporal knows no such workflow, or no more, and
// another error when it did not answer within two seconds.
func (c *Client) History(ctx context.Context, deliveryID string) (postrider.History, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	var history postrider.History
	answer, err := c.temporal.QueryWorkflow(ctx, DeliveryWorkflowID(deliveryID), "", queryHistory)
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
