package api

import (
	"time"

	"postrider.dev/postrider"
	"postrider.dev/postrider/api/rest"
)

// This file describes what receivers get of the engine's own events. The store publishes them
// (store/operational.go).

// operationalEvent is the body of an operational event, in the format envelope.
type operationalEvent[Data any] struct {
	ID        string    `json:"id" example:"evt_019a8f3c5b7e7c3a9d2e4f6081a2b3c4"`
	Type      string    `json:"type" example:"postrider.delivery.failed"`
	Timestamp time.Time `json:"timestamp" doc:"When it happened."`
	PersonaID *string   `json:"persona_id" doc:"Null: only global webhooks get these events."`
	Data      Data      `json:"data"`
}

func (s *server) describeOperational() {
	const asked = " It is sent to global webhooks that subscribe to it by name or by a wildcard such as `postrider.*`; " +
		"`*` does not ask for it."
	rest.DescribeWebhook[operationalEvent[postrider.FailedDelivery]](s.rest, postrider.EventDeliveryFailed, "A delivery failed",
		"A delivery has ended without a success, for whatever reason; a cancelled one has not failed. "+
			"The delivery of an event like this one never makes another."+asked)
	rest.DescribeWebhook[operationalEvent[postrider.ChangedWebhook]](s.rest, postrider.EventWebhookDisabled, "A webhook was disabled",
		"The engine makes no more deliveries to the webhook; they are parked until somebody resumes it. "+
			"A webhook that subscribes to its own gets it then."+asked)
	rest.DescribeWebhook[operationalEvent[postrider.ChangedWebhook]](s.rest, postrider.EventWebhookFailing, "A webhook is failing",
		"Every attempt at the webhook has failed for a tenth of the time after which it is disabled."+asked)
	rest.DescribeWebhook[operationalEvent[postrider.ChangedWebhook]](s.rest, postrider.EventWebhookRecovered, "A webhook has recovered",
		"An attempt has succeeded at a webhook that was failing."+asked)
	rest.DescribeWebhook[operationalEvent[postrider.FinishedReplay]](s.rest, postrider.EventReplayFinished, "A replay has finished",
		"A replay job has sent all that it was to send."+asked)
}

// checkOwnType refuses the types of operational events to publishers.
func checkOwnType(eventType string) error {
	if !postrider.Operational(eventType) {
		return nil
	}
	return rest.BrokenField("type", "must not begin with postrider. (reserved for events about the engine itself)", eventType)
}
