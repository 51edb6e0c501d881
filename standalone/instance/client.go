package instance

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// Client makes requests to an API with one key.
type Client struct {
	API string // base URL
	Key string
}

// Ready reports whether the API answers that it is ready.
func (c *Client) Ready(ctx context.Context) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.API+"/readyz", nil)
	if err != nil {
		return false
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// Call makes a request to the API with the key. It sends a body that is not nil as JSON, and
// decodes the answer into an answer that is not nil. It returns a [*StatusError] for every status
// that is not 2xx.
func (c *Client) Call(ctx context.Context, method, path string, body, answer any) error {
	var payload io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		payload = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.API+path, payload)
	if err != nil {
		return err
	}
	request.Header.Set("X-API-Key", c.Key)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode >= http.StatusMultipleChoices {
		return &StatusError{Status: response.StatusCode, Body: string(text)}
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(text, answer)
}

// StatusError is an answer that is not 2xx.
type StatusError struct {
	Status int
	Body   string
}

// Error returns the status and the problem document.
func (e *StatusError) Error() string { return fmt.Sprintf("status %d: %s", e.Status, e.Body) }

// Webhook is the part of a webhook that callers read.
type Webhook struct {
	ID             string  `json:"id"`
	Status         string  `json:"status"`
	DisabledReason *string `json:"disabled_reason"`
	Stats          struct {
		TotalDeliveries  int     `json:"total_deliveries"`
		FailedDeliveries int     `json:"failed_deliveries"`
		SuccessRate      float64 `json:"success_rate"`
	} `json:"stats"`
	LastError *string `json:"last_error"`
	Health    struct {
		State string `json:"state"`
	} `json:"health"`
}

// CreateWebhook creates a webhook from the request's fields.
func (c *Client) CreateWebhook(ctx context.Context, fields map[string]any) (Webhook, error) {
	var w Webhook
	err := c.Call(ctx, http.MethodPost, "/api/v1/webhooks", fields, &w)
	return w, err
}

// Secret reveals a webhook's secret.
func (c *Client) Secret(ctx context.Context, webhookID string) (string, error) {
	var answer struct {
		Secret string `json:"secret"`
	}
	err := c.Call(ctx, http.MethodGet, "/api/v1/webhooks/"+webhookID+"/secret", nil, &answer)
	return answer.Secret, err
}

// Receipt is the answer to a publish.
type Receipt struct {
	ID         string `json:"id"`
	Type       string `json:"type"`
	Deliveries int    `json:"deliveries"`
	Duplicate  bool   `json:"duplicate"`
}

// Publish publishes an event from the request's fields.
func (c *Client) Publish(ctx context.Context, fields map[string]any) (Receipt, error) {
	var r Receipt
	err := c.Call(ctx, http.MethodPost, "/api/v1/events", fields, &r)
	return r, err
}

// Delivery is the part of a delivery and its history that callers read.
type Delivery struct {
	ID            string    `json:"id"`
	WebhookID     string    `json:"webhook_id"`
	EventID       string    `json:"event_id"`
	State         string    `json:"state"`
	AttemptCount  int       `json:"attempt_count"`
	NextAttemptAt *string   `json:"next_attempt_at"`
	LastError     *string   `json:"last_error"`
	WorkflowID    *string   `json:"workflow_id"`
	ReplayOf      *string   `json:"replay_of"`
	RunID         *string   `json:"run_id"`
	Source        string    `json:"source"`
	TemporalUIURL *string   `json:"temporal_ui_url"`
	Attempts      []Attempt `json:"attempts"`
}

// Attempt is the part of an attempt that callers read.
type Attempt struct {
	Number     int     `json:"number"`
	StartedAt  string  `json:"started_at"`
	DurationMS int64   `json:"duration_ms"`
	StatusCode *int    `json:"status_code"`
	Result     string  `json:"result"`
	Error      *string `json:"error"`
}

// Deliveries returns a webhook's newest deliveries, at most 200.
func (c *Client) Deliveries(ctx context.Context, webhookID string) ([]Delivery, error) {
	var page struct {
		Data []Delivery `json:"data"`
	}
	err := c.Call(ctx, http.MethodGet, "/api/v1/webhooks/"+webhookID+"/deliveries?limit=200", nil, &page)
	return page.Data, err
}

// Delivery reads a delivery with its attempts.
func (c *Client) Delivery(ctx context.Context, id string) (Delivery, error) {
	var d Delivery
	err := c.Call(ctx, http.MethodGet, "/api/v1/deliveries/"+id, nil, &d)
	return d, err
}

// History reads a delivery's history.
func (c *Client) History(ctx context.Context, id string) (Delivery, error) {
	var d Delivery
	err := c.Call(ctx, http.MethodGet, "/api/v1/deliveries/"+id+"/history", nil, &d)
	return d, err
}
