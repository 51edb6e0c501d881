package postrider

import (
	"bytes"
	"context"
	"encoding/json"
	"net/url"
	"slices"
	"time"
)

// ActorSystem is the actor of what nobody did over the API: an operator's command, or the first
// start of a process that has its database to itself.
const ActorSystem = "system"

// Caller is on whose behalf something is changed.
type Caller struct {
	Actor     string // the id of an API key, or [ActorSystem]
	Route     string // such as "PATCH /api/v1/webhooks/{id}"; "" outside the API
	RequestID string // of the request; "" outside the API
}

type callerContextKey struct{}

// WithCaller returns a context in which changes are the caller's.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerContextKey{}, c)
}

// CallerOf returns whose changes a context makes: [ActorSystem]'s, unless it says otherwise.
func CallerOf(ctx context.Context) Caller {
	if c, ok := ctx.Value(callerContextKey{}).(Caller); ok {
		return c
	}
	return Caller{Actor: ActorSystem}
}

// AuditAction is what a caller did, as the audit log names it: a kind of resource and a verb.
type AuditAction string

// The actions, beside those on deliveries, see [ActionKind.Audited].
const (
	ActionCreateWebhook   AuditAction = "webhook.create"
	ActionUpdateWebhook   AuditAction = "webhook.update"
	ActionDeleteWebhook   AuditAction = "webhook.delete"
	ActionPauseWebhook    AuditAction = "webhook.pause"
	ActionResumeWebhook   AuditAction = "webhook.resume"
	ActionTestWebhook     AuditAction = "webhook.test"
	ActionRevealSecret    AuditAction = "secret.reveal"
	ActionRotateSecret    AuditAction = "secret.rotate"
	ActionCreateWorkspace AuditAction = "workspace.create"
	ActionCreateAPIKey    AuditAction = "key.create"
	ActionRevokeAPIKey    AuditAction = "key.revoke"
	ActionCancelEvent     AuditAction = "event.cancel"
	ActionCreateEventType AuditAction = "event_type.create"
	ActionUpdateEventType AuditAction = "event_type.update"
	ActionDeleteEventType AuditAction = "event_type.delete"
	ActionCreateReplay    AuditAction = "replay.create"
	ActionPauseReplay     AuditAction = "replay.pause"
	ActionResumeReplay    AuditAction = "replay.resume"
	ActionCancelReplay    AuditAction = "replay.cancel"
)

// AuditActions returns every action.
func AuditActions() []AuditAction {
	actions := []AuditAction{ //nolint:prealloc // it is read at a start
		ActionCreateWebhook, ActionUpdateWebhook, ActionDeleteWebhook, ActionPauseWebhook, ActionResumeWebhook, ActionTestWebhook,
		ActionRevealSecret, ActionRotateSecret, ActionCreateWorkspace, ActionCreateAPIKey, ActionRevokeAPIKey, ActionCancelEvent,
		ActionCreateEventType, ActionUpdateEventType, ActionDeleteEventType,
		ActionCreateReplay, ActionPauseReplay, ActionResumeReplay, ActionCancelReplay,
	}
	for _, kind := range ActionKinds() {
		actions = append(actions, kind.Audited())
	}
	return actions
}

// AuditEntry is one line of the audit log. Whoever changes a resource says what: the workspace, the
// action, the resource and the changes. The store adds the rest.
type AuditEntry struct {
	ID          string
	WorkspaceID string // the resource's, which is not always the caller's
	At          time.Time
	Caller
	Action     AuditAction
	ResourceID string
	Changes    []FieldChange
}

// AuditFilter selects entries for a list. A zero field selects all.
type AuditFilter struct {
	Actor      string
	ResourceID string
	Action     AuditAction
	Since      time.Time // at or after
	Until      time.Time // before
}

// MaxAuditValue is the longest value that the audit log keeps, in bytes of JSON. It bounds an entry:
// a resource has some twenty fields, each with two values.
const MaxAuditValue = 4096

// FieldChange is a field that was changed, as the audit log keeps it and the API shows it.
type FieldChange struct {
	Field    string          `json:"field" example:"max_retries"`
	Old      json.RawMessage `json:"old" doc:"Null when it had no value, or the value is redacted."`
	New      json.RawMessage `json:"new" doc:"Null when it has no value, or the value is redacted."`
	Redacted bool            `json:"redacted" doc:"The values are more than what is shown: of secrets nothing is kept, of headers their names, of a URL all but its query, and of what is very long nothing."`
}

// auditedFields are the fields whose values the audit log may keep. A field that is not among them may
// hold a secret, so the log says of it that it changed and no more.
func auditedFields() []string {
	return []string{
		"url", "events", "name", "description", "signing_method", "scope_type", "persona_id", "headers", "rate_limit", "max_in_flight",
		"filter", "transform", "format", "ordering", "on_exhausted", "park_seconds", "circuit_breaker", "disable_after_seconds",
		"timeout_ms", "max_retries", "backoff_ms", "retry_schedule_ms",
		"schema", "enforcement", "deprecated", "replaced_by", // not example, which may be somebody's data
		"status", "scopes", "expires_at", "revoked_at",
		"webhook_id", "since", "until", "states", "event_types", "rate", "state",
	}
}

// SecretChange returns the change of a secret, of which nothing is kept.
func SecretChange() FieldChange { return FieldChange{Field: "secret", Redacted: true} }

// WebhookChanges returns what differs between a webhook before and after a change; nil stands for one
// that is not there.
func WebhookChanges(before, after *Webhook) []FieldChange {
	fields := func(w *Webhook) any {
		if w == nil {
			return nil
		}
		return struct {
			WebhookSettings
			Policy
			Status WebhookStatus `json:"status"`
		}{w.WebhookSettings, w.Policy, w.Status}
	}
	return Changes(fields(before), fields(after))
}

// Changes returns the fields that differ between two values that are JSON objects, or nil, in the order
// of their names. What may not be kept of the values is left out.
func Changes(before, after any) []FieldChange {
	old, now := fieldsOf(before), fieldsOf(after)
	names := slices.Concat(sortedKeys(old), sortedKeys(now))
	slices.Sort(names)
	changes := []FieldChange{}
	for _, name := range slices.Compact(names) {
		if bytes.Equal(old[name], now[name]) {
			continue
		}
		c := FieldChange{Field: name}
		var hidden bool
		c.Old, c.Redacted = auditable(name, old[name])
		c.New, hidden = auditable(name, now[name])
		c.Redacted = c.Redacted || hidden
		changes = append(changes, c)
	}
	return changes
}

// fieldsOf returns the fields of a JSON object that have a value.
func fieldsOf(object any) map[string]json.RawMessage {
	fields := map[string]json.RawMessage{}
	text, err := json.Marshal(object)
	if err == nil {
		err = json.Unmarshal(text, &fields)
	}
	if err != nil {
		panic("postrider: what is audited is not a JSON object: " + err.Error())
	}
	for name, value := range fields {
		if empty := string(value); empty == "null" || empty == "{}" {
			delete(fields, name)
		}
	}
	return fields
}

// auditable returns what the audit log may keep of a field's value, and whether that is less than all.
func auditable(field string, value json.RawMessage) (kept json.RawMessage, redacted bool) {
	switch {
	case value == nil:
		return nil, false
	case !slices.Contains(auditedFields(), field):
		return nil, true
	case field == "headers":
		kept, redacted = headerNames(value), true
	case field == "url":
		kept, redacted = withoutQuery(value)
	default:
		kept = value
	}
	if len(kept) > MaxAuditValue {
		return nil, true
	}
	return kept, redacted
}

func headerNames(value json.RawMessage) json.RawMessage {
	var headers map[string]json.RawMessage
	if json.Unmarshal(value, &headers) != nil {
		return nil
	}
	names, _ := json.Marshal(sortedKeys(headers)) // strings always encode
	return names
}

// withoutQuery returns a URL without what in it can be a credential: user, password and query.
func withoutQuery(value json.RawMessage) (kept json.RawMessage, redacted bool) {
	var text string
	if json.Unmarshal(value, &text) != nil {
		return nil, true
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, true
	}
	if u.User == nil && u.RawQuery == "" && u.Fragment == "" {
		return value, false
	}
	u.User, u.RawQuery, u.Fragment, u.RawFragment = nil, "", "", ""
	kept, _ = json.Marshal(u.String()) // a string always encodes
	return kept, true
}
