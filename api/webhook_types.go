package api

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"postrider.dev/postrider"
	"postrider.dev/postrider/api/rest"
	"postrider.dev/postrider/signing"
)

// CreateWebhook is the body of a create request. [newWebhookSettings] has its defaults.
type CreateWebhook struct {
	postrider.WebhookSettings
	postrider.Policy

	Secret *string `json:"secret" nullable:"true" minLength:"1" maxLength:"1024" writeOnly:"true" doc:"Signing secret; user:password for basic_auth. For hmac_sha256 one that begins with whsec_ must go on with the standard base64 of 24 to 64 bytes; any other text is the key as it is. It is kept as a workspace secret and never shown in a webhook."`
}

// TransformSchema implements huma.SchemaTransformer.
func (CreateWebhook) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	s.Required = []string{"url", "events"}
	nameMethods(s)
	for name, value := range defaultsOf(newWebhookSettings()) {
		s.Properties[name].Default = value
	}
	return s
}

// updateWebhook is the body of a PATCH request: the fields of a create request, all optional
// and without defaults.
type updateWebhook struct {
	CreateWebhook
}

// TransformSchema implements huma.SchemaTransformer.
func (updateWebhook) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	s.Required = nil
	nameMethods(s)
	return s
}

// nameMethods lists the signing methods in the schema.
func nameMethods(s *huma.Schema) {
	property := s.Properties["signing_method"]
	property.Enum = nil
	for _, method := range signing.Methods() {
		property.Enum = append(property.Enum, string(method))
	}
}

// defaultsOf returns the fields that have a value, as JSON decodes them.
func defaultsOf(settings CreateWebhook) map[string]any {
	text, err := json.Marshal(settings) //nolint:gosec // defaults have no secret
	fields := map[string]any{}
	if err = errors.Join(err, json.Unmarshal(text, &fields)); err != nil {
		panic(err) // only at the start, whatever callers send
	}
	maps.DeleteFunc(fields, func(_ string, value any) bool { return value == nil || value == "" })
	return fields
}

// Webhook is the answer about a webhook. It never has the secret.
type Webhook struct {
	ID string `json:"id" example:"wh_019a8f3c5b7e7c3a9d2e4f6081a2b3c4"`
	postrider.WebhookSettings

	SecretID         *string                 `json:"secret_id" doc:"The workspace secret that signs; null when there is none."`
	DeliverySettings postrider.Policy        `json:"delivery_settings"`
	Status           postrider.WebhookStatus `json:"status" enum:"active,paused,disabled" doc:"Events for a webhook that is not active are parked, not dropped."`
	DisabledReason   *string                 `json:"disabled_reason" doc:"Why the engine disabled it: gone when the receiver answered 410, failing when every attempt had failed for disable_after_seconds."`
	Health           postrider.WebhookHealth `json:"health" doc:"How its attempts go."`
	Stats            webhookStats            `json:"stats"`
	LastDeliveryAt   *time.Time              `json:"last_delivery_at" doc:"When the latest delivery finished."`
	LastError        *string                 `json:"last_error" doc:"Why the latest failed attempt failed."`
	CreatedAt        time.Time               `json:"created_at" nullable:"true"`
	UpdatedAt        time.Time               `json:"updated_at" nullable:"true"`
}

// TransformSchema implements huma.SchemaTransformer.
func (Webhook) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	nameMethods(s)
	return s
}

// webhookWithOrder is the answer about one webhook.
type webhookWithOrder struct {
	Webhook
	BlockedBy []blocker `json:"blocked_by" nullable:"false" maxItems:"10" doc:"Deliveries that hold others up by the webhook's ordering: they failed and block, are being retried, are paused, or are due later. Those that block come first; ten at most."`
}

// TransformSchema implements huma.SchemaTransformer.
func (webhookWithOrder) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	nameMethods(s)
	return s
}

// blocker is a delivery that holds others up.
type blocker struct {
	OrderingKey *string                 `json:"ordering_key" doc:"Of those that it holds up; null where all of the webhook wait for it."`
	DeliveryID  string                  `json:"delivery_id" doc:"Retry, skip or cancel it, or resume it, to let the others go."`
	State       postrider.DeliveryState `json:"state" enum:"pending,delivering,retrying,parked,succeeded,failed,cancelled"`
	Since       time.Time               `json:"since" doc:"Since when it is its turn, or it blocks or is paused."`
}

func showBlockers(blockers []postrider.Blocker) []blocker {
	shown := make([]blocker, len(blockers))
	for i, b := range blockers {
		shown[i] = blocker(b)
	}
	return shown
}

// webhookStats count a webhook's finished deliveries.
type webhookStats struct {
	TotalDeliveries  int64   `json:"total_deliveries" doc:"Finished ones; cancelled ones do not count."`
	FailedDeliveries int64   `json:"failed_deliveries" doc:"Those that ended without a 2xx."`
	SuccessRate      float64 `json:"success_rate" minimum:"0" maximum:"1" doc:"1 when none has finished."`
}

// showWebhook returns a webhook as the caller may see it: the values of custom headers, which often
// are credentials, need the scope manage, and nobody sees a client key.
func showWebhook(ctx context.Context, w postrider.Webhook) Webhook {
	shown := Webhook{
		ID: w.ID, WebhookSettings: w.WebhookSettings, SecretID: w.SecretID, DeliverySettings: w.Policy,
		Status: w.Status, DisabledReason: w.DisabledReason, Health: w.Health,
		Stats: webhookStats{
			TotalDeliveries:  w.Stats.TotalDeliveries,
			FailedDeliveries: w.Stats.FailedDeliveries,
			SuccessRate:      w.Stats.SuccessRate(),
		},
		LastDeliveryAt: w.Stats.LastDeliveryAt, LastError: w.Stats.LastError,
		CreatedAt: w.CreatedAt, UpdatedAt: w.UpdatedAt,
	}
	shown.Headers, shown.TLS = showHeaders(ctx, w.Headers), w.TLS.Masked()
	return shown
}

// showHeaders returns custom headers as the caller may see them.
func showHeaders(ctx context.Context, headers map[string]string) map[string]string {
	visible := rest.Allows(ctx, postrider.ScopeManage)
	shown := make(map[string]string, len(headers))
	for name, value := range headers {
		if !visible {
			value = postrider.MaskedHeader
		}
		shown[name] = value
	}
	return shown
}

// newWebhookSettings returns the defaults of a create request.
func newWebhookSettings() CreateWebhook {
	return CreateWebhook{
		WebhookSettings: postrider.WebhookSettings{
			SigningMethod: signing.Methods()[0], ScopeType: postrider.ScopeGlobal, MaxInFlight: postrider.DefaultMaxInFlight,
			ParkSeconds: postrider.DefaultParkSeconds, Format: postrider.FormatEnvelope,
			CircuitBreaker: true, DisableAfterSeconds: postrider.DefaultDisableAfterSeconds,
			Ordering: postrider.OrderingNone, OnExhausted: postrider.ExhaustedSkip,
		},
		Policy: postrider.Policy{
			TimeoutMS: postrider.DefaultTimeoutMS, MaxRetries: postrider.DefaultMaxRetries, BackoffMS: postrider.DefaultBackoffMS,
		},
	}
}

// settingsOf returns a copy of a webhook's settings as the body of a request. It is a deep
// copy, because a PATCH is decoded over it and must not change the webhook.
func settingsOf(w *postrider.Webhook) (CreateWebhook, error) {
	text, err := json.Marshal(CreateWebhook{WebhookSettings: w.WebhookSettings, Policy: w.Policy}) //nolint:gosec // no secret is set
	var settings CreateWebhook
	return settings, errors.Join(err, json.Unmarshal(text, &settings))
}

// apply stores the settings in the webhook.
func (c CreateWebhook) apply(w *postrider.Webhook) {
	w.WebhookSettings, w.Policy = c.WebhookSettings, c.Scheduled()
	w.Events = unique(c.Events)
}

// unique returns the texts without repetitions.
func unique(texts []string) []string {
	seen := make(map[string]bool, len(texts))
	kept := make([]string, 0, len(texts))
	for _, text := range texts {
		if !seen[text] {
			kept = append(kept, text)
		}
		seen[text] = true
	}
	return kept
}
