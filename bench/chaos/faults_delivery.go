package main

import (
	"context"
	"net/http"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
)

// openWorkflows finds the workflows that carry deliveries.
const openWorkflows = "WorkflowType IN ('Delivery', 'Batch') AND ExecutionStatus = 'Running'"

// withTemporal does something with a client of Temporal.
func (c *chaos) withTemporal(ctx context.Context, do func(client.Client) error) error {
	temporal, err := client.DialContext(ctx, client.Options{
		HostPort: c.system.temporal, Namespace: c.system.namespace, Logger: log.NewStructuredLogger(c.logger),
	})
	if err != nil {
		return err
	}
	defer temporal.Close()
	return do(temporal)
}

// open returns the ids of workflows that carry deliveries now, a hundred at most.
func open(ctx context.Context, temporal client.Client) (ids []string, err error) {
	page, err := temporal.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{Query: openWorkflows, PageSize: 100})
	for _, e := range page.GetExecutions() {
		ids = append(ids, e.GetExecution().GetWorkflowId())
	}
	return ids, err
}

// endWorkflows ends all workflows that carry deliveries now, behind Postrider's back.
func endWorkflows(
	end func(client.Client, context.Context, string, string, string, ...any) error,
) func(context.Context, *chaos) error {
	return func(ctx context.Context, c *chaos) error {
		return c.withTemporal(ctx, func(temporal client.Client) error {
			ids, err := open(ctx, temporal)
			for _, id := range ids {
				if end(temporal, ctx, id, "", "chaos") == nil {
					c.ended++
				}
			}
			return err
		})
	}
}

// cancelWorkflows cancels all workflows that carry deliveries now: so end the deliveries.
func cancelWorkflows(ctx context.Context, c *chaos) error {
	c.cancels = true
	return endWorkflows(func(temporal client.Client, ctx context.Context, id, runID, _ string, _ ...any) error {
		return temporal.CancelWorkflow(ctx, id, runID)
	})(ctx, c)
}

func storm(ctx context.Context, c *chaos) error {
	for range stormSize {
		c.publish(ctx, badEvents)
	}
	return nil
}

// badMood makes a good receiver misbehave for a while.
func badMood(mood http.HandlerFunc) func(context.Context, *chaos) error {
	return func(ctx context.Context, c *chaos) error {
		c.receiver.misbehave(ctx, goodPath(1), 5*time.Second, mood)
		return nil
	}
}

// pauseAndResume pauses a good webhook while events come for it.
func pauseAndResume(ctx context.Context, c *chaos) error {
	api, path := c.system.client(), "/api/v1/webhooks/"+c.ledger.webhook(goodPath(0))
	if err := api.Call(ctx, http.MethodPost, path+"/pause", nil, nil); err != nil {
		return err
	}
	pause(ctx, 3*time.Second)
	return api.Call(ctx, http.MethodPost, path+"/resume", nil, nil)
}

// resumeGone enables a webhook that its receiver's 410 has disabled. What was parked goes on, and
// the next 410 parks the rest.
func resumeGone(ctx context.Context, c *chaos) error {
	c.publish(ctx, badEvents)
	pause(ctx, time.Second)
	api := c.system.client()
	return api.Call(ctx, http.MethodPost, "/api/v1/webhooks/"+c.ledger.webhook("/gone")+"/resume", nil, nil)
}
