package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"postrider.dev/postrider/signing"
)

const taskQueue = "deliveries"

// tables is the schema of this design.
const tables = `
CREATE TABLE IF NOT EXISTS webhooks (id text PRIMARY KEY, url text NOT NULL, event_type text NOT NULL, secret text NOT NULL);
CREATE INDEX IF NOT EXISTS webhooks_event_type ON webhooks (event_type);
CREATE TABLE IF NOT EXISTS events (id text PRIMARY KEY, type text NOT NULL, body bytea NOT NULL, created_at timestamptz NOT NULL);
CREATE TABLE IF NOT EXISTS deliveries (id text PRIMARY KEY, webhook_id text NOT NULL, event_id text NOT NULL, state text NOT NULL,
	attempt_count integer NOT NULL, created_at timestamptz NOT NULL, finished_at timestamptz);
CREATE INDEX IF NOT EXISTS deliveries_webhook ON deliveries (webhook_id, id);
CREATE TABLE IF NOT EXISTS attempts (delivery_id text NOT NULL, number integer NOT NULL, started_at timestamptz NOT NULL,
	duration_ms bigint NOT NULL, status_code integer NOT NULL, PRIMARY KEY (delivery_id, number));
`

// naive is the API's handlers, the activity, and their connections.
type naive struct {
	db       *sql.DB
	temporal client.Client
	key      string
}

// start starts the workflow of a delivery.
func (n *naive) start(ctx context.Context, deliveryID string) error {
	options := client.StartWorkflowOptions{ID: "delivery/" + deliveryID, TaskQueue: taskQueue}
	_, err := n.temporal.ExecuteWorkflow(ctx, options, deliver, deliveryID)
	return err
}

// deliver is the workflow.
func deliver(ctx workflow.Context, deliveryID string) error {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: 10 * time.Second,
		RetryPolicy:         &temporal.RetryPolicy{InitialInterval: time.Second, BackoffCoefficient: 2, MaximumAttempts: 4},
	})
	var n *naive
	return workflow.ExecuteActivity(ctx, n.attempt, deliveryID).Get(ctx, nil)
}

// attempt is the activity: it makes one POST and records it.
func (n *naive) attempt(ctx context.Context, deliveryID string) error {
	var url, secret, eventID string
	var number int
	var body []byte
	err := n.db.QueryRowContext(ctx, `SELECT w.url, w.secret, e.id, e.body, d.attempt_count + 1 FROM deliveries d
		JOIN webhooks w ON w.id = d.webhook_id JOIN events e ON e.id = d.event_id WHERE d.id = $1`, deliveryID).
		Scan(&url, &secret, &eventID, &body, &number)
	if err != nil {
		return err
	}
	began := time.Now()
	status, err := post(ctx, url, secret, signing.Message{ID: eventID, Timestamp: began, Body: body}, deliveryID)
	if err := n.record(context.WithoutCancel(ctx), deliveryID, number, began, status); err != nil {
		return err
	}
	if err == nil && (status < 200 || status > 299) {
		err = fmt.Errorf("status %d", status)
	}
	return err
}

// post makes the request and returns the status of the answer, or 0 without an answer.
func post(ctx context.Context, url, secret string, message signing.Message, deliveryID string) (int, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(message.Body))
	if err != nil {
		return 0, err
	}
	if request.Header, err = signing.Sign("hmac_sha256", []string{secret}, message); err != nil {
		return 0, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set(signing.HeaderDeliveryID, deliveryID)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	return response.StatusCode, response.Body.Close()
}

// record stores an attempt and its delivery's new state.
func (n *naive) record(ctx context.Context, deliveryID string, number int, began time.Time, status int) (err error) {
	tx, err := n.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, tx.Rollback())
		}
	}()
	now := time.Now()
	if _, err := tx.ExecContext(ctx,
		"INSERT INTO attempts (delivery_id, number, started_at, duration_ms, status_code) VALUES ($1, $2, $3, $4, $5)",
		deliveryID, number, began, now.Sub(began).Milliseconds(), status); err != nil {
		return err
	}
	state := "retrying"
	if status >= 200 && status <= 299 {
		state = "succeeded"
	}
	if _, err := tx.ExecContext(ctx, "UPDATE deliveries SET state = $2, attempt_count = $3, finished_at = $4 WHERE id = $1",
		deliveryID, state, number, now); err != nil {
		return err
	}
	return tx.Commit()
}
