package postrider

import "time"

// Types of operational events: events about the engine itself, which it publishes to the webhooks
// of a workspace that subscribe to them by name or by postrider.*.
const (
	EventWebhookDisabled  = "postrider.webhook.disabled"
	EventWebhookFailing   = "postrider.webhook.failing"
	EventWebhookRecovered = "postrider.webhook.recovered"
	EventDeliveryFailed   = "postrider.delivery.failed"
	EventReplayFinished   = "postrider.replay.finished"
)

// WebhookEventData is the data of an operational event about a webhook.
type WebhookEventData struct {
	WebhookID           string        `json:"webhook_id"`
	Name                *string       `json:"name"`
	Status              WebhookStatus `json:"status"`
	DisabledReason      *string       `json:"disabled_reason"`
	FailingSince        *time.Time    `json:"failing_since"`
	ConsecutiveFailures int           `json:"consecutive_failures"`
}

// OperationalEvent is an event about the engine itself that is to be published to the workspace's
// own webhooks.
type OperationalEvent struct {
	WorkspaceID string
	Type        string // one of the types above
	ResourceID  string // what it is about: a webhook's, delivery's or replay's id
	Data        any    // the event's data, made JSON when it is stored
}
