package postrider

import (
	"strings"
	"time"
)

// A carrier is a workflow that makes attempts of one or many deliveries. The prefix of its id
// says what it carries.
const (
	ownPrefix   = "delivery/" // one delivery, from its first attempt to its end
	batchPrefix = "batch/"    // the first attempts of many deliveries
	retryPrefix = "retry/"    // the retries of deliveries of one webhook that failed about the same time
)

// DeliveryWorkflowID returns the id of a delivery's own workflow. It depends on the delivery
// alone, so that Temporal refuses a second start.
func DeliveryWorkflowID(deliveryID string) string { return ownPrefix + deliveryID }

// BatchWorkflowID returns the id of a workflow that carries the first attempts of many
// deliveries.
func BatchWorkflowID(id string) string { return batchPrefix + id }

// RetryWorkflowID returns the id of a workflow that carries the retries of deliveries.
func RetryWorkflowID(id string) string { return retryPrefix + id }

// FirstAttemptsOnly reports whether a workflow makes first attempts only. Deliveries that will
// be retried leave such a workflow.
func FirstAttemptsOnly(workflowID string) bool { return strings.HasPrefix(workflowID, batchPrefix) }

// CancelledWith reports whether a workflow is cancelled when the webhook of a delivery that it
// carries is deleted. That holds for workflows that carry deliveries of one webhook.
func CancelledWith(workflowID string) bool {
	return strings.HasPrefix(workflowID, ownPrefix) || strings.HasPrefix(workflowID, retryPrefix)
}

// CarriesOne reports whether a workflow carries one delivery and no other.
func CarriesOne(workflowID string) bool { return strings.HasPrefix(workflowID, ownPrefix) }

// MaxRetryMembers is the most deliveries whose retries one workflow carries. With ten retries
// of each, the workflow's history stays far below 1 MB.
const MaxRetryMembers = 128

// CarrierGrace is how late a retry may be before the dispatchers consider its carrier lost. It
// is longer than the longest try of the activity.
const CarrierGrace = 2 * time.Minute

// ClaimRequest is a dispatcher's request for deliveries that are due for their first attempt.
type ClaimRequest struct {
	Limit int           // most deliveries to claim
	Lease time.Duration // how long no other claim returns them
	// WorkflowID is the workflow that will carry all claimed deliveries. With "", each
	// delivery gets a workflow of its own.
	WorkflowID string
	// SlowWorkflowID is the workflow for deliveries to slow receivers. In the other workflow
	// they would delay its end.
	SlowWorkflowID string
	// Capacity is how many attempts the process can begin now; nil means no limit.
	Capacity *Capacity
}

// Capacity is how many more attempts a process can begin now, by what it knows about
// receivers.
type Capacity struct {
	Receivers map[string]ReceiverCapacity // by webhook
	Unknown   int                         // for each webhook that is not in Receivers
	Unproven  int                         // for all webhooks together that are unproven or not in Receivers
}

// ReceiverCapacity is how many more attempts a process can begin at a webhook.
type ReceiverCapacity struct {
	Room     int
	Unproven bool // the receiver is slow, or has not answered yet
	Slow     bool // the receiver is slow
	// Ahead is how many deliveries may be claimed ahead for each attempt in flight. One of
	// them takes over its permit as soon as it is answered. UnderWay is the number of attempts
	// in flight, and Waiting the number of deliveries claimed ahead so far.
	Ahead, UnderWay, Waiting int
}

// MaxAhead is the most deliveries of a webhook that a process claims ahead.
const MaxAhead = 256

// RoomAhead returns how many more deliveries may be claimed ahead when begin more attempts
// begin now.
func (r ReceiverCapacity) RoomAhead(begin int) int {
	return max(min(r.Ahead*(r.UnderWay+begin), MaxAhead)-r.Waiting, 0)
}

// Dispatch is a delivery that was claimed for its first attempt.
type Dispatch struct {
	Delivery

	// Ahead says that the delivery was claimed ahead. It has no permit until an attempt of its
	// webhook is answered and passes its permit on, see [Outcome.Successor].
	Ahead bool
	// Slow says that the receiver is slow, so that the attempt will take long.
	Slow bool
	// Paced says that the webhook has a rate limit, so that more deliveries may be due soon.
	Paced bool
	// URL is the webhook's, for limits by host. It may hold credentials, so it must not go
	// into a workflow or a log.
	URL string
}

// Alone reports whether the delivery has, or will have, a workflow of its own.
func (d Dispatch) Alone() bool { return d.WorkflowID == DeliveryWorkflowID(d.ID) }

// HandoverRequest is a dispatcher's request for failed deliveries that need a carrier.
type HandoverRequest struct {
	Limit int           // most deliveries to return
	Lease time.Duration // how long no other claim returns them; at least until a while after their next attempts
	Alone bool          // each delivery gets a carrier of its own
}

// Handover is deliveries of one webhook that failed about the same time. One workflow will
// carry their retries.
type Handover struct {
	WorkflowID string
	Deliveries []Delivery           // with the same policy
	Attempts   map[string][]Attempt // so far, by delivery; it may hold other deliveries too
	// URL is the webhook's. It may hold credentials, so no more than its host may go into a
	// workflow or a log.
	URL string
}

// Cancellation asks to cancel a workflow that carries a delivery which the database has
// cancelled.
type Cancellation struct {
	DeliveryID string
	WorkflowID string
}

// Target is the data that one attempt needs.
type Target struct {
	Delivery      Delivery
	WebhookStatus WebhookStatus
	URL           string
	Headers       map[string]string // the webhook's
	EventHeaders  map[string]string // the event's own, which win over the webhook's
	TLS           *WebhookTLS       // the webhook's own; nil for none
	SigningMethod SigningMethod
	Secrets       SecretVersions // those that sign now or will
	Body          []byte         // of the event, see [RenderBody]
	Shape         Shape          // what is sent of it
	MaxInFlight   int
	// EventExpired is true when the event's body is past its retention and gone.
	EventExpired bool
	// Failure says why this process can make no attempt, such as a secret that it cannot decrypt;
	// nil when it can. It is no failure of the receiver, and nothing is recorded.
	Failure error
}

// PermitRequest asks for the permit of a retry: its share of the webhook's max_in_flight and
// rate_limit.
type PermitRequest struct {
	DeliveryID string
	WebhookID  string
	WorkflowID string        // the carrier that asks
	Hold       time.Duration // after this the permit ends by itself
	MaxWait    time.Duration // a permit for a later time is of no use
}

// Permit is the answer to a [PermitRequest].
type Permit struct {
	Granted bool
	// Elsewhere says that another workflow carries the delivery by now, or that it has ended.
	Elsewhere bool
	// Wait is how long the attempt must wait because of the webhook's rate limit. When the
	// rate limit is why the permit was refused, it is the time until a permit is free.
	Wait time.Duration
}

// Outcome is an attempt and what it means for its delivery.
type Outcome struct {
	DeliveryID  string
	WorkspaceID string
	WebhookID   string
	Attempt     Attempt
	State       DeliveryState // the delivery's state from now on
	NextAttempt *time.Time    // set when State is retrying
	// Expired says that the delivery failed because its next attempt would come too late.
	Expired bool
	// Policy, RetryAfter and ExpiresAt are what State was judged by. If the delivery has other
	// terms by the time of the record, it is judged anew.
	Policy     Policy
	RetryAfter time.Duration
	ExpiresAt  *time.Time
	// DisableWebhook, when not "", is the reason why the webhook is disabled. Its waiting
	// deliveries are parked.
	DisableWebhook string
	// Unblamed says that the failure may be this side's, and does not count towards the webhook's health.
	Unblamed bool
	// WorkflowID is the workflow that made the attempt; "" keeps the stored one.
	WorkflowID string
	// Successor is the delivery, claimed ahead, that took over the attempt's permit when it was
	// answered; "" without one.
	Successor string
	// Leaves says that the delivery will be retried and leaves its workflow: the dispatchers
	// hand it over to another workflow.
	Leaves bool
}

// Judged returns the outcome with what the verdict says. A delivery whose next attempt would come too
// late fails at once.
func (o Outcome) Judged(v Verdict) Outcome {
	o.State, o.NextAttempt, o.Expired = v.State, nil, false
	if v.State == StateRetrying {
		next := Timestamp(o.FinishedAt().Add(v.Wait))
		if expired(o.ExpiresAt, next) {
			o.State, o.Expired = StateFailed, true
		} else {
			o.NextAttempt = &next
		}
	}
	if v.Gone {
		o.DisableWebhook = DisabledGone
	}
	return o
}

// FinishedAt returns when the attempt ended.
func (o Outcome) FinishedAt() time.Time {
	return Timestamp(o.Attempt.StartedAt.Add(time.Duration(o.Attempt.DurationMS) * time.Millisecond))
}

// CountsForHealth reports whether the attempt says something about its receiver. One without a request (its
// address may not be delivered to, say), or whose failure may be this side's, does not. Nor does a 410, which
// is an answer and has its own effect.
func (o Outcome) CountsForHealth() bool {
	switch o.Attempt.Result {
	case ResultBlocked, ResultCancelled, ResultTransform:
		return false
	default:
		return !o.Unblamed && !o.Attempt.Gone()
	}
}

// Backlog is the deliveries that are due and that no workflow carries yet.
type Backlog struct {
	Pending  int64
	OldestAt *time.Time // when the oldest one became due; nil without any
	// Open is how many webhooks' circuits are open. What waits behind them is not among Pending.
	Open int64
}
