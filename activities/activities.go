// Package activities makes the attempts: it loads what a delivery needs, signs,
// POSTs, and records what came of it.
//
// Invariants:
//   - A receiver's refusal is a result, never an error of an activity's own: only
//     a failure of ours (the database away, a shutdown) is.
//   - An activity returns when the attempt's row is committed. A re-run, after a
//     crash between the commit and the return, finds the row and does not POST
//     again; a crash before the commit repeats the attempt under the same number.
//   - What an activity returns goes into Temporal's history, so it holds ids,
//     states and results, and no payload, secret or response text.
package activities

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/trace"

	"postrider.dev/postrider"
)

// Store is what the activities need of the database.
type Store interface {
	// Targets returns what an attempt of each delivery needs, in the order asked and
	// without those that are unknown.
	Targets(ctx context.Context, deliveryIDs []string) ([]postrider.Target, error)
	// Carried returns the deliveries whose first attempts the workflow is to make.
	Carried(ctx context.Context, workflowID string) ([]string, error)
	// AttemptsOf returns the attempts recorded for deliveries, by delivery and in the
	// order of their numbers, without response bodies.
	AttemptsOf(ctx context.Context, deliveryIDs []string) (map[string][]postrider.Attempt, error)
	// Record commits attempts and what they mean for their deliveries. Returns
	// [postrider.CodeConflict] for one that another call recorded before, or whose
	// delivery was finished before: what is stored stands.
	Record(ctx context.Context, outcomes []postrider.Outcome) error
	// AcquirePermit asks for a place for a retry under its webhook's limits.
	AcquirePermit(ctx context.Context, request postrider.PermitRequest) (postrider.Permit, error)
	// ReleasePermit gives up the place of a retry that made no attempt.
	ReleasePermit(ctx context.Context, deliveryID string) error
	// Leave makes retries that the workflow carries ready for another.
	Leave(ctx context.Context, workflowID string, deliveryIDs []string) error
	// Keep says that the workflow goes on carrying retries that it will not attempt
	// before the time.
	Keep(ctx context.Context, workflowID string, deliveryIDs []string, until time.Time) error
	// CancelDelivery makes an unfinished delivery cancelled.
	CancelDelivery(ctx context.Context, deliveryID string) error
}

// Process is what the activities need of the process that they run in.
type Process interface {
	// Feed returns what the process claims for a workflow's first attempts, once; nil
	// when that is not this process's.
	Feed(workflowID string) Feed
	// Reserve waits for a place for an attempt among the process's. It returns an error
	// only when ctx is done.
	Reserve(ctx context.Context, target postrider.Target) error
	// Began is told each delivery that makes the attempt for which it reserved a place.
	Began(deliveryID string)
	// Answered is told each first attempt that was answered, or is not made. It returns
	// the delivery that was claimed ahead and begins in its place; "" for none.
	Answered(deliveryID string) (successor string)
	// Done is told each delivery whose attempt has ended, or will not be made.
	Done(deliveryID string)
}

// Feed brings deliveries that are to make their first attempts.
type Feed interface {
	// Next waits for the next ones, and returns none when there will be no more, or when
	// ctx is done.
	Next(ctx context.Context) []Arrival
}

// Arrival is a delivery of a [Feed]. Target is nil when it must be read; ReadAt is when it
// was, where that may be some time ago.
type Arrival struct {
	DeliveryID string
	Target     *postrider.Target
	ReadAt     time.Time
}

// freshFor is how long a target may be used that was read ahead: a delivery may be
// cancelled, or its webhook changed.
const freshFor = 2 * time.Second

// fresh returns the target, nil when it was read too long ago.
func (a Arrival) fresh(now time.Time) *postrider.Target {
	if !a.ReadAt.IsZero() && now.Sub(a.ReadAt) > freshFor {
		return nil
	}
	return a.Target
}

// Reporter tells a running Delivery workflow about attempts that one of its
// activity's tries made, so that its query knows before the activity ends.
type Reporter interface {
	Report(ctx context.Context, workflowID, runID string, reports Reports) error
}

// Config is what New needs; every field is required unless it says otherwise.
type Config struct {
	Store    Store
	Poster   Poster
	Reporter Reporter
	Metrics  *Metrics
	Logger   *slog.Logger
	Now      func() time.Time
	Random   func() float64 // 0 to 1, for jitter
	// Process is the dispatcher of this process. Optional: without it deliveries are read
	// from the database, and nothing but their webhooks limits their attempts.
	Process Process
	// Tracer makes spans of attempts. Optional: without it nothing is traced.
	Tracer trace.Tracer
	// TraceReceivers sends an attempt's trace context to its receiver, as traceparent
	// and tracestate.
	TraceReceivers bool
}

// Activities are the Temporal activities of a delivery. Workflows name them by
// method values of a nil *Activities.
type Activities struct {
	Config
}

// New returns the activities.
func New(config Config) *Activities {
	if config.Process == nil {
		config.Process = nobody{}
	}
	return &Activities{Config: config}
}

// nobody is the process where none claims.
type nobody struct{}

func (nobody) Feed(string) Feed                                { return nil }
func (nobody) Reserve(context.Context, postrider.Target) error { return nil }
func (nobody) Began(string)                                    {}
func (nobody) Answered(string) string                          { return "" }
func (nobody) Done(string)                                     {}

// Report is what the attempts made so far mean for a delivery.
type Report struct {
	DeliveryID string                  `json:"delivery_id"`
	State      postrider.DeliveryState `json:"state"`
	// Attempts are new ones, or all: who gets a report merges by number.
	Attempts      []postrider.Attempt `json:"attempts,omitempty"`
	NextAttemptAt *time.Time          `json:"next_attempt_at,omitempty"` // set when State is retrying
	// Left says that another workflow goes on with the delivery, or none.
	Left bool `json:"left,omitempty"`
	// Policy is the delivery's, where its workflow does not know it.
	Policy *postrider.Policy `json:"policy,omitempty"`
}

// Reports are what an activity or a signal brings to a workflow.
type Reports []Report

// UnmarshalJSON also takes a single report for a list of one: histories of earlier
// versions hold such.
func (r *Reports) UnmarshalJSON(text []byte) error {
	if bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) {
		*r = make(Reports, 1)
		return json.Unmarshal(text, &(*r)[0])
	}
	return json.Unmarshal(text, (*[]Report)(r))
}

// Cancel records that a delivery's workflow was cancelled.
func (a *Activities) Cancel(ctx context.Context, deliveryID string) error {
	err := a.Store.CancelDelivery(ctx, deliveryID)
	if postrider.CodeOf(err) == postrider.CodeNotFound {
		return nil // as good as cancelled
	}
	if err != nil {
		return err
	}
	a.Metrics.deliveries.WithLabelValues(string(postrider.StateCancelled)).Inc()
	return nil
}

// CancelAll records that a workflow was cancelled that carries deliveries.
func (a *Activities) CancelAll(ctx context.Context, deliveryIDs []string) error {
	for _, id := range deliveryIDs {
		if err := a.Cancel(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// recorded reports on a delivery from the database alone.
func (a *Activities) recorded(ctx context.Context, d postrider.Delivery) (Report, error) {
	attempts, err := a.Store.AttemptsOf(ctx, []string{d.ID})
	return Report{DeliveryID: d.ID, State: d.State, Attempts: attempts[d.ID], NextAttemptAt: d.NextAttemptAt}, err
}
