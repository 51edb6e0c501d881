package store

import (
	"encoding/json"
	"errors"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/sqldb"
)

// storedWebhook is a row of the table webhooks. The db tags of [postrider.WebhookSettings] name
// the settings' columns.
type storedWebhook struct {
	ID          string
	WorkspaceID string `db:"workspace_id"`
	postrider.WebhookSettings
	postrider.Policy

	Events            string  // JSON
	Headers           string  // JSON, see headersRow
	HeadersKeyID      *string `db:"headers_key_id"`
	HeadersCiphertext []byte  `db:"headers_ciphertext"`
	tlsRow
	ShapeID        *string `db:"shape_id"` // of transform and format
	SecretID       *string `db:"secret_id"`
	Status         postrider.WebhookStatus
	DisabledReason *string     `db:"disabled_reason"`
	InactiveSince  *sqldb.Time `db:"inactive_since"`
	CreatedAt      sqldb.Time  `db:"created_at"`
	UpdatedAt      sqldb.Time  `db:"updated_at"`
}

// webhookStats are the columns of a row of the table webhook_stats beside its key.
type webhookStats struct {
	TotalDeliveries  int64       `db:"total_deliveries"`
	FailedDeliveries int64       `db:"failed_deliveries"`
	LastDeliveryAt   *sqldb.Time `db:"last_delivery_at"`
	LastError        *string     `db:"last_error"`
}

// statsRow is a row of the table webhook_stats.
type statsRow struct {
	WebhookID string `db:"webhook_id"`
	webhookStats
	healthColumns
}

// paceRow is a row of the table webhook_pace.
type paceRow struct {
	WebhookID string     `db:"webhook_id"`
	NextAt    sqldb.Time `db:"next_at"`
}

// patternRow is a row of the table webhook_events.
type patternRow struct {
	subscription
	WebhookID string `db:"webhook_id"`
}

// webhookRow is a webhook as selectWebhooks reads it, with its stats.
type webhookRow struct {
	storedWebhook
	webhookStats
	healthColumns
	gateColumns

	DeletedAt *sqldb.Time `db:"deleted_at"`
}

func (r webhookRow) cursor() string { return r.ID }

// item implements listed: the store decrypts, see webhookOf.
func (r webhookRow) item() (webhookRow, error) { return r, nil }

// webhookOf returns the webhook of a row. With [errUndecryptable] it is complete but for the values
// of its headers and its client key.
func (s *Store) webhookOf(r webhookRow) (postrider.Webhook, error) {
	w := postrider.Webhook{
		ID: r.ID, WorkspaceID: r.WorkspaceID, WebhookSettings: r.WebhookSettings, Policy: r.Policy,
		SecretID: r.SecretID, Status: r.Status, DisabledReason: r.DisabledReason,
		InactiveSince: r.InactiveSince.Pointer(),
		Stats: postrider.WebhookStats{
			TotalDeliveries: r.TotalDeliveries, FailedDeliveries: r.FailedDeliveries,
			LastDeliveryAt: r.LastDeliveryAt.Pointer(), LastError: r.LastError,
		},
		Health:    postrider.HealthOf(r.ConsecutiveFailures, r.FailingSince.Pointer(), r.gate()),
		CreatedAt: r.CreatedAt.Time, UpdatedAt: r.UpdatedAt.Time,
	}
	if err := json.Unmarshal([]byte(r.Events), &w.Events); err != nil {
		return w, err
	}
	var headersErr, tlsErr error
	w.Headers, headersErr = s.unsealHeaders(r.WorkspaceID, r.ID, headersRow{r.Headers, r.HeadersKeyID, r.HeadersCiphertext})
	w.TLS, tlsErr = s.unsealTLS(r.WorkspaceID, r.ID, r.tlsRow)
	return w, errors.Join(headersErr, tlsErr)
}

// rowOf returns a webhook as it is stored.
func (s *Store) rowOf(w postrider.Webhook) (storedWebhook, error) {
	row := storedWebhook{
		ID: w.ID, WorkspaceID: w.WorkspaceID, WebhookSettings: w.WebhookSettings, Policy: w.Policy,
		SecretID: w.SecretID, Status: w.Status, DisabledReason: w.DisabledReason,
		InactiveSince: sqldb.NullTime(w.InactiveSince),
		CreatedAt:     sqldb.TimeOf(w.CreatedAt), UpdatedAt: sqldb.TimeOf(w.UpdatedAt),
	}
	row.ShapeID = nullText(w.Shape().ID())
	events, err := json.Marshal(w.Events)
	if err != nil {
		return row, err
	}
	row.Events = string(events)
	sealed, err := s.sealHeaders(w.WorkspaceID, w.ID, w.Headers)
	row.Headers, row.HeadersKeyID, row.HeadersCiphertext = sealed.Headers, sealed.HeadersKeyID, sealed.HeadersCiphertext
	if err != nil {
		return row, err
	}
	row.tlsRow, err = s.sealTLS(w.WorkspaceID, w.ID, w.TLS)
	return row, err
}
