// Package postrider holds the words of webhook delivery: a [Webhook] subscribes
// to events, an [Event] is published, each match of the two is a [Delivery], and
// every POST made for a delivery is an [Attempt].
//
// It is the lowest room of the project. It imports the standard library only,
// does no I/O and reads no clock: times, randomness and ids are handed in.
// Every other package speaks in these types.
//
// The life of a delivery:
//
//	            claimed              2xx
//	pending ─────────────▶ delivering ─────────────▶ succeeded
//	   ▲                       │   ▲
//	   │ resumed               │   │ next attempt
//	   │             failed,   ▼   │
//	parked           retries ─▶ retrying ───────────▶ failed
//	                 left                 none left, or permanent
//
// A delivery that is not finished may also become cancelled. Succeeded, failed
// and cancelled are final: whatever happens later to the same event and webhook
// is a new delivery.
package postrider
