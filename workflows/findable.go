package workflows

import (
	"context"
	"errors"
	"fmt"
	"slices"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"postrider.dev/postrider"
	"postrider.dev/postrider/activities"
)

// attribute is what a Delivery workflow is found by in Temporal. The value that all its deliveries
// share is the attribute one; if they have several, these are the attribute many. To write either
// costs Temporal as much as to start the workflow, so both are written at the start, and else only
// by a batch that ends as failed: docs/decisions/0022-findable.md.
type attribute struct {
	one   temporal.SearchAttributeKeyKeyword
	many  temporal.SearchAttributeKeyKeywordList
	field func(activities.Subject) string
}

func attributes() []attribute {
	named := func(one, many string, field func(activities.Subject) string) attribute {
		return attribute{temporal.NewSearchAttributeKeyKeyword(one), temporal.NewSearchAttributeKeyKeywordList(many), field}
	}
	return []attribute{
		named("PostriderWorkspace", "PostriderWorkspaces", func(s activities.Subject) string { return s.WorkspaceID }),
		named("PostriderWebhook", "PostriderWebhooks", func(s activities.Subject) string { return s.WebhookID }),
		named("PostriderEventType", "PostriderEventTypes", func(s activities.Subject) string { return s.EventType }),
	}
}

// SearchAttributes returns the custom search attributes by name. A namespace needs them before
// workflows can be started in it.
func SearchAttributes() map[string]enumspb.IndexedValueType {
	types := map[string]enumspb.IndexedValueType{}
	for _, a := range attributes() {
		types[a.one.GetName()], types[a.many.GetName()] = a.one.GetValueType(), a.many.GetValueType()
	}
	return types
}

// ErrNoSearchAttributes says that the namespace lacks search attributes, so that Temporal would
// refuse some of the workflows.
var ErrNoSearchAttributes = errors.New("workflows: the namespace lacks search attributes")

// CheckSearchAttributes returns [ErrNoSearchAttributes], with Temporal's own words, if the namespace
// lacks one. It returns nil when it cannot find out: no delivery waits for what finds workflows.
func (c *Client) CheckSearchAttributes(ctx context.Context) error {
	for _, a := range attributes() {
		query := fmt.Sprintf("%s = 'x' OR %s = 'x'", a.one.GetName(), a.many.GetName())
		_, err := c.temporal.CountWorkflow(ctx, &workflowservice.CountWorkflowExecutionsRequest{Query: query})
		var unknown *serviceerror.InvalidArgument
		if errors.As(err, &unknown) {
			return errors.Join(ErrNoSearchAttributes, err)
		}
	}
	return nil
}

// maxListBytes bounds the values of a list: Temporal refuses one of more than 2 KiB.
const maxListBytes = 1800

// fitting returns as many of the values as fit into one search attribute.
func fitting(values []string) []string {
	size := 0
	for i, value := range values {
		if size += len(value) + len(`"",`); size > maxListBytes {
			return values[:i]
		}
	}
	return values
}

// findBy returns the search attributes of a workflow that carries these.
func findBy(subjects []activities.Subject) []temporal.SearchAttributeUpdate {
	var updates []temporal.SearchAttributeUpdate
	for _, a := range attributes() {
		values := make([]string, 0, len(subjects))
		for _, s := range subjects {
			if value := a.field(s); value != "" {
				values = append(values, value)
			}
		}
		slices.Sort(values)
		values = slices.Compact(values)
		switch {
		case len(values) == 1:
			updates = append(updates, a.one.ValueSet(values[0]))
		case len(values) > 1:
			updates = append(updates, a.many.ValueSet(fitting(values)))
		}
	}
	return updates
}

// searchAttributes returns the search attributes of a workflow that carries the deliveries.
func searchAttributes(deliveries []postrider.Delivery) temporal.SearchAttributes {
	subjects := make([]activities.Subject, len(deliveries))
	for i, d := range deliveries {
		subjects[i] = activities.SubjectOf(d)
	}
	return temporal.NewSearchAttributes(findBy(subjects)...)
}

// listFailed lets a batch be found by what failed for good in it: it was started before it had most
// of its deliveries.
func (c *carrier) listFailed(ctx workflow.Context, failed []*member) error {
	if c.in.Batch == nil || workflow.GetVersion(ctx, changeListed, workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		return nil
	}
	subjects := make([]activities.Subject, 0, len(failed))
	for _, m := range failed {
		subjects = append(subjects, m.subject)
	}
	updates := findBy(subjects)
	if len(updates) == 0 {
		return nil
	}
	return workflow.UpsertTypedSearchAttributes(ctx, updates...)
}
