package api

import (
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"postrider.dev/postrider"
)

// CreateWebhook is the body of a create request. Its zero value is not what a
// client gets by leaving everything out: [newWebhookSettings] is.
type CreateWebhook struct {
	URL           string                  `json:"url" minLength:"1" maxLength:"2083" format:"uri" doc:"Where events are sent: http or https, without a user name or password." example:"https://example.com/hooks"`
	Events        []string                `json:"events" minItems:"1" maxItems:"100" nullable:"false" maxLength:"128" pattern:"^(\\*|[A-Za-z0-9_]+(\\.[A-Za-z0-9_]+)*(\\.\\*)?)$" patternDescription:"an event type, a trailing wildcard as call.*, or *" doc:"Event types to subscribe to: exact ones, a trailing wildcard such as call.*, or * for all. An entry given twice counts once." example:"[\"call.ended\",\"contact.updated\"]"`
	Name          *string                 `json:"name,omitempty" nullable:"true" maxLength:"255" doc:"Display name."`
	Description   *string                 `json:"description,omitempty" nullable:"true" maxLength:"1024"`
	SigningMethod postrider.SigningMethod `json:"signing_method,omitempty" enum:"hmac_sha256,hmac_sha1,bearer,basic_auth,none" default:"hmac_sha256" doc:"How the receiver can tell that a request came from here. The HMAC methods make a secret when none is given; bearer and basic_auth need one."`
	Secret        *string                 `json:"secret,omitempty" nullable:"true" minLength:"1" maxLength:"1024" writeOnly:"true" doc:"Signing secret; user:password for basic_auth. It is kept as a workspace secret and never shown in a webhook."`
	ScopeType     postrider.ScopeType     `json:"scope_type,omitempty" enum:"global,persona" default:"global" doc:"global: every event; persona: one persona's only."`
	PersonaID     *string                 `json:"persona_id,omitempty" nullable:"true" minLength:"1" maxLength:"1024" doc:"Required when scope_type is persona, and goes with it only."`
	TimeoutMS     int                     `json:"timeout_ms,omitempty" minimum:"1000" maximum:"30000" default:"5000" doc:"One deadline in milliseconds over connecting, TLS, sending, headers and body."`
	MaxRetries    int                     `json:"max_retries,omitempty" minimum:"0" maximum:"10" default:"3" doc:"Attempts after the first."`
	BackoffMS     int                     `json:"backoff_ms,omitempty" minimum:"100" maximum:"3600000" default:"1000" doc:"The first retry's wait in milliseconds; it doubles each time, is capped at one hour and carries 20 % jitter."`
	Headers       map[string]string       `json:"headers,omitempty" maxProperties:"32" doc:"Headers added to every request. Reserved names are refused: Postrider's own, the signature's, Authorization, and those of the HTTP connection."`
	RateLimit     *int                    `json:"rate_limit,omitempty" nullable:"true" minimum:"1" maximum:"10000" doc:"Requests a second; null for no limit."`
	MaxInFlight   int                     `json:"max_in_flight,omitempty" minimum:"1" maximum:"1000" default:"32" doc:"Requests at once."`
}

// updateWebhook is the body of a PATCH request: the fields of a create request,
// none required and none with a default.
type updateWebhook struct {
	CreateWebhook
}

// TransformSchema implements huma.SchemaTransformer.
func (updateWebhook) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	s.Required = nil
	for _, property := range s.Properties {
		property.Default = nil
	}
	return s
}

// webhook is a webhook as it is shown: everything but its secret.
type webhook struct {
	ID               string                  `json:"id" example:"wh_019a8f3c5b7e7c3a9d2e4f6081a2b3c4"`
	URL              string                  `json:"url" format:"uri"`
	Events           []string                `json:"events" nullable:"false"`
	Name             *string                 `json:"name"`
	Description      *string                 `json:"description"`
	SigningMethod    postrider.SigningMethod `json:"signing_method" enum:"hmac_sha256,hmac_sha1,bearer,basic_auth,none"`
	SecretID         *string                 `json:"secret_id" doc:"The workspace secret that signs; null when there is none."`
	ScopeType        postrider.ScopeType     `json:"scope_type" enum:"global,persona"`
	PersonaID        *string                 `json:"persona_id"`
	DeliverySettings postrider.Policy        `json:"delivery_settings"`
	Headers          map[string]string       `json:"headers"`
	RateLimit        *int                    `json:"rate_limit" doc:"Requests a second; null for no limit."`
	MaxInFlight      int                     `json:"max_in_flight" doc:"Requests at once."`
	Status           postrider.WebhookStatus `json:"status" enum:"active,paused,disabled" doc:"Events for a webhook that is not active are parked, not dropped."`
	DisabledReason   *string                 `json:"disabled_reason" doc:"Why the engine disabled it: gone when the receiver answered 410."`
	Stats            webhookStats            `json:"stats"`
	LastDeliveryAt   *time.Time              `json:"last_delivery_at" doc:"When the latest delivery finished."`
	LastError        *string                 `json:"last_error" doc:"Why the latest failed attempt failed."`
	CreatedAt        time.Time               `json:"created_at" nullable:"true"`
	UpdatedAt        time.Time               `json:"updated_at" nullable:"true"`
}

// webhookStats sum up a webhook's finished deliveries.
type webhookStats struct {
	TotalDeliveries  int64   `json:"total_deliveries" doc:"Finished ones; cancelled ones do not count."`
	FailedDeliveries int64   `json:"failed_deliveries" doc:"Those that ended without a 2xx."`
	SuccessRate      float64 `json:"success_rate" minimum:"0" maximum:"1" doc:"1 when none has finished."`
}

func showWebhook(w postrider.Webhook) webhook {
	headers := w.Headers
	if headers == nil {
		headers = map[string]string{}
	}
	return webhook{
		ID: w.ID, URL: w.URL, Events: w.Events, Name: w.Name, Description: w.Description,
		SigningMethod: w.SigningMethod, SecretID: w.SecretID, ScopeType: w.ScopeType, PersonaID: w.PersonaID,
		DeliverySettings: w.Policy, Headers: headers, RateLimit: w.RateLimit, MaxInFlight: w.MaxInFlight,
		Status: w.Status, DisabledReason: w.DisabledReason,
		Stats: webhookStats{
			TotalDeliveries:  w.Stats.TotalDeliveries,
			FailedDeliveries: w.Stats.FailedDeliveries,
			SuccessRate:      w.Stats.SuccessRate(),
		},
		LastDeliveryAt: w.Stats.LastDeliveryAt, LastError: w.Stats.LastError,
		CreatedAt: w.CreatedAt, UpdatedAt: w.UpdatedAt,
	}
}

// newWebhookSettings returns the defaults of a create request.
func newWebhookSettings() CreateWebhook {
	return CreateWebhook{
		SigningMethod: postrider.SigningHMACSHA256,
		ScopeType:     postrider.ScopeGlobal,
		TimeoutMS:     postrider.DefaultTimeoutMS,
		MaxRetries:    postrider.DefaultMaxRetries,
		BackoffMS:     postrider.DefaultBackoffMS,
		MaxInFlight:   postrider.DefaultMaxInFlight,
	}
}

// settingsOf returns a webhook's settings as a request would give them. Decoding a
// request over them does not write through to the webhook, but for Headers.
func settingsOf(w *postrider.Webhook) CreateWebhook {
	return CreateWebhook{
		URL: w.URL, Events: slices.Clone(w.Events), Name: clone(w.Name), Description: clone(w.Description),
		SigningMethod: w.SigningMethod, ScopeType: w.ScopeType, PersonaID: clone(w.PersonaID),
		TimeoutMS: w.Policy.TimeoutMS, MaxRetries: w.Policy.MaxRetries, BackoffMS: w.Policy.BackoffMS,
		Headers: w.Headers, RateLimit: clone(w.RateLimit), MaxInFlight: w.MaxInFlight,
	}
}

// apply gives the webhook the settings.
func (c CreateWebhook) apply(w *postrider.Webhook) {
	w.URL, w.Name, w.Description = c.URL, c.Name, c.Description
	w.Events = unique(c.Events)
	w.SigningMethod, w.ScopeType, w.PersonaID = c.SigningMethod, c.ScopeType, c.PersonaID
	w.Policy = postrider.Policy{TimeoutMS: c.TimeoutMS, MaxRetries: c.MaxRetries, BackoffMS: c.BackoffMS}
	w.Headers, w.RateLimit, w.MaxInFlight = c.Headers, c.RateLimit, c.MaxInFlight
}

// unique returns the texts without those that came before.
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

// clone returns a pointer to a copy, and nil for nil.
func clone[T any](p *T) *T {
	if p == nil {
		return nil
	}
	copied := *p
	return &copied
}
