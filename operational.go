package postrider

import (
	"strings"
	"time"
)

// Types of operational events: events about the engine itself, which it publishes to the webhooks
// of a workspace that subscribe to them by name or by postrider.*.
const (
	EventWebhookDisabled  = "postrider.webhook.disabled"
	EventWebhookFailing   = "postrider.webhook.failing"
	EventWebhookRecovered = "postrider.webhook.recovered"
	EventDeliveryFailed   = "postrider.delivery.failed"
	EventReplayFinished   = "postrider.replay.finished"
)

// operationalPrefix begins the types of operational events. Publishers may not use it.
const operationalPrefix = "postrider."

// Operational reports whether an event type is one of the engine's own, or kept for one.
func Operational(eventType string) bool { return strings.HasPrefix(eventType, operationalPrefix) }

// OperationalEvent is an event about the engine itself that is to be published to the workspace's
// own webhooks.
type OperationalEvent struct {
	WorkspaceID string
	Type        string // one of the types above
	ResourceID  string // what it is about: a webhook's, delivery's or replay's id
	Data        any    // the event's data, made JSON when it is stored: one of the types below
}

// FailedDelivery is the data of [EventDeliveryFailed]. It has neither the event's data nor what the
// receiver answered.
type FailedDelivery struct {
	DeliveryID   string    `json:"delivery_id" doc:"Read it for its attempts." example:"dlv_019a8f3c5b7e7c3a9d2e4f6081a2b3c4"`
	WebhookID    string    `json:"webhook_id" example:"wh_019a8f3c5b7e7c3a9d2e4f6081a2b3c4"`
	EventID      string    `json:"event_id" example:"evt_019a8f3c5b7e7c3a9d2e4f6081a2b3c4"`
	EventType    string    `json:"event_type" example:"call.ended"`
	AttemptCount int       `json:"attempt_count"`
	LastError    *string   `json:"last_error" doc:"Why it failed."`
	Result       *Result   `json:"result" doc:"How the last attempt ended; null where something else ended the delivery, as when it expired."`
	StatusCode   *int      `json:"status_code" doc:"What the last attempt was answered; null without an answer, or where result is null."`
	FailedAt     time.Time `json:"failed_at"`
}

// ChangedWebhook is the data of [EventWebhookFailing], [EventWebhookDisabled] and
// [EventWebhookRecovered].
type ChangedWebhook struct {
	WebhookID           string     `json:"webhook_id" example:"wh_019a8f3c5b7e7c3a9d2e4f6081a2b3c4"`
	Host                string     `json:"host" doc:"Host, and port where there is one, of its URL." example:"example.com"`
	Reason              *string    `json:"reason" doc:"Why it was disabled, as the webhook's disabled_reason: gone says that its receiver answered 410. Null where it was not disabled."`
	FailingSince        *time.Time `json:"failing_since" doc:"Since when all its attempts have failed; null where that does not matter."`
	ConsecutiveFailures *int       `json:"consecutive_failures" doc:"How many attempts have failed since; null where that does not matter."`
	At                  time.Time  `json:"at" doc:"When it happened."`
}

// FinishedReplay is the data of [EventReplayFinished].
type FinishedReplay struct {
	ReplayID  string `json:"replay_id" example:"rpl_019a8f3c5b7e7c3a9d2e4f6081a2b3c4"`
	WebhookID string `json:"webhook_id" example:"wh_019a8f3c5b7e7c3a9d2e4f6081a2b3c4"`
	ReplayProgress

	FinishedAt time.Time `json:"finished_at"`
}
