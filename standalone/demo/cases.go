package demo

import (
	"net/http"
	"time"
)

// Secrets of the webhooks whose signing methods need one.
const (
	bearerToken   = "demo-token"
	basicPassword = "demo:password"
)

// testCase is one webhook of the demo, how its receiver behaves, and the expected outcome.
type testCase struct {
	name     string
	webhook  map[string]any // fields of the request, without url and events
	method   string         // signing method
	receiver behaviour
	want     outcome
}

// behaviour is how a receiver answers.
type behaviour struct {
	fail  int // the number of first requests that get a 500; -1 means every request
	delay time.Duration
}

// outcome is the events and requests that a receiver got, and what the API says about the
// deliveries.
type outcome struct {
	events   int    // different events
	requests int    // requests, repeated ones included
	state    string // of every delivery
	attempts int    // of every delivery
	result   string // of every delivery's last attempt
}

// delivered is the outcome of n events that the receiver accepts at the first attempt.
func delivered(n int) outcome {
	return outcome{events: n, requests: n, state: "succeeded", attempts: 1, result: "success"}
}

// publications are the events that the demo publishes. One of the three has a persona.
func publications() []map[string]any {
	return []map[string]any{
		{"type": "call.started", "data": map[string]any{"call": 1, "from": "+1 555 0100"}},
		{"type": "call.ended", "data": map[string]any{"call": 1, "seconds": 42.5}},
		{"type": "contact.updated", "data": map[string]any{"name": "Zoë <zoe@example.com>"}, "persona_id": "persona-1"},
	}
}

// cases are the demo's webhooks. Their waits are short, so that the demo is short.
func cases() []testCase {
	const all, one = 3, 1
	return []testCase{
		{name: "HMAC-SHA256, Standard Webhooks", method: "hmac_sha256", want: delivered(all)},
		{name: "HMAC-SHA1, GitHub's old way", method: "hmac_sha1", want: delivered(all)},
		{name: "bearer token", method: "bearer", webhook: map[string]any{"secret": bearerToken}, want: delivered(all)},
		{name: "basic authentication", method: "basic_auth", webhook: map[string]any{"secret": basicPassword}, want: delivered(all)},
		{name: "unsigned", method: "none", want: delivered(all)},
		{
			name: "one persona's events only", method: "hmac_sha256",
			webhook: map[string]any{"scope_type": "persona", "persona_id": "persona-1"}, want: delivered(one),
		},
		{
			name: "fails twice, then recovers", method: "hmac_sha256",
			webhook: map[string]any{"events": []string{"call.ended"}, "backoff_ms": 200}, receiver: behaviour{fail: 2},
			want: outcome{events: one, requests: 3, state: "succeeded", attempts: 3, result: "success"},
		},
		{
			name: "never recovers", method: "hmac_sha256",
			webhook: map[string]any{"events": []string{"call.*"}, "max_retries": 2, "backoff_ms": 200}, receiver: behaviour{fail: -1},
			want: outcome{events: 2, requests: 6, state: "failed", attempts: 3, result: "server_error"},
		},
		{
			name: "answers too late", method: "hmac_sha256",
			webhook:  map[string]any{"events": []string{"call.ended"}, "max_retries": 1, "backoff_ms": 200, "timeout_ms": 1000},
			receiver: behaviour{delay: 3 * time.Second},
			want:     outcome{events: one, requests: 2, state: "failed", attempts: 2, result: "timeout"},
		},
	}
}

// failureStatus is a receiver's answer when it fails.
const failureStatus = http.StatusInternalServerError
