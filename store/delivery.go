package store

import (
	"context"
	"slices"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/sqldb"
)

// deliveryRow is a row of the table deliveries.
type deliveryRow struct {
	ID          string
	WorkspaceID string `db:"workspace_id"`
	WebhookID   string `db:"webhook_id"`
	EventID     string `db:"event_id"`
	EventKey    string `db:"event_key"`
	EventType   string `db:"event_type"`
	State       postrider.DeliveryState
	postrider.Policy

	AttemptCount  int         `db:"attempt_count"`
	NextAttemptAt *sqldb.Time `db:"next_attempt_at"`
	LastError     *string     `db:"last_error"`
	ReplayOf      *string     `db:"replay_of"`
	CreatedAt     sqldb.Time  `db:"created_at"`
	DueAt         sqldb.Time  `db:"due_at"`
	ExpiresAt     *sqldb.Time `db:"expires_at"`
	FinishedAt    *sqldb.Time `db:"finished_at"`
	WorkflowID    string      `db:"workflow_id"`
	TraceContext  *string     `db:"trace_context"`
	ShapeID       *string     `db:"shape_id"` // nil for the envelope
	HeldAt        *sqldb.Time `db:"held_at"`
	Lane          *string     // nil without an order
}

// nullAtFirst are the columns of a delivery that a publish leaves null.
func nullAtFirst() []string {
	return []string{"next_attempt_at", "last_error", "replay_of", "finished_at", "held_at"}
}

// unusualColumns are columns that are null in most deliveries, so that a statement of its own
// writes the others.
func unusualColumns() []string {
	return []string{"expires_at", "shape_id", "retry_schedule_ms", "lane"}
}

// usualColumns are those that a publish writes of most deliveries.
func usualColumns() sqldb.Columns[deliveryRow] {
	return sqldb.ColumnsOf[deliveryRow]().Except(nullAtFirst()...).Except(unusualColumns()...)
}

// unusual reports whether one of [unusualColumns] is not null.
func (r deliveryRow) unusual() bool {
	return r.ExpiresAt != nil || r.ShapeID != nil || r.RetrySchedule != "" || r.Lane != nil
}

// Parts of a query of deliveries, d, that look into the outbox. A join would let PostgreSQL
// read the whole outbox where it was nearly empty when the plan was made.
const (
	ofOutbox = "FROM outbox o WHERE o.delivery_id = d.id AND "
	// onItsWay is not null for a delivery whose first attempt is leased to a workflow.
	onItsWay = "(SELECT 1 " + ofOutbox + isLeased + " AND " + isStart + ")"
	// carrier is the workflow that carries a delivery, null or '' when no workflow does.
	carrier = "(SELECT o.workflow_id " + ofOutbox + "(" + isRetry + " OR " + isLeased + " AND " + isStart + "))"

	// stateOnItsWay and workflowOrCarrier are columns of selectDeliveries that differ from the
	// stored ones: only the outbox says which workflow carries a delivery. The delivery's own row
	// names the workflow that made the latest attempt.
	stateOnItsWay = "CASE WHEN d.state = " + sqlPending + " AND " + onItsWay + " IS NOT NULL THEN " + sqlDelivering +
		" ELSE d.state END AS state"
	workflowOrCarrier = "COALESCE(NULLIF(" + carrier + ", ''), d.workflow_id) AS workflow_id"
)

// ofWorkspace is the condition for deliveries that are looked up by something else. It is written so
// that the indexes of workspaces do not serve it, see [isStart].
const ofWorkspace = "workspace_id || '' = ?"

func (r deliveryRow) cursor() string { return r.ID }

//nolint:unparam // it implements listed
func (r deliveryRow) item() (postrider.Delivery, error) {
	d := postrider.Delivery{
		ID: r.ID, WorkspaceID: r.WorkspaceID, WebhookID: r.WebhookID,
		EventID: r.EventID, EventKey: r.EventKey, EventType: r.EventType, State: r.State, Policy: r.Policy,
		AttemptCount: r.AttemptCount, NextAttemptAt: r.NextAttemptAt.Pointer(), LastError: r.LastError, ReplayOf: r.ReplayOf,
		CreatedAt: r.CreatedAt.Time, DueAt: r.DueAt.Time, ExpiresAt: r.ExpiresAt.Pointer(), FinishedAt: r.FinishedAt.Pointer(),
		WorkflowID: r.WorkflowID, HeldAt: r.HeldAt.Pointer(),
	}
	if r.TraceContext != nil {
		d.TraceContext = *r.TraceContext
	}
	if r.ShapeID != nil {
		d.ShapeID = *r.ShapeID
	}
	if r.Lane != nil {
		d.Lane = *r.Lane
	}
	return d, nil
}

// Delivery returns a delivery. Returns [postrider.CodeNotFound] if it is unknown, past its
// retention or another workspace's.
func (s *Store) Delivery(ctx context.Context, workspaceID, id string) (postrider.Delivery, error) {
	var row deliveryRow
	if err := sqldb.SQL(selectDeliveries+"d.id = ? AND d.workspace_id = ?", id, workspaceID).Get(ctx, s.db.Reading, &row); err != nil {
		return postrider.Delivery{}, sqldb.Failure("read a delivery", sqldb.OrNotFound("delivery", err))
	}
	d, err := row.item()
	if err == nil {
		d.BlockedBy, err = s.blockerOf(ctx, row)
	}
	return d, sqldb.Failure("read a delivery", err)
}

// attemptKey is the primary key of an attempt.
type attemptKey struct {
	DeliveryID string `db:"delivery_id"`
	Number     int
}

// attemptRow is a row of the table attempts.
type attemptRow struct {
	attemptKey
	StartedAt         sqldb.Time `db:"started_at"`
	DurationMS        int64      `db:"duration_ms"`
	StatusCode        *int       `db:"status_code"`
	Result            postrider.Result
	Error             *string
	ResponseExcerpt   *string `db:"response_excerpt"`
	ResponseTruncated bool    `db:"response_truncated"`
	RemoteIP          *string `db:"remote_ip"`
}

// attemptRowOf returns an attempt as it is stored.
func attemptRowOf(key attemptKey, a postrider.Attempt) attemptRow {
	return attemptRow{
		attemptKey: key, StartedAt: sqldb.TimeOf(a.StartedAt), DurationMS: a.DurationMS, StatusCode: a.StatusCode, Result: a.Result,
		Error: a.Error, ResponseExcerpt: a.ResponseExcerpt, ResponseTruncated: a.ResponseTruncated, RemoteIP: a.RemoteIP,
	}
}

func (r attemptRow) attempt() postrider.Attempt {
	return postrider.Attempt{
		Number: r.Number, StartedAt: r.StartedAt.Time, DurationMS: r.DurationMS, StatusCode: r.StatusCode, Result: r.Result,
		Error: r.Error, ResponseExcerpt: r.ResponseExcerpt, ResponseTruncated: r.ResponseTruncated, RemoteIP: r.RemoteIP,
	}
}

// Attempts returns the attempts recorded for a delivery, by number. An unknown delivery has
// no attempts.
func (s *Store) Attempts(ctx context.Context, deliveryID string) ([]postrider.Attempt, error) {
	var rows []attemptRow
	err := sqldb.SQL(selectAttempts+"delivery_id = ? ORDER BY number", deliveryID).Select(ctx, s.db.Reading, &rows)
	if err != nil {
		return nil, sqldb.Failure("read attempts", err)
	}
	attempts := make([]postrider.Attempt, len(rows))
	for i, r := range rows {
		attempts[i] = r.attempt()
	}
	return attempts, nil
}

// AttemptsOf returns the attempts recorded for deliveries, by delivery and in the order of
// their numbers, without response bodies.
func (s *Store) AttemptsOf(ctx context.Context, deliveryIDs []string) (map[string][]postrider.Attempt, error) {
	byDelivery := make(map[string][]postrider.Attempt, len(deliveryIDs))
	sorted := slices.Compact(slices.Sorted(slices.Values(deliveryIDs)))
	for part := range slices.Chunk(sorted, sqldb.ChunkSize) {
		var rows []attemptRow
		err := sqldb.SQL(selectAttemptsWithoutBodies).InKeyRange("delivery_id", part).Add(" ORDER BY delivery_id, number").
			Select(ctx, s.db.Delivering.Reading, &rows)
		if err != nil {
			return nil, sqldb.Failure("read attempts", err)
		}
		for _, row := range rows {
			byDelivery[row.DeliveryID] = append(byDelivery[row.DeliveryID], row.attempt())
		}
	}
	return byDelivery, nil
}
