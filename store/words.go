package store

import "postrider.dev/postrider"

// outboxKind says what an outbox row asks for.
type outboxKind string

// The kinds of outbox rows; outbox.go draws their states.
const (
	kindStart  outboxKind = "start"  // a first attempt
	kindRetry  outboxKind = "retry"  // a carrier for a delivery that failed
	kindCancel outboxKind = "cancel" // the cancellation of a workflow
)

// outboxKinds returns every kind.
func outboxKinds() []outboxKind { return []outboxKind{kindStart, kindRetry, kindCancel} }

// keyKind says what an idempotency key stands for.
type keyKind string

// The kinds of idempotency keys.
const (
	perRequest keyKind = "key" // a publication, by its Idempotency-Key
	perEvent   keyKind = "id"  // one event, by its publisher's id
)

// keyKinds returns every kind.
func keyKinds() []keyKind { return []keyKind{perRequest, perEvent} }

// The words as they stand in SQL. They are literals and not parameters because PostgreSQL
// and SQLite use a partial index only for a statement whose text has the index's
// condition.
const (
	sqlStart  = "'" + string(kindStart) + "'"
	sqlRetry  = "'" + string(kindRetry) + "'"
	sqlCancel = "'" + string(kindCancel) + "'"

	sqlPending    = "'" + string(postrider.StatePending) + "'"
	sqlDelivering = "'" + string(postrider.StateDelivering) + "'"
	sqlRetrying   = "'" + string(postrider.StateRetrying) + "'"
	sqlParked     = "'" + string(postrider.StateParked) + "'"

	sqlBlock = "'" + string(postrider.ExhaustedBlock) + "'"

	sqlActive   = "'" + string(postrider.WebhookActive) + "'"
	sqlDisabled = "'" + string(postrider.WebhookDisabled) + "'"

	// openReplay is the condition of the index replays_open.
	openReplay = "state IN ('" + string(postrider.ReplayRunning) + "', '" + string(postrider.ReplayPaused) + "')"
)
