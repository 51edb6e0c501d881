package postrider

import (
	"slices"
	"time"
)

// ReplayState says where a replay job is in its life.
type ReplayState string

// The states of a replay job. docs/states.md draws how they follow each other.
const (
	ReplayRunning   ReplayState = "running"
	ReplayPaused    ReplayState = "paused"    // it makes no deliveries until it is resumed
	ReplayCancelled ReplayState = "cancelled" // somebody called it off
	ReplayFinished  ReplayState = "finished"  // every delivery that it made has ended
	ReplayFailed    ReplayState = "failed"    // its webhook was deleted
)

// ReplayStates returns every state.
func ReplayStates() []ReplayState {
	return []ReplayState{ReplayRunning, ReplayPaused, ReplayCancelled, ReplayFinished, ReplayFailed}
}

// Ended reports whether the state is final.
func (s ReplayState) Ended() bool { return s != ReplayRunning && s != ReplayPaused }

// ReplayOf is what a replay job sends again.
type ReplayOf string

// What can be sent again: deliveries that have ended so, and events without a delivery.
const (
	ReplayOfFailed    ReplayOf = "failed"
	ReplayOfCancelled ReplayOf = "cancelled"
	ReplayOfSucceeded ReplayOf = "succeeded"
	ReplayOfMissing   ReplayOf = "missing"
)

// ReplayOfs returns every value.
func ReplayOfs() []ReplayOf {
	return []ReplayOf{ReplayOfFailed, ReplayOfCancelled, ReplayOfSucceeded, ReplayOfMissing}
}

// Limits of replay jobs.
const (
	DefaultReplayRate   = 50    // deliveries a second
	MaxReplayRate       = 10000 // deliveries a second
	MaxReplayEventTypes = 100
	// MaxReplays is how many jobs of a workspace may be running or paused. A webhook may have one.
	MaxReplays = 10
)

// ReplaySpec says what a replay job sends again, and how fast.
type ReplaySpec struct {
	WorkspaceID string
	WebhookID   string
	Since       time.Time // accepted at or after
	Until       time.Time // accepted before
	States      []ReplayOf
	EventTypes  []string // exact types; none means all
	Rate        int      // deliveries a second, at most
}

// Wants reports whether the job sends what has ended so, or is missing.
func (s ReplaySpec) Wants(what ReplayOf) bool { return slices.Contains(s.States, what) }

// WantsType reports whether the job sends events of the type.
func (s ReplaySpec) WantsType(eventType string) bool {
	return len(s.EventTypes) == 0 || slices.Contains(s.EventTypes, eventType)
}

// Replay is a replay job.
type Replay struct {
	ReplaySpec

	ID         string
	State      ReplayState
	Matched    *int // what it sends altogether; nil while that is being counted
	Sent       int  // deliveries made
	Succeeded  int  // of these
	Failed     int  // or cancelled
	CreatedAt  time.Time
	FinishedAt *time.Time // when it ended, in whatever way
	ETA        *time.Time // when all will have been made; nil when that is not known, or has come
}

// WorkflowID returns the id of the workflow that makes the job's deliveries.
func (r Replay) WorkflowID() string { return ReplayWorkflowID(r.ID) }

// ReplayWorkflowID returns the id of a replay job's workflow.
func ReplayWorkflowID(replayID string) string { return "replay/" + replayID }

// ReplayFilter selects replay jobs for a list. A zero field selects all.
type ReplayFilter struct {
	WebhookID string
	State     ReplayState
}

// ReplayProgress is how far a replay job has come, as its workflow tells it.
type ReplayProgress struct {
	State     ReplayState `json:"state"`
	Matched   *int        `json:"matched" doc:"How many deliveries or events it is about; null until they are counted."`
	Sent      int         `json:"sent" doc:"How many new deliveries it has made."`
	Succeeded int         `json:"succeeded" doc:"How many of these have succeeded."`
	Failed    int         `json:"failed" doc:"How many of these have failed or were cancelled."`
}

// DueReplay is a replay job whose workflow is to be started.
type DueReplay struct {
	ID          string
	WorkspaceID string `db:"workspace_id"`
	WebhookID   string `db:"webhook_id"`
}

// ReplayStep is what one step of a replay job came to.
type ReplayStep struct {
	ReplayProgress

	// Moved says that something was counted, made or found ended.
	Moved bool
	// Over says that there is nothing left to do, now or until the job is resumed.
	Over bool
}

// ReplayChanges returns a new job as the audit log has it.
func ReplayChanges(s ReplaySpec) []FieldChange {
	return Changes(nil, map[string]any{
		"webhook_id": s.WebhookID, "since": s.Since, "until": s.Until, "states": s.States, "event_types": s.EventTypes, "rate": s.Rate,
	})
}

// ReplayStateChange returns the change of a job's state as the audit log has it.
func ReplayStateChange(before, after ReplayState) []FieldChange {
	return Changes(map[string]any{"state": before}, map[string]any{"state": after})
}
