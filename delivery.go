package postrider

import (
	"net/http"
	"slices"
	"time"
)

// DeliveryState says where a delivery is in its life.
type DeliveryState string

// The states, see the picture in the package's doc.
const (
	StatePending    DeliveryState = "pending"    // accepted, its workflow not started
	StateDelivering DeliveryState = "delivering" // handed to its workflow, first attempt not ended
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

// Result says how an attempt ended. The words are few and fixed, so that metrics
// can be labelled with them.
type Result string

// The results.
const (
	ResultSuccess     Result = "success"      // 2xx
	ResultRedirect    Result = "redirect"     // 3xx: not followed
	ResultClientError Result = "client_error" // 4xx
	ResultServerError Result = "server_error" // 5xx
	ResultTimeout     Result = "timeout"      // timeout_ms was over before the answer had ended
	ResultDNS         Result = "dns"          // the name did not resolve
	ResultConnect     Result = "connect"      // refused, reset or unreachable before a request was sent
	ResultTLS         Result = "tls"          // handshake or certificate
	ResultBlocked     Result = "blocked"      // the address may not be delivered to
	ResultProtocol    Result = "protocol"     // not an HTTP answer, or cut off
	ResultCancelled   Result = "cancelled"    // the delivery was called off before the attempt
)

// Results returns every result.
func Results() []Result {
	return []Result{
		ResultSuccess, ResultRedirect, ResultClientError, ResultServerError, ResultTimeout, ResultDNS,
		ResultConnect, ResultTLS, ResultBlocked, ResultProtocol, ResultCancelled,
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
	Policy        Policy // of the webhook when the event was accepted
	AttemptCount  int
	NextAttemptAt *time.Time // set while retrying
	LastError     *string    // why the latest failed attempt failed
	ReplayOf      *string    // the delivery that this one repeats
	CreatedAt     time.Time
	DueAt         time.Time // when the first attempt is due: CreatedAt, or the event's later DeliverAt
	FinishedAt    *time.Time
	WorkflowID    string // "" while no workflow was started for it
	// TraceContext is its publish's, see [Publication].
	TraceContext string
}

// What the ids of workflows begin with.
const (
	workflowIDPrefix      = "delivery/"
	batchWorkflowIDPrefix = "batch/"
)

// DeliveryWorkflowID returns the id of a delivery's own workflow, by which a second
// start can be told from the first.
func DeliveryWorkflowID(deliveryID string) string { return workflowIDPrefix + deliveryID }

// BatchWorkflowID returns the id of a workflow that carries many deliveries.
func BatchWorkflowID(batchID string) string { return batchWorkflowIDPrefix + batchID }

// MaxExcerpt is the most of a response body that is read and kept, in bytes.
const MaxExcerpt = 16 << 10

// Attempt is one POST, as it is shown to people and kept in the database.
// Temporal carries it too, without the response's text.
type Attempt struct {
	Number            int       `json:"number" doc:"1 is the first."`
	StartedAt         time.Time `json:"started_at"`
	DurationMS        int64     `json:"duration_ms" doc:"From before connecting to the end of the response body."`
	StatusCode        *int      `json:"status_code" doc:"Null without an answer."`
	Result            Result    `json:"result" enum:"success,redirect,client_error,server_error,timeout,dns,connect,tls,blocked,protocol,cancelled"`
	Error             *string   `json:"error" doc:"What went wrong, in words; null after a success."`
	ResponseExcerpt   *string   `json:"response_excerpt" doc:"The response body's first 16 KiB, as UTF-8; null without an answer and in a history answered by the workflow, which holds no bodies."`
	ResponseTruncated bool      `json:"response_truncated" doc:"The response body was longer than what was kept."`
	RemoteIP          *string   `json:"remote_ip" doc:"The address dialled; null when none was."`
}

// Gone reports whether the receiver asked for no more deliveries at all: 410.
func (a Attempt) Gone() bool { return a.StatusCode != nil && *a.StatusCode == http.StatusGone }

// WithoutBody returns the attempt without the response's text: what may go into
// Temporal's history.
func (a Attempt) WithoutBody() Attempt {
	a.ResponseExcerpt = nil
	return a
}

// MergeAttempts returns known with the attempts of news that it lacks, by number,
// in order. The same attempt may arrive on several ways, or twice on one.
func MergeAttempts(known []Attempt, news ...Attempt) []Attempt {
	merged := slices.Clone(known)
	for _, a := range news {
		at, found := slices.BinarySearchFunc(merged, a.Number, func(b Attempt, n int) int { return b.Number - n })
		if !found {
			merged = slices.Insert(merged, at, a)
		}
	}
	return merged
}

// ClaimRequest is what a dispatcher asks of a claim.
type ClaimRequest struct {
	Limit int           // at most so many deliveries
	Lease time.Duration // for so long no other claim returns them
	// BatchID is the id of the workflow that is to carry the first attempts of all that
	// are claimed together, if these are BatchMin or more. With "", and with fewer, each
	// delivery gets a workflow of its own.
	BatchID  string
	BatchMin int
	// Room returns how many more deliveries of a webhook the claimer can take now, and
	// whether its receiver is slow: these join no batch, which would last as long as they
	// do. It must be quick, as it is asked inside the claim's transaction, once for a
	// webhook. nil sets no limit.
	Room func(webhookID, url string) (room int, slow bool)
}

// Dispatch is a delivery that was claimed for its workflow to be started.
type Dispatch struct {
	DeliveryID  string
	WorkspaceID string
	WebhookID   string
	EventType   string
	Policy      Policy
	AcceptedAt  time.Time
	// TraceContext is the delivery's publish's, see [Publication].
	TraceContext string
	// WorkflowID is the workflow that is to carry the delivery: its own, or one that
	// carries the first attempts of many.
	WorkflowID string
	// Slow says that the receiver is a slow one: the first attempt will take its time.
	Slow bool
	// Attempted says that a workflow of many made the first attempt, which did not
	// succeed: from there on the delivery goes on in its own.
	Attempted bool
	// Cancel asks for the running workflow to be cancelled instead: the delivery
	// was called off in the database.
	Cancel bool
	// URL is the webhook's, for limits by host: it may hold credentials, so it goes into no
	// workflow and no log. "" where the workflow makes no request when it is started.
	URL string
	// Target waits for what the first attempt needs, and returns nil when that must be read
	// again. It never goes into the workflow: it holds the payload and secrets. nil where
	// the workflow makes no request when it is started.
	Target func() *Target
}

// Alone reports whether the delivery has, or is to have, a workflow of its own.
func (d Dispatch) Alone() bool { return d.WorkflowID == DeliveryWorkflowID(d.DeliveryID) }

// Target is everything that one attempt needs.
type Target struct {
	Delivery      Delivery
	WebhookStatus WebhookStatus
	URL           string
	Headers       map[string]string
	SigningMethod SigningMethod
	Secrets       []string // live ones, current first
	Body          []byte
	// EventExpired is true when the event's body is past its retention and gone.
	EventExpired bool
}

// Ask is how a retry asks for a place among its webhook's attempts.
type Ask struct {
	Hold    time.Duration // the place is given up after so long, whatever happened
	MaxWait time.Duration // a place that begins later than this is no use
	Again   time.Duration // after about so long it asks again if it is refused
}

// Admission is the answer to an [Ask].
type Admission struct {
	Granted bool
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
	// WorkflowID is the workflow whose attempt it was; "" leaves what is stored. When that
	// carries many deliveries, one that did not succeed goes back to the dispatchers for
	// a workflow of its own.
	WorkflowID string
}

// WantsOwn reports whether the delivery goes back for a workflow of its own.
func (o Outcome) WantsOwn() bool {
	return o.State != StateSucceeded && o.WorkflowID != "" && o.WorkflowID != DeliveryWorkflowID(o.DeliveryID)
}

// FinishedAt returns when the attempt ended.
func (o Outcome) FinishedAt() time.Time {
	return Timestamp(o.Attempt.StartedAt.Add(time.Duration(o.Attempt.DurationMS) * time.Millisecond))
}
