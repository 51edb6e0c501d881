package postrider

import "time"

// Ordering says which of a webhook's deliveries are made one at a time, in the order in which their
// events were accepted.
type Ordering string

// The orderings.
const (
	OrderingNone Ordering = "none" // none: side by side
	OrderingKey  Ordering = "key"  // those of events with the same ordering_key
	OrderingFIFO Ordering = "fifo" // all
)

// Orderings returns every ordering.
func Orderings() []Ordering { return []Ordering{OrderingNone, OrderingKey, OrderingFIFO} }

// OnExhausted says what becomes of an order when one of its deliveries has failed.
type OnExhausted string

// What may become of it.
const (
	ExhaustedSkip  OnExhausted = "skip"  // the next one goes
	ExhaustedBlock OnExhausted = "block" // the others wait until somebody retries, skips or cancels it
)

// Skipped is the LastError of a delivery that an operator skipped.
const Skipped = "skipped"

// MaxOrderingKeyLength is the longest ordering_key, in characters.
const MaxOrderingKeyLength = 256

// MaxBlockers is the most that is said of what holds up a webhook's orders.
const MaxBlockers = 10

// Blocker is a delivery that holds others of its webhook up, which are to be made after it.
type Blocker struct {
	OrderingKey *string // nil where the webhook has one order for all
	DeliveryID  string
	State       DeliveryState
	Since       time.Time // since when it does
}
