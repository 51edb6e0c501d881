// Package workflows holds the Temporal workflows and the one client through which
// the rest of the project starts, asks and cancels them: names, ids and search
// attributes never leave it as strings.
//
// Nothing but ids, policy and results goes into a workflow. Payloads and secrets
// stay in the database, where the activities read them.
//
// Workflow code that running workflows may have executed is changed only behind
// workflow.GetVersion; testdata/ holds recorded histories, and a test replays
// each against the code as it is.
package workflows

import (
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
)

// TaskQueue is the task queue of every workflow and activity.
const TaskQueue = "postrider"

// Names that stand in Temporal's histories: changing one orphans what is running.
const (
	nameDelivery = "Delivery"
	nameBatch    = "Batch"
	queryHistory = "history"
	signalReport = "attempt-report"

	nameMaintenance     = "Maintenance"
	workflowMaintenance = "maintenance" // Temporal adds the time of each run
	scheduleMaintenance = "postrider-maintenance"
)

// Types of the application errors that a Delivery workflow fails with, shown and
// filtered in Temporal's UI.
const (
	ErrorExhausted = "DeliveryExhausted" // every attempt failed, none is left
	ErrorGone      = "ReceiverGone"      // the receiver answered 410
	ErrorCalledOff = "DeliveryCalledOff" // no attempt could be made any more: webhook disabled, event expired
)

// Search attributes of a Delivery workflow.
var (
	attributeWorkspace = temporal.NewSearchAttributeKeyKeyword("PostriderWorkspace")
	attributeWebhook   = temporal.NewSearchAttributeKeyKeyword("PostriderWebhook")
	attributeEventType = temporal.NewSearchAttributeKeyKeyword("PostriderEventType")
)

// SearchAttributes returns the custom search attributes that a namespace needs
// before a workflow can be started in it, by name.
func SearchAttributes() map[string]enumspb.IndexedValueType {
	attributes := map[string]enumspb.IndexedValueType{}
	for _, key := range []temporal.SearchAttributeKey{attributeWorkspace, attributeWebhook, attributeEventType} {
		attributes[key.GetName()] = key.GetValueType()
	}
	return attributes
}
