package api

import (
	"github.com/tidwall/gjson"

	"postrider.dev/postrider"
	"postrider.dev/postrider/api/rest"
)

// createWebhookBody is the body of a create request. Defaults make a field that was sent look like one that was
// not, so whether a retry schedule came with what it replaces is asked of the text.
func createWebhookBody(a *rest.API) rest.Body[CreateWebhook] {
	body := rest.JSONBody(a, newWebhookSettings)
	decode := body.Decode
	body.Decode = func(raw []byte) (CreateWebhook, error) {
		settings, err := decode(raw)
		if err != nil || settings.RetrySchedule == "" {
			return settings, err
		}
		return settings, checkScheduleAlone(func(field string) bool { return gjson.GetBytes(raw, field).Exists() })
	}
	return body
}

// checkScheduleAlone refuses what goes without a retry schedule; sent reports whether a field was.
func checkScheduleAlone(sent func(field string) bool) error {
	for _, field := range []string{"max_retries", "backoff_ms"} {
		if sent(field) {
			return rest.BrokenField("body."+field, "goes without retry_schedule_ms only, which says how many retries there are, and when", nil)
		}
	}
	return nil
}

// patchSchedule completes a policy that a patch was applied to. Without its schedule it has the defaults of what was
// not sent.
func patchSchedule(policy *postrider.Policy, before postrider.Policy, sent func(field string) bool) error {
	if policy.RetrySchedule != "" {
		return checkScheduleAlone(sent)
	}
	if before.RetrySchedule == "" {
		return nil
	}
	defaults := newWebhookSettings().Policy
	if !sent("max_retries") {
		policy.MaxRetries = defaults.MaxRetries
	}
	if !sent("backoff_ms") {
		policy.BackoffMS = defaults.BackoffMS
	}
	return nil
}
