package workflows

import (
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
)

// Names in Temporal's histories. A changed name orphans running workflows.
const (
	nameDelivery = "Delivery"
	nameBatch    = "Batch"
	queryHistory = "history"
	signalReport = "attempt-report"
	signalActed  = "acted"
	changeActed  = "acted" // that the workflow goes by the signal

	nameReplay    = "Replay"
	queryProgress = "progress"

	nameMaintenance = "Maintenance"
	// suffixMaintenance follows the task queue in the ids of the schedule and its workflows.
	// Temporal adds the time of each run.
	suffixMaintenance = "-maintenance"
)

// Types of the application errors with which a Delivery workflow fails. Operators see them in
// Temporal's web interface, and filter by them.
const (
	ErrorExhausted = "DeliveryExhausted" // every attempt failed
	ErrorGone      = "ReceiverGone"      // the receiver answered 410
	ErrorExpired   = "DeliveryExpired"   // it was not delivered before its event's ttl_seconds were over
	ErrorCalledOff = "DeliveryCalledOff" // the event's body is past its retention
)

// Search attributes of a Delivery workflow.
var (
	attributeWorkspace = temporal.NewSearchAttributeKeyKeyword("PostriderWorkspace")
	attributeWebhook   = temporal.NewSearchAttributeKeyKeyword("PostriderWebhook")
	attributeEventType = temporal.NewSearchAttributeKeyKeyword("PostriderEventType")
)

// SearchAttributes returns the custom search attributes by name. A namespace needs them before
// workflows can be started in it.
func SearchAttributes() map[string]enumspb.IndexedValueType {
	attributes := map[string]enumspb.IndexedValueType{}
	for _, key := range []temporal.SearchAttributeKey{attributeWorkspace, attributeWebhook, attributeEventType} {
		attributes[key.GetName()] = key.GetValueType()
	}
	return attributes
}
