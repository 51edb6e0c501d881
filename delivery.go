package postrider

import (
	"net/http"
	"slices"
	"time"
)

// DeliveryState says where a delivery is in its life.
type DeliveryState string

// The states. The package documentation draws how they follow each other.
const (
	StatePending    DeliveryState = "pending"    // accepted; no workflow carries it
	StateDelivering DeliveryState = "delivering" // carried by a workflow; the first attempt has not ended
	StateRetrying   DeliveryState = "retrying"   // an attempt failed, another will be made
	StateParked     DeliveryState = "parked"     // waits for its webhook to be active
	StateSucceeded  DeliveryState = "succeeded"
	StateFailed     DeliveryState = "failed"
	StateCancelled  DeliveryState = "cancelled"
)

// DeliveryStates returns every state.
func DeliveryStates() []DeliveryState {
	return []DeliveryState{StatePending, StateDelivering, StateRetrying, StateParked, StateSucceeded, StateFailed, StateCancelled}
}

// Finished reports whether the state is final.
func (s DeliveryState) Finished() bool {
	return s == StateSucceeded || s == StateFailed || s == StateCancelled
}

// Result says how an attempt ended. There are few results, so that they can label metrics.
type Result string

// The results.
const (
	ResultSuccess     Result = "success"      // 2xx
	ResultRedirect    Result = "redirect"     // 3xx: not followed
	ResultClientError Result = "client_error" // 4xx
	ResultServerError Result = "server_error" // 5xx
	ResultTimeout     Result = "timeout"      // the answer did not end within timeout_ms
	ResultDNS         Result = "dns"          // the name did not resolve
	ResultConnect     Result = "connect"      // refused, reset or unreachable before a request was sent
	ResultTLS         Result = "tls"          // handshake or certificate
	ResultBlocked     Result = "blocked"      // the address may not be delivered to
	ResultProtocol    Result = "protocol"     // not an HTTP answer, or cut off
	ResultCancelled   Result = "cancelled"    // no request was made, because the delivery was cancelled
	ResultTransform   Result = "transform"    // no request was made, because the webhook's transform failed on the event
)

// Results returns every result.
func Results() []Result {
	return []Result{
		ResultSuccess, ResultRedirect, ResultClientError, ResultServerError, ResultTimeout, ResultDNS,
		ResultConnect, ResultTLS, ResultBlocked, ResultProtocol, ResultCancelled, ResultTransform,
	}
}

// Delivery is one event on its way to one webhook.
type Delivery struct {
	ID            string
	WorkspaceID   string
	WebhookID     string
	EventID       string // public id of the event
	EventKey      string // key of the event, see [Event]
	EventType     string
	State         DeliveryState
	Policy        Policy // the webhook's when the event was accepted
	AttemptCount  int
	NextAttemptAt *time.Time // set while retrying
	LastError     *string    // why the latest failed attempt failed
	ReplayOf      *string    // the delivery that this one repeats
	CreatedAt     time.Time
	DueAt         time.Time  // when the first attempt is due: CreatedAt, or the event's later DeliverAt
	ExpiresAt     *time.Time // no attempt begins at or after it; nil means never
	FinishedAt    *time.Time
	WorkflowID    string // "" before its first workflow
	// HeldAt is when an operator paused the delivery; nil when it is not paused. While an attempt
	// is under way it has its state still, afterwards it is parked.
	HeldAt *time.Time
	// TraceContext is the trace context of the publish, see [Publication].
	TraceContext string
	// ShapeID names what is sent of the event, see [Shape]; "" is the envelope.
	ShapeID string
	// Lane is the queue of deliveries that are made one at a time; "" without an order.
	Lane string
	// BlockedBy is the delivery whose turn it is before this one's; "" for none. Only one that is read
	// singly has it.
	BlockedBy string
}

// Terms returns what an operator can change of the delivery.
func (d Delivery) Terms() Terms { return Terms{d.Policy, d.ExpiresAt} }

// ExpiredBy reports whether it is too late for the delivery at the time.
func (d Delivery) ExpiredBy(now time.Time) bool {
	return expired(d.ExpiresAt, now)
}

// expired reports whether an expiry, if there is one, is not later than the time.
func expired(at *time.Time, now time.Time) bool { return at != nil && !now.Before(*at) }

// HasExpired reports whether the delivery failed because its event expired.
func (d Delivery) HasExpired() bool {
	return d.State == StateFailed && d.LastError != nil && *d.LastError == Expired
}

// MaxExcerpt is how much of a response body is read and kept, in bytes.
const MaxExcerpt = 16 << 10

// Attempt is one POST, as the API shows it and the database keeps it. Temporal gets it without
// the response's text.
type Attempt struct {
	Number            int       `json:"number" doc:"1 is the first."`
	StartedAt         time.Time `json:"started_at"`
	DurationMS        int64     `json:"duration_ms" doc:"From before connecting to the end of the response body."`
	StatusCode        *int      `json:"status_code" doc:"Null without an answer."`
	Result            Result    `json:"result" enum:"success,redirect,client_error,server_error,timeout,dns,connect,tls,blocked,protocol,cancelled,transform"`
	Error             *string   `json:"error" doc:"What went wrong, in words; null after a success."`
	ResponseExcerpt   *string   `json:"response_excerpt" doc:"The response body's first 16 KiB, as UTF-8; null without an answer and in a history answered by the workflow, which holds no bodies."`
	ResponseTruncated bool      `json:"response_truncated" doc:"The response body was longer than what was kept."`
	RemoteIP          *string   `json:"remote_ip" doc:"The address dialled; null when none was."`
}

// Gone reports whether the receiver answered 410: it wants no more deliveries.
func (a Attempt) Gone() bool { return a.StatusCode != nil && *a.StatusCode == http.StatusGone }

// WithoutBody returns the attempt without the response's text, which must not go into
// Temporal's history.
func (a Attempt) WithoutBody() Attempt {
	a.ResponseExcerpt = nil
	return a
}

// MergeAttempts returns the known attempts and the new ones, each number once, in order. The
// same attempt can be reported more than once; the known one stays.
func MergeAttempts(known []Attempt, reported ...Attempt) []Attempt {
	merged := slices.Clone(known)
	for _, a := range reported {
		at, found := slices.BinarySearchFunc(merged, a.Number, func(b Attempt, n int) int { return b.Number - n })
		if !found {
			merged = slices.Insert(merged, at, a)
		}
	}
	return merged
}

// DeliveryFilter selects deliveries for a list. A zero field selects all. WebhookID or EventID
// must be set.
type DeliveryFilter struct {
	WebhookID string
	EventID   string // public id
	State     DeliveryState
	EventType string
	Since     time.Time // created at or after
	Until     time.Time // created before
}

// DeliverySearch selects deliveries of a whole workspace. A zero field selects all.
type DeliverySearch struct {
	WebhookID  string
	States     []DeliveryState // any of them
	EventType  string
	Result     Result // of the latest attempt
	StatusCode int    // of the latest attempt
	Since      time.Time
	Until      time.Time
}

// History is a delivery's attempts and state as its workflow knows them: the answer to the
// Temporal query "history".
type History struct {
	State         DeliveryState `json:"state"`
	Policy        Policy        `json:"policy"`
	Attempts      []Attempt     `json:"attempts"`
	NextAttemptAt *time.Time    `json:"next_attempt_at"`
	RunID         string        `json:"run_id"`
}
