package postrider

import (
	"strings"
	"time"
)

// A carrier is a workflow that makes attempts of deliveries, of one or of many. The
// ids of carriers begin with what they carry.
const (
	ownPrefix   = "delivery/" // one delivery, from its first attempt to its end
	batchPrefix = "batch/"    // the first attempts of many
	retryPrefix = "retry/"    // the retries of deliveries of one webhook that failed about the same time
)

// DeliveryWorkflowID returns the id of a delivery's own workflow, by which a second
// start can be told from the first.
func DeliveryWorkflowID(deliveryID string) string { return ownPrefix + deliveryID }

// BatchWorkflowID returns the id of a workflow that carries the first attempts of many
// deliveries.
func BatchWorkflowID(id string) string { return batchPrefix + id }

// RetryWorkflowID returns the id of a workflow that carries the retries of deliveries.
func RetryWorkflowID(id string) string { return retryPrefix + id }

// FirstAttemptsOnly reports whether a workflow makes first attempts only: deliveries
// that are to be retried leave it.
func FirstAttemptsOnly(workflowID string) bool { return strings.HasPrefix(workflowID, batchPrefix) }

// CancelledWith reports whether a workflow is to be cancelled when a webhook is deleted
// whose delivery it carries: it carries nothing else.
func CancelledWith(workflowID string) bool {
	return strings.HasPrefix(workflowID, ownPrefix) || strings.HasPrefix(workflowID, retryPrefix)
}

// MaxRetryMembers is the most deliveries whose retries one workflow carries: with ten
// retries of each, its history stays far below 1 MB.
const MaxRetryMembers = 128

// CarrierGrace is how much later than its time a retry may be before the dispatchers
// take its carrier for lost: the longest try of the activity fits into it.
const CarrierGrace = 2 * time.Minute

// ClaimRequest is what a dispatcher asks of a claim of first attempts.
type ClaimRequest struct {
	Limit int           // at most so many deliveries
	Lease time.Duration // for so long no other claim returns them
	// WorkflowID is the workflow that is to carry all that are claimed. With "", each
	// delivery gets one of its own.
	WorkflowID string
	// SlowWorkflowID is the one for deliveries to slow receivers, which would keep the
	// other from its end.
	SlowWorkflowID string
	// Capacity is what the claimer can begin now; nil sets no limit.
	Capacity *Capacity
}

// Capacity is how many more attempts a process can begin now, by what it knows of
// its receivers.
type Capacity struct {
	Receivers map[string]ReceiverCapacity // by webhook
	Unknown   int                         // for each webhook that Receivers does not name
	Unproven  int                         // for all webhooks together that are not named, or unproven
}

// ReceiverCapacity is how many more attempts a process can begin at a webhook.
type ReceiverCapacity struct {
	Room     int
	Unproven bool // its receiver is slow, or has not answered yet
	Slow     bool // the former
	// Ahead is how many may be claimed ahead for each attempt that is under way, to get
	// its place as soon as it is answered; UnderWay and Waiting are how many are, and how
	// many have been claimed ahead already.
	Ahead, UnderWay, Waiting int
}

// MaxAhead is the most deliveries of a webhook that a process claims ahead.
const MaxAhead = 256

// RoomAhead is how many may be claimed ahead, with so many that begin at once.
func (r ReceiverCapacity) RoomAhead(begin int) int {
	return max(min(r.Ahead*(r.UnderWay+begin), MaxAhead)-r.Waiting, 0)
}

// Dispatch is a delivery that was claimed for its first attempt.
type Dispatch struct {
	Delivery

	// Ahead says that the delivery was claimed ahead: it has no place among its webhook's
	// attempts before one of these hands it its own, see [Outcome.Successor].
	Ahead bool
	// Slow says that the receiver is a slow one: the attempt will take its time.
	Slow bool
	// Paced says that the webhook has a rate limit: more may be due in a moment.
	Paced bool
	// URL is the webhook's, for limits by host: it may hold credentials, so it goes into no
	// workflow and no log.
	URL string
}

// Alone reports whether the delivery has, or is to have, a workflow of its own.
func (d Dispatch) Alone() bool { return d.WorkflowID == DeliveryWorkflowID(d.ID) }

// HandoverRequest is what a dispatcher asks of a claim of retries.
type HandoverRequest struct {
	Limit int           // at most so many deliveries
	Lease time.Duration // for so long, and until a while after their next attempts, no other claim returns them
	Alone bool          // each gets a carrier of its own
}

// Handover is deliveries of one webhook that failed about the same time, and whose
// retries one workflow is to carry.
type Handover struct {
	WorkflowID string
	Deliveries []Delivery           // with the same policy
	Attempts   map[string][]Attempt // so far, by delivery; others' may be among them
}

// Cancellation asks for the workflow to be cancelled that carries a delivery which was
// called off in the database.
type Cancellation struct {
	DeliveryID string
	WorkflowID string
}

// Target is everything that one attempt needs.
type Target struct {
	Delivery      Delivery
	WebhookStatus WebhookStatus
	URL           string
	Headers       map[string]string
	SigningMethod SigningMethod
	Secrets       []string // live ones, current first
	Body          []byte
	MaxInFlight   int
	// EventExpired is true when the event's body is past its retention and gone.
	EventExpired bool
}

// PermitRequest asks for a retry's place among its webhook's attempts.
type PermitRequest struct {
	DeliveryID string
	WebhookID  string
	WorkflowID string        // the carrier that asks
	Hold       time.Duration // the permit ends after so long, whatever happened
	MaxWait    time.Duration // one that begins later than this is no use
}

// Permit is the answer to a [PermitRequest].
type Permit struct {
	Granted bool
	// Elsewhere says that another workflow carries the delivery by now, or that none has to.
	Elsewhere bool
	// Wait is how long the attempt must wait for its turn under the webhook's rate
	// limit; when that is why it was refused, how long until one is free.
	Wait time.Duration
}

// Outcome is an attempt together with what it means for its delivery.
type Outcome struct {
	DeliveryID  string
	WorkspaceID string
	WebhookID   string
	Attempt     Attempt
	State       DeliveryState // the delivery's state from now on
	NextAttempt *time.Time    // set when State is retrying
	// DisableWebhook, when not "", is the reason for which the webhook gets
	// disabled; what waits for it is parked.
	DisableWebhook string
	// WorkflowID is the workflow whose attempt it was; "" leaves what is stored.
	WorkflowID string
	// Successor is the delivery, claimed ahead, that has had the attempt's place since it
	// was answered; "" for none.
	Successor string
	// Leaves says that a delivery that is to be retried leaves that workflow: the
	// dispatchers hand it over to another.
	Leaves bool
}

// FinishedAt returns when the attempt ended.
func (o Outcome) FinishedAt() time.Time {
	return Timestamp(o.Attempt.StartedAt.Add(time.Duration(o.Attempt.DurationMS) * time.Millisecond))
}

// Backlog is what waits to be handed to a workflow and is due.
type Backlog struct {
	Pending  int64
	OldestAt *time.Time // when the oldest became due; nil when nothing waits
}
