// Package postrider defines the terms of webhook delivery: a [Webhook] subscribes to events, an
// [Event] is published, each match of the two is a [Delivery], and every POST of a delivery is
// an [Attempt]. Every other package uses these types.
//
// It also has the rules that need no other data: validation ([Webhook.Validate]), patterns
// ([PatternsFor]), retries ([Policy.Judge], [Policy.Backoff]), ids ([IDs]), request bodies
// ([RenderBody]), and errors with codes ([Error]), which the API maps to HTTP statuses.
//
// Invariants: the package imports the standard library only, does no I/O and reads no clock.
// Times, randomness and ids are parameters.
//
// A new field of a webhook goes into [WebhookSettings]; a new delivery state goes into the
// picture below and into [DeliveryStates].
//
// The states of a delivery:
//
//	            claimed              2xx
//	pending ─────────────▶ delivering ─────────────▶ succeeded
//	   ▲                       │   ▲
//	   │ resumed               │   │ next attempt
//	   │             failed,   ▼   │
//	parked           retries ─▶ retrying ───────────▶ failed
//	                 left                 none left, or permanent
//
// A delivery that is not finished can also become cancelled, or failed because it expired. Succeeded, failed and cancelled
// are final: a later replay of the same event is a new delivery.
package postrider
