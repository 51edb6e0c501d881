package store

import (
	"context"
	"slices"

	"postrider.dev/postrider"
)

type deliveryRow struct {
	ID            string
	WorkspaceID   string `db:"workspace_id"`
	WebhookID     string `db:"webhook_id"`
	EventID       string `db:"event_id"`
	EventKey      string `db:"event_key"`
	EventType     string `db:"event_type"`
	State         postrider.DeliveryState
	TimeoutMS     int     `db:"timeout_ms"`
	MaxRetries    int     `db:"max_retries"`
	BackoffMS     int     `db:"backoff_ms"`
	AttemptCount  int     `db:"attempt_count"`
	NextAttemptAt *moment `db:"next_attempt_at"`
	LastError     *string `db:"last_error"`
	ReplayOf      *string `db:"replay_of"`
	CreatedAt     moment  `db:"created_at"`
	DueAt         moment  `db:"due_at"`
	FinishedAt    *moment `db:"finished_at"`
	WorkflowID    string  `db:"workflow_id"`
	TraceContext  string  `db:"trace_context"`
}

// selectStored begins a query of deliveries as they are stored, see selectDeliveries.
const selectStored = `SELECT id, workspace_id, webhook_id, event_id, event_key, event_type, state, timeout_ms, max_retries, backoff_ms,
	attempt_count, next_attempt_at, last_error, replay_of, created_at, due_at, finished_at, workflow_id,
	COALESCE(trace_context, '') AS trace_context FROM deliveries WHERE `

// Parts of a query of deliveries, d, that look into the outbox. A join would let
// PostgreSQL read the whole of it where it has seen it nearly empty.
const (
	ofOutbox = "FROM outbox o WHERE o.delivery_id = d.id AND "
	// onItsWay is there for a delivery whose first attempt is leased to a workflow.
	onItsWay = "(SELECT 1 " + ofOutbox + isLeased + " AND " + isStart + ")"
	// carrier is the workflow that carries a delivery, null or '' when none does.
	carrier = "(SELECT o.workflow_id " + ofOutbox + "(" + isRetry + " OR " + isLeased + " AND " + isStart + "))"
)

// selectDeliveries begins a query of deliveries, d. Nothing but the outbox says which
// workflow carries one: the row itself names the workflow that made the latest attempt.
const selectDeliveries = `SELECT d.id, d.workspace_id, d.webhook_id, d.event_id, d.event_key, d.event_type,
	CASE WHEN d.state = 'pending' AND ` + onItsWay + ` IS NOT NULL THEN 'delivering' ELSE d.state END AS state,
	d.timeout_ms, d.max_retries, d.backoff_ms, d.attempt_count, d.next_attempt_at, d.last_error, d.replay_of, d.created_at, d.due_at, d.finished_at,
	COALESCE(NULLIF(` + carrier + `, ''), d.workflow_id) AS workflow_id,
	COALESCE(d.trace_context, '') AS trace_context
	FROM deliveries d WHERE `

func (r deliveryRow) cursor() string { return r.ID }

func (r deliveryRow) policy() postrider.Policy {
	return postrider.Policy{TimeoutMS: r.TimeoutMS, MaxRetries: r.MaxRetries, BackoffMS: r.BackoffMS}
}

func (r deliveryRow) item() (postrider.Delivery, error) {
	return postrider.Delivery{
		ID: r.ID, WorkspaceID: r.WorkspaceID, WebhookID: r.WebhookID,
		EventID: r.EventID, EventKey: r.EventKey, EventType: r.EventType, State: r.State, Policy: r.policy(),
		AttemptCount: r.AttemptCount, NextAttemptAt: timeOf(r.NextAttemptAt), LastError: r.LastError, ReplayOf: r.ReplayOf,
		CreatedAt: r.CreatedAt.Time, DueAt: r.DueAt.Time, FinishedAt: timeOf(r.FinishedAt), WorkflowID: r.WorkflowID, TraceContext: r.TraceContext,
	}, nil
}

// Delivery returns a delivery. Returns [postrider.CodeNotFound] if it is unknown,
// past its retention or another workspace's.
func (s *Store) Delivery(ctx context.Context, workspaceID, id string) (postrider.Delivery, error) {
	var row deliveryRow
	if err := sqlOf(selectDeliveries+"d.id = ? AND d.workspace_id = ?", id, workspaceID).get(ctx, s.reading, &row); err != nil {
		return postrider.Delivery{}, failure("read a delivery", none("delivery", err))
	}
	return row.item()
}

// Deliveries lists a webhook's or an event's deliveries, newest first. Returns
// [postrider.CodeInvalid] when the filter names neither, and no error when there
// is no such webhook or event.
func (s *Store) Deliveries(ctx context.Context, workspaceID string, f postrider.DeliveryFilter, p postrider.Page) (postrider.List[postrider.Delivery], error) {
	list, err := s.deliveries(ctx, workspaceID, f, p)
	return list, failure("list deliveries", err)
}

func (s *Store) deliveries(ctx context.Context, workspaceID string, f postrider.DeliveryFilter, p postrider.Page) (postrider.List[postrider.Delivery], error) {
	nothing := postrider.List[postrider.Delivery]{Items: []postrider.Delivery{}}
	if f.WebhookID == "" && f.EventID == "" {
		return nothing, &postrider.Error{Code: postrider.CodeInvalid, Message: "a list of deliveries is one of a webhook or of an event"}
	}
	st := sqlOf(selectDeliveries+"d.workspace_id = ?", workspaceID)
	var order []string
	if f.WebhookID != "" {
		st.add(" AND ").only("d.webhook_id", f.WebhookID)
		order = append(order, "d.webhook_id")
	}
	if f.EventID != "" {
		e, err := s.event(ctx, workspaceID, f.EventID)
		if postrider.CodeOf(err) == postrider.CodeNotFound {
			return nothing, nil
		}
		if err != nil {
			return nothing, err
		}
		st.add(" AND ").only("d.event_key", e.Key)
		order = []string{"d.event_key"} // it has fewer deliveries than a webhook
	}
	switch f.State {
	case "":
	case postrider.StateRetrying, postrider.StateParked, postrider.StateFailed, postrider.StateCancelled:
		st.add(" AND d.trouble = ?", f.State)
	case postrider.StatePending:
		st.add(" AND d.state = 'pending' AND " + carrier + " IS NULL")
	case postrider.StateDelivering:
		st.add(" AND (d.state = 'delivering' OR d.state = 'pending' AND " + carrier + " IS NOT NULL)")
	default:
		st.add(" AND d.state = ?", f.State)
	}
	if f.EventType != "" {
		st.add(" AND d.event_type = ?", f.EventType)
	}
	if !f.Since.IsZero() {
		st.add(" AND d.id >= ?", postrider.IDFloor(postrider.PrefixDelivery, f.Since))
	}
	if !f.Until.IsZero() {
		st.add(" AND d.id < ?", postrider.IDFloor(postrider.PrefixDelivery, f.Until))
	}
	return listOf[deliveryRow](ctx, s.reading, st, p, append(order, "d.id")...)
}

type attemptRow struct {
	Number            int
	StartedAt         moment `db:"started_at"`
	DurationMS        int64  `db:"duration_ms"`
	StatusCode        *int   `db:"status_code"`
	Result            postrider.Result
	Error             *string
	ResponseExcerpt   *string `db:"response_excerpt"`
	ResponseTruncated bool    `db:"response_truncated"`
	RemoteIP          *string `db:"remote_ip"`
}

func (r attemptRow) attempt() postrider.Attempt {
	return postrider.Attempt{
		Number: r.Number, StartedAt: r.StartedAt.Time, DurationMS: r.DurationMS, StatusCode: r.StatusCode, Result: r.Result,
		Error: r.Error, ResponseExcerpt: r.ResponseExcerpt, ResponseTruncated: r.ResponseTruncated, RemoteIP: r.RemoteIP,
	}
}

// Attempts returns the attempts recorded for a delivery, by number; none for an
// unknown one.
func (s *Store) Attempts(ctx context.Context, deliveryID string) ([]postrider.Attempt, error) {
	var rows []attemptRow
	err := sqlOf(`SELECT number, started_at, duration_ms, status_code, result, error, response_excerpt, response_truncated, remote_ip
		FROM attempts WHERE delivery_id = ? ORDER BY number`, deliveryID).selectInto(ctx, s.reading, &rows)
	if err != nil {
		return nil, failure("read attempts", err)
	}
	attempts := make([]postrider.Attempt, len(rows))
	for i, r := range rows {
		attempts[i] = r.attempt()
	}
	return attempts, nil
}

// AttemptsOf returns the attempts recorded for deliveries, by delivery and in the order
// of their numbers, without response bodies.
func (s *Store) AttemptsOf(ctx context.Context, deliveryIDs []string) (map[string][]postrider.Attempt, error) {
	of := make(map[string][]postrider.Attempt, len(deliveryIDs))
	sorted := slices.Compact(slices.Sorted(slices.Values(deliveryIDs)))
	for part := range slices.Chunk(sorted, chunkSize) {
		var rows []struct {
			DeliveryID string `db:"delivery_id"`
			attemptRow
		}
		err := sqlOf(`SELECT delivery_id, number, started_at, duration_ms, status_code, result, error, response_truncated, remote_ip
			FROM attempts WHERE `).within("delivery_id", part).add(" ORDER BY delivery_id, number").selectInto(ctx, s.reading, &rows)
		if err != nil {
			return nil, failure("read attempts", err)
		}
		for _, row := range rows {
			of[row.DeliveryID] = append(of[row.DeliveryID], row.attempt())
		}
	}
	return of, nil
}
