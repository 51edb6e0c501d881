package postrider_test

import (
	"fmt"
	"net/http"

	"postrider.dev/postrider"
)

// A verdict says what happens to a delivery after an attempt.
func ExamplePolicy_Judge() {
	policy := postrider.Policy{MaxRetries: 1, BackoffMS: 1000}
	unavailable, gone := http.StatusServiceUnavailable, http.StatusGone
	for _, attempt := range []postrider.Attempt{
		{Number: 1, Result: postrider.ResultServerError, StatusCode: &unavailable},
		{Number: 2, Result: postrider.ResultServerError, StatusCode: &unavailable},
		{Number: 1, Result: postrider.ResultClientError, StatusCode: &gone},
		{Number: 1, Result: postrider.ResultSuccess},
	} {
		const noWish, noJitter = 0, 0.5
		verdict := policy.Judge(attempt, noWish, noJitter)
		fmt.Println(verdict.State, verdict.Wait, verdict.Gone)
	}
	// Output:
	// retrying 1s false
	// failed 0s false
	// failed 0s true
	// succeeded 0s false
}

// Publishers choose event types, and may choose ids.
func ExampleValidEventType() {
	fmt.Println(postrider.ValidEventType("call.ended"), postrider.ValidEventType("call ended"))
	fmt.Println(postrider.ValidEventID("order:42"), postrider.ValidEventID("order.42"))
	// Output:
	// true false
	// true false
}

// Validate names each field that breaks a rule, and the API answers with the same texts.
func ExampleWebhook_Validate() {
	webhook := postrider.Webhook{
		WebhookSettings: postrider.WebhookSettings{
			URL: "ftp://example.com/hook", Events: []string{"call.*"}, SigningMethod: "none",
			ScopeType: postrider.ScopeGlobal, MaxInFlight: postrider.DefaultMaxInFlight,
			Format: postrider.FormatEnvelope, Ordering: postrider.OrderingNone, OnExhausted: postrider.ExhaustedSkip,
		},
		Policy: postrider.Policy{TimeoutMS: 100, MaxRetries: 3, BackoffMS: 1000},
	}
	for _, broken := range webhook.Validate([]postrider.SigningMethod{"none"}) {
		fmt.Println(broken.Field, broken.Message)
	}
	// Output:
	// url must start with http:// or https://
	// timeout_ms must be from 1000 to 30000
}
