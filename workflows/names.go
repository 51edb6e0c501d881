package workflows

// Names in Temporal's histories. A changed name orphans running workflows.
const (
	nameDelivery = "Delivery"
	nameBatch    = "Batch"
	queryHistory = "history"
	signalReport = "attempt-report"
	signalActed  = "acted"
	changeActed  = "acted"    // that the workflow goes by the signal
	changeListed = "findable" // that a batch lists what failed in its search attributes

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
