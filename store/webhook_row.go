package store

import (
	"encoding/json"

	"postrider.dev/postrider"
)

// webhookRow is a webhook as the database returns it, with its stats.
type webhookRow struct {
	ID             string
	WorkspaceID    string `db:"workspace_id"`
	URL            string
	Events         string
	Name           *string
	Description    *string
	SigningMethod  postrider.SigningMethod `db:"signing_method"`
	SecretID       *string                 `db:"secret_id"`
	ScopeType      postrider.ScopeType     `db:"scope_type"`
	PersonaID      *string                 `db:"persona_id"`
	TimeoutMS      int                     `db:"timeout_ms"`
	MaxRetries     int                     `db:"max_retries"`
	BackoffMS      int                     `db:"backoff_ms"`
	Headers        string
	RateLimit      *int `db:"rate_limit"`
	MaxInFlight    int  `db:"max_in_flight"`
	Status         postrider.WebhookStatus
	DisabledReason *string `db:"disabled_reason"`
	CreatedAt      moment  `db:"created_at"`
	UpdatedAt      moment  `db:"updated_at"`
	DeletedAt      *moment `db:"deleted_at"`

	TotalDeliveries  int64   `db:"total_deliveries"`
	FailedDeliveries int64   `db:"failed_deliveries"`
	LastDeliveryAt   *moment `db:"last_delivery_at"`
	LastError        *string `db:"last_error"`
}

// selectWebhooks reads webhookRows; a condition on w follows.
const selectWebhooks = `SELECT w.id, w.workspace_id, w.url, w.events, w.name, w.description, w.signing_method, w.secret_id,
	w.scope_type, w.persona_id, w.timeout_ms, w.max_retries, w.backoff_ms, w.headers, w.rate_limit, w.max_in_flight,
	w.status, w.disabled_reason, w.created_at, w.updated_at, w.deleted_at,
	t.total_deliveries, t.failed_deliveries, t.last_delivery_at, t.last_error
	FROM webhooks w JOIN webhook_stats t ON t.webhook_id = w.id WHERE `

func (r webhookRow) cursor() string { return r.ID }

func (r webhookRow) item() (postrider.Webhook, error) {
	w := postrider.Webhook{
		ID: r.ID, WorkspaceID: r.WorkspaceID, URL: r.URL, Name: r.Name, Description: r.Description,
		SigningMethod: r.SigningMethod, SecretID: r.SecretID, ScopeType: r.ScopeType, PersonaID: r.PersonaID,
		Policy:    postrider.Policy{TimeoutMS: r.TimeoutMS, MaxRetries: r.MaxRetries, BackoffMS: r.BackoffMS},
		RateLimit: r.RateLimit, MaxInFlight: r.MaxInFlight, Status: r.Status, DisabledReason: r.DisabledReason,
		Stats: postrider.WebhookStats{
			TotalDeliveries: r.TotalDeliveries, FailedDeliveries: r.FailedDeliveries,
			LastDeliveryAt: timeOf(r.LastDeliveryAt), LastError: r.LastError,
		},
		CreatedAt: r.CreatedAt.Time, UpdatedAt: r.UpdatedAt.Time,
	}
	if err := json.Unmarshal([]byte(r.Events), &w.Events); err != nil {
		return w, err
	}
	return w, json.Unmarshal([]byte(r.Headers), &w.Headers)
}

// webhookTexts returns what is stored as JSON.
func webhookTexts(w postrider.Webhook) (events, headers string, err error) {
	patterns, err := json.Marshal(w.Events)
	if err != nil {
		return "", "", err
	}
	if w.Headers == nil {
		return string(patterns), "{}", nil
	}
	fields, err := json.Marshal(w.Headers)
	return string(patterns), string(fields), err
}
