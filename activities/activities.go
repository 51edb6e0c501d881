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
	"context"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/trace"

	"postrider"
)

// Store is what the activities need of the database.
type Store interface {
	// Targets returns what an attempt of each delivery needs, in the order asked.
	// Returns [postrider.CodeNotFound] if one is unknown.
	Targets(ctx context.Context, deliveryIDs []string) ([]postrider.Target, error)
	// Attempts returns the attempts recorded for a delivery, by number.
	Attempts(ctx context.Context, deliveryID string) ([]postrider.Attempt, error)
	// Record commits attempts and what they mean for their deliveries. Returns
	// [postrider.CodeConflict] for one that another call recorded before, or whose
	// delivery was finished before: what is stored stands.
	Record(ctx context.Context, outcomes []postrider.Outcome) error
	// Admit asks for a place for a retry under its webhook's limits.
	Admit(ctx context.Context, d postrider.Delivery, ask postrider.Ask) (postrider.Admission, error)
	// Leave gives up the place of a retry that made no attempt.
	Leave(ctx context.Context, deliveryID string) error
	// CancelDelivery makes an unfinished delivery cancelled.
	CancelDelivery(ctx context.Context, deliveryID string) error
}

// Reporter tells a running Delivery workflow about an attempt that one of its
// activity's tries made, so that its query knows before the activity ends.
type Reporter interface {
	Report(ctx context.Context, workflowID, runID string, report Report) error
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
	// Carried returns, once, what a delivery's first attempt needs, where this process
	// has it at hand since it claimed the delivery, or will in a moment, for which it
	// waits. Optional.
	Carried func(deliveryID string) *postrider.Target
	// FirstAttemptDone is told each delivery whose first attempt is recorded, so
	// that the dispatcher can let the next one go. Optional.
	FirstAttemptDone func(deliveryID string)
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
	if config.FirstAttemptDone == nil {
		config.FirstAttemptDone = func(string) {}
	}
	if config.Carried == nil {
		config.Carried = func(string) *postrider.Target { return nil }
	}
	return &Activities{Config: config}
}

// Report is what the attempts made so far mean for a delivery.
type Report struct {
	DeliveryID string                  `json:"delivery_id"`
	State      postrider.DeliveryState `json:"state"`
	// Attempts are new ones, or all: who gets a report merges by number.
	Attempts      []postrider.Attempt `json:"attempts,omitempty"`
	NextAttemptAt *time.Time          `json:"next_attempt_at,omitempty"` // set when State is retrying
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

// recorded reports on a delivery from the database alone.
func (a *Activities) recorded(ctx context.Context, target postrider.Target) (Report, error) {
	attempts, err := a.Store.Attempts(ctx, target.Delivery.ID)
	if err != nil {
		return Report{}, err
	}
	for i := range attempts {
		attempts[i] = attempts[i].WithoutBody()
	}
	return Report{
		DeliveryID:    target.Delivery.ID,
		State:         target.Delivery.State,
		Attempts:      attempts,
		NextAttemptAt: target.Delivery.NextAttemptAt,
	}, nil
}
