package postrider

import "time"

// ActionKind is what an operator asks of a delivery.
type ActionKind string

// The kinds of actions.
const (
	ActionRetry  ActionKind = "retry"  // make the next attempt now; on a finished delivery, send its event again
	ActionCancel ActionKind = "cancel" // make no more attempts
	ActionPause  ActionKind = "pause"  // make no attempt until it is resumed
	ActionResume ActionKind = "resume" // end a pause
	ActionSkip   ActionKind = "skip"   // let the next delivery of an ordering go
	ActionEdit   ActionKind = "edit"   // change the terms
)

// ActionKinds returns every kind.
func ActionKinds() []ActionKind {
	return []ActionKind{ActionRetry, ActionCancel, ActionPause, ActionResume, ActionSkip, ActionEdit}
}

// Audited returns the action as the audit log names it.
func (k ActionKind) Audited() AuditAction { return AuditAction("delivery." + string(k)) }

// MaxActed is the most deliveries of one request for an action.
const MaxActed = 500

// Action is what an operator did to a delivery.
type Action struct {
	At     time.Time  `json:"at"`
	Kind   ActionKind `json:"action" enum:"retry,cancel,pause,resume,skip,edit"`
	Actor  string     `json:"actor" doc:"Id of the API key."`
	Detail string     `json:"detail" doc:"What it came to, in words."`
}

// ActionRequest asks for an action on deliveries of a workspace.
type ActionRequest struct {
	WorkspaceID string
	Actor       string // id of the API key
	Kind        ActionKind
	DeliveryIDs []string
	Edit        TermsEdit // of an [ActionEdit]
}

// Terms are what an operator can change of a delivery: how it is tried, and until when.
type Terms struct {
	Policy

	ExpiresAt *time.Time `json:"expires_at"` // no attempt begins at or after it; nil means never
}

// Equal reports whether the terms say the same.
func (t Terms) Equal(other Terms) bool {
	if t.ExpiresAt == nil || other.ExpiresAt == nil {
		return t.Policy == other.Policy && t.ExpiresAt == other.ExpiresAt
	}
	return t.Policy == other.Policy && t.ExpiresAt.Equal(*other.ExpiresAt)
}

// TermsEdit changes the fields of [Terms] that are not nil.
type TermsEdit struct {
	TimeoutMS, MaxRetries, BackoffMS *int

	ExpiresAt *time.Time // the zero time means never
}

// Apply returns the terms with the changes.
func (e TermsEdit) Apply(t Terms) Terms {
	for _, change := range []struct{ from, to *int }{
		{e.TimeoutMS, &t.TimeoutMS}, {e.MaxRetries, &t.MaxRetries}, {e.BackoffMS, &t.BackoffMS},
	} {
		if change.from != nil {
			*change.to = *change.from
		}
	}
	if e.BackoffMS != nil {
		t.RetrySchedule = ""
	}
	switch {
	case e.ExpiresAt == nil:
	case e.ExpiresAt.IsZero():
		t.ExpiresAt = nil
	default:
		expires := Timestamp(*e.ExpiresAt)
		t.ExpiresAt = &expires
	}
	return t
}

// ActionResult is what an action on one delivery came to.
type ActionResult struct {
	DeliveryID string // as it was asked for
	// Delivery is the delivery after the action: for a retry of a finished one, the new one.
	Delivery Delivery
	// Err is nil, or an [Error] of [CodeNotFound] or [CodeConflict]: nothing was changed then.
	Err error
}

// Notice tells a workflow of actions on deliveries that it carried.
type Notice struct {
	WorkflowID string
	Acted      []Acted
	ActionIDs  []string // the actions, for the database
}

// Acted is an action, as a workflow is told of it.
type Acted struct {
	DeliveryID string `json:"delivery_id"`
	Action

	// Left says that the workflow does not carry the delivery any more.
	Left bool `json:"left,omitempty"`
}
