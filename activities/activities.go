package activities

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/trace"
	"go.temporal.io/sdk/activity"

	"postrider.dev/postrider"
	"postrider.dev/postrider/shaping"
)

// Store is the activities' view of the database.
type Store interface {
	// Targets returns the deliveries' targets, in their order. It leaves unknown deliveries
	// out.
	Targets(ctx context.Context, deliveryIDs []string) ([]postrider.Target, error)
	// Carried returns the deliveries whose first attempts are the workflow's to make.
	Carried(ctx context.Context, workflowID string) ([]string, error)
	// AttemptsOf returns the recorded attempts by delivery, in the order of their numbers and
	// without response bodies.
	AttemptsOf(ctx context.Context, deliveryIDs []string) (map[string][]postrider.Attempt, error)
	// Record commits attempts and their deliveries' new states. Returns
	// [postrider.CodeConflict], and changes nothing, for an attempt that another call has
	// recorded or whose delivery is finished.
	Record(ctx context.Context, outcomes []postrider.Outcome) error
	// AcquirePermit asks for a retry's permit under its webhook's limits.
	AcquirePermit(ctx context.Context, request postrider.PermitRequest) (postrider.Permit, error)
	// ReleasePermit ends the permit of a retry that made no attempt.
	ReleasePermit(ctx context.Context, deliveryID string) error
	// Leave makes retries that the workflow carries ready for another workflow.
	Leave(ctx context.Context, workflowID string, deliveryIDs []string) error
	// Keep says that the workflow goes on carrying retries, and attempts them after the time.
	Keep(ctx context.Context, workflowID string, deliveryIDs []string, until time.Time) error
	// Park parks an unfinished delivery that the workflow carries. It does nothing when another
	// workflow does.
	Park(ctx context.Context, workflowID string, d postrider.Delivery) error
	// FailExpired fails a delivery that the workflow carries and whose time is over. It reports
	// false, and does nothing, when another workflow does, or the delivery is finished.
	FailExpired(ctx context.Context, workflowID, deliveryID string, now time.Time) (failed bool, err error)
	// CancelDelivery cancels an unfinished delivery that the workflow carries. It does nothing
	// when another workflow does.
	CancelDelivery(ctx context.Context, workflowID, deliveryID string) error
}

// Process is the activities' view of this process's dispatcher.
type Process interface {
	// Feed returns the deliveries that this process claims for a workflow's first attempts,
	// once; nil when another process claims them.
	Feed(workflowID string) Feed
	// Reserve waits for one of the process's slots for a retry. It returns an error only when
	// ctx is done.
	Reserve(ctx context.Context, target postrider.Target) error
	// Began says that a retry begins, which has its slot and its permit.
	Began(deliveryID string)
	// Answered says that a first attempt was answered, and whether it succeeded, or that it will
	// not be made. It returns the delivery that was claimed ahead and gets the attempt's permit;
	// "" when no delivery waits.
	Answered(deliveryID string, succeeded bool) (successor string)
	// Done says that a delivery's attempt has ended, or will not be made.
	Done(deliveryID string)
}

// Feed brings deliveries for their first attempts.
type Feed interface {
	// Next waits for deliveries. It returns an empty list when the feed has ended or ctx is
	// done.
	Next(ctx context.Context) []Arrival
}

// Arrival is a delivery of a [Feed]. Target is nil when the activity has to read it. ReadAt is
// when Target was read; zero when it was read just now.
type Arrival struct {
	DeliveryID string
	Target     *postrider.Target
	ReadAt     time.Time
}

// maxTargetAge is how old a target may be when its attempt begins. Meanwhile the delivery may
// have been cancelled, or its webhook changed.
const maxTargetAge = 2 * time.Second

// freshTarget returns the target; nil when the activity has to read it.
func (a Arrival) freshTarget(now time.Time) *postrider.Target {
	if !a.ReadAt.IsZero() && now.Sub(a.ReadAt) > maxTargetAge {
		return nil
	}
	return a.Target
}

// Reporter reports attempts to a running Delivery workflow, so that its query includes them
// before the activity ends.
type Reporter interface {
	Report(ctx context.Context, workflowID, runID string, reports Reports) error
}

// Config configures [New]. A field is required unless its comment says otherwise.
type Config struct {
	Store    Store
	Poster   Poster
	Reporter Reporter
	Metrics  *Metrics
	Logger   *slog.Logger
	Now      func() time.Time
	Random   func() float64 // 0 to 1, for jitter
	// Process is the dispatcher of this process. Optional: without it, activities read their
	// deliveries from the database, and only the webhooks' limits apply.
	Process Process
	// Tracer makes spans of attempts. Optional: without it attempts are not traced.
	Tracer trace.Tracer
	// TraceReceivers sends an attempt's trace context to its receiver, as traceparent
	// and tracestate.
	TraceReceivers bool
}

// Activities are the Temporal activities of a delivery. Workflows name them by
// method values of a nil *Activities.
type Activities struct {
	Config
	shaper *shaping.Shaper
	outage outage
}

// New returns the activities.
func New(config Config) *Activities {
	if config.Process == nil {
		config.Process = noDispatcher{}
	}
	return &Activities{Config: config, shaper: shaping.New()}
}

// noDispatcher is the [Process] without a dispatcher.
type noDispatcher struct{}

func (noDispatcher) Feed(string) Feed                                { return nil }
func (noDispatcher) Reserve(context.Context, postrider.Target) error { return nil }
func (noDispatcher) Began(string)                                    {}
func (noDispatcher) Answered(string, bool) string                    { return "" }
func (noDispatcher) Done(string)                                     {}

// Report is the state of a delivery after the attempts of an activity.
type Report struct {
	DeliveryID string                  `json:"delivery_id"`
	State      postrider.DeliveryState `json:"state"`
	// Attempts are the new attempts, or all: the workflow merges them by number.
	Attempts      []postrider.Attempt `json:"attempts,omitempty"`
	NextAttemptAt *time.Time          `json:"next_attempt_at,omitempty"` // set when State is retrying
	// Left says that this workflow does not carry the delivery any more.
	Left bool `json:"left,omitempty"`
	// Expired says that the delivery failed because it expired.
	Expired bool `json:"expired,omitempty"`
	// Policy is the delivery's policy, unless its workflow knows it.
	Policy *postrider.Policy `json:"policy,omitempty"`
	// Subject says what failed for good, for whoever looks at its workflow.
	Subject *Subject `json:"subject,omitempty"`
}

// Subject is what a delivery brings, and where.
type Subject struct {
	WorkspaceID string `json:"workspace_id,omitempty"`
	WebhookID   string `json:"webhook_id,omitempty"`
	EventID     string `json:"event_id,omitempty"`
	EventType   string `json:"event_type,omitempty"`
}

// SubjectOf returns a delivery's subject.
func SubjectOf(d postrider.Delivery) Subject {
	return Subject{WorkspaceID: d.WorkspaceID, WebhookID: d.WebhookID, EventID: d.EventID, EventType: d.EventType}
}

// about returns the report with its subject, if the delivery failed for good.
func (r Report) about(d postrider.Delivery) Report {
	if r.State == postrider.StateFailed {
		subject := SubjectOf(d)
		r.Subject = &subject
	}
	return r
}

// Reports are the result of an activity, or the content of a signal.
type Reports []Report

// UnmarshalJSON accepts a single report as a list of one, as in histories of earlier versions.
func (r *Reports) UnmarshalJSON(text []byte) error {
	if bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) {
		*r = make(Reports, 1)
		return json.Unmarshal(text, &(*r)[0])
	}
	return json.Unmarshal(text, (*[]Report)(r))
}

// Cancel records that a delivery's workflow was cancelled.
func (a *Activities) Cancel(ctx context.Context, deliveryID string) error {
	err := a.Store.CancelDelivery(ctx, activity.GetInfo(ctx).WorkflowExecution.ID, deliveryID)
	if postrider.CodeOf(err) == postrider.CodeNotFound {
		return nil // there is no delivery to cancel
	}
	return err
}

// CancelAll records that a workflow of several deliveries was cancelled.
func (a *Activities) CancelAll(ctx context.Context, deliveryIDs []string) error {
	for _, id := range deliveryIDs {
		if err := a.Cancel(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// storedReport returns a report of the stored attempts.
func (a *Activities) storedReport(ctx context.Context, d postrider.Delivery) (Report, error) {
	attempts, err := a.Store.AttemptsOf(ctx, []string{d.ID})
	return Report{
		DeliveryID: d.ID, State: d.State, Attempts: attempts[d.ID], NextAttemptAt: d.NextAttemptAt, Expired: d.HasExpired(),
	}, err
}
