package store

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider"
)

// Record commits attempts and what they mean for their deliveries. Concurrent
// calls share a transaction. An attempt that is recorded already changes nothing.
// A finished delivery, such as one that was cancelled in the meantime, keeps its
// state; the attempt is kept all the same. In both cases it returns
// [postrider.CodeConflict], after everything else in the call was recorded: what is
// stored is not what the caller believes. Returns [postrider.CodeNotFound], and
// records nothing, when one of the deliveries is unknown.
func (s *Store) Record(ctx context.Context, outcomes []postrider.Outcome) error {
	if len(outcomes) == 0 {
		return nil
	}
	_, err := s.recording.do(ctx, outcomes)
	return failure("record", err)
}

func (s *Store) recordAll(ctx context.Context, calls [][]postrider.Outcome) ([]answer[struct{}], error) {
	var answers []answer[struct{}]
	var freed bool
	var r *recorder
	err := s.write(ctx, "record", func(tx *sqlx.Tx) error {
		answers = make([]answer[struct{}], len(calls))
		r = &recorder{s: s, tx: tx, stats: map[string]*tally{}, owner: map[attemptKey]int{}}
		if err := r.load(ctx, calls); err != nil {
			return err
		}
		known := r.known(calls, answers)
		var err error
		if freed, err = r.record(ctx, known); err == nil {
			err = r.handOn(ctx, known)
		}
		for i, call := range calls {
			if answers[i].err == nil && slices.ContainsFunc(call, func(o postrider.Outcome) bool { return r.overtaken(i, o) }) {
				answers[i].err = &postrider.Error{Code: postrider.CodeConflict, Message: "the attempt was recorded or its delivery finished before"}
			}
		}
		return err
	})
	if err == nil {
		s.wakeAfter(freed, r.left)
	}
	return answers, err
}

// known returns the outcomes of the calls whose deliveries are known, and answers the
// others.
func (r *recorder) known(calls [][]postrider.Outcome, answers []answer[struct{}]) []postrider.Outcome {
	var known []postrider.Outcome
	for i, call := range calls {
		if slices.ContainsFunc(call, func(o postrider.Outcome) bool { return r.lives[o.DeliveryID] == nil }) {
			answers[i].err = postrider.NotFound("delivery")
			continue
		}
		for _, o := range call {
			if _, taken := r.owner[keyOf(o)]; !taken {
				r.owner[keyOf(o)] = i
			}
		}
		known = append(known, call...)
	}
	return known
}

// wakeAfter wakes the dispatchers of this process when a record freed room that something
// waits for, or left retries to be handed over.
func (s *Store) wakeAfter(freed, left bool) {
	if freed {
		s.signal()
	}
	if left {
		signal(s.wakeRetries)
	}
}

// recorder is one transaction of [Store.Record].
type recorder struct {
	s     *Store
	tx    *sqlx.Tx
	lives map[string]*life  // by delivery
	stats map[string]*tally // by webhook
	// owner is the call whose attempt is stored, and stays.
	owner map[attemptKey]int
	left  bool // retries were left to the dispatchers
}

// attemptKey is the primary key of an attempt.
type attemptKey struct {
	DeliveryID string `db:"delivery_id"`
	Number     int
}

func keyOf(o postrider.Outcome) attemptKey { return attemptKey{o.DeliveryID, o.Attempt.Number} }

// overtaken reports whether a call's outcome is not what is stored.
func (r *recorder) overtaken(call int, o postrider.Outcome) bool {
	owner, stored := r.owner[keyOf(o)]
	return !stored || owner != call
}

// life is what a delivery has come to.
type life struct {
	ID            string
	WorkspaceID   string `db:"workspace_id"`
	WebhookID     string `db:"webhook_id"`
	State         postrider.DeliveryState
	AttemptCount  int     `db:"attempt_count"`
	NextAttemptAt *moment `db:"next_attempt_at"`
	LastError     *string `db:"last_error"`
	FinishedAt    *moment `db:"finished_at"`
	WorkflowID    string  `db:"workflow_id"`
	moved         bool    // a new attempt says how the delivery goes on
	leaves        bool    // its workflow, for another
}

// tally is what a transaction adds to a webhook's stats.
type tally struct {
	total, failed int64
	lastAt        *time.Time
	lastError     *string
}

// load locks the deliveries, after the webhooks that will be disabled and their
// workspaces.
func (r *recorder) load(ctx context.Context, calls [][]postrider.Outcome) error {
	var deliveryIDs, disabled []string
	for _, call := range calls {
		for _, o := range call {
			deliveryIDs = append(deliveryIDs, o.DeliveryID)
			if o.DisableWebhook != "" {
				disabled = append(disabled, o.WebhookID)
			}
		}
	}
	for _, id := range slices.Compact(slices.Sorted(slices.Values(disabled))) {
		if _, err := ids(ctx, r.tx, sqlOf("SELECT w.id FROM webhooks w JOIN workspaces s ON s.id = w.workspace_id WHERE w.id = ?", id).add(r.s.dialect.lock("FOR NO KEY UPDATE"))); err != nil {
			return err
		}
		if err := r.s.lockPace(ctx, r.tx, id); err != nil {
			return err
		}
	}
	r.lives = map[string]*life{}
	for part := range slices.Chunk(slices.Compact(slices.Sorted(slices.Values(deliveryIDs))), chunkSize) {
		var rows []*life
		err := sqlOf("SELECT id, workspace_id, webhook_id, state, attempt_count, next_attempt_at, last_error, finished_at, workflow_id FROM deliveries WHERE ").
			within("id", part).add(" ORDER BY id"+r.s.dialect.lock("FOR UPDATE")).selectInto(ctx, r.tx, &rows)
		if err != nil {
			return err
		}
		for _, row := range rows {
			r.lives[row.ID] = row
		}
	}
	return nil
}

// record writes the outcomes and reports whether that let something be claimed.
func (r *recorder) record(ctx context.Context, outcomes []postrider.Outcome) (freed bool, err error) {
	news, err := r.insertAttempts(ctx, outcomes)
	if err != nil || len(news) == 0 {
		return false, err
	}
	touched, queues := map[string]bool{}, map[string]bool{}
	for _, o := range news {
		r.apply(o)
		d := r.lives[o.DeliveryID]
		touched[o.DeliveryID], queues[queueOf(d.WorkspaceID, d.WebhookID)] = true, true
	}
	changed := slices.Sorted(maps.Keys(touched))
	for part := range slices.Chunk(changed, maxParameters/9) {
		if err := r.updateDeliveries(ctx, part); err != nil {
			return false, err
		}
	}
	if freed, err = r.settle(ctx, changed); err != nil {
		return false, err
	}
	if err := r.disable(ctx, news); err != nil {
		return false, err
	}
	if err := r.addStats(ctx); err != nil || !freed {
		return false, err
	}
	// What waits for other webhooks' places could have been claimed before.
	err = sqlOf("SELECT EXISTS (SELECT 1 FROM outbox WHERE hold_until IS NULL AND kind = 'start' AND queue IN").
		in(slices.Sorted(maps.Keys(queues))).add(")").get(ctx, r.tx, &freed)
	return freed, err
}

// settle drops the outbox rows of deliveries that are finished, and makes those of the
// others retries. It reports whether that made room.
func (r *recorder) settle(ctx context.Context, deliveryIDs []string) (freed bool, err error) {
	var finished []string
	var rows [][]any
	for _, id := range deliveryIDs {
		d := r.lives[id]
		if !d.moved {
			continue
		}
		if d.State != postrider.StateRetrying {
			finished = append(finished, id)
			continue
		}
		next := r.s.now()
		if d.NextAttemptAt != nil {
			next = d.NextAttemptAt.Time
		}
		row := []any{id, d.WebhookID, queueOf(d.WorkspaceID, d.WebhookID), "retry", (*time.Time)(nil), false, next, ""}
		if !d.leaves {
			until := carriedUntil(next, r.s.now())
			row[4], row[7] = &until, d.WorkflowID
		}
		rows = append(rows, row)
		r.left = r.left || d.leaves
	}
	for part := range slices.Chunk(finished, chunkSize) {
		if err := sqlOf("DELETE FROM outbox WHERE kind <> 'cancel' AND delivery_id IN").in(part).run(ctx, r.tx); err != nil {
			return false, err
		}
	}
	for part := range slices.Chunk(rows, maxParameters/8) {
		st, err := r.s.rowsAs(`delivery_id text, webhook_id text, queue text, kind text, hold_until timestamptz, leased boolean, due_at timestamptz, workflow_id text`, part)
		if err != nil {
			return false, err
		}
		err = st.add(`INSERT INTO outbox (delivery_id, webhook_id, queue, kind, hold_until, leased, due_at, workflow_id)
			SELECT * FROM news WHERE TRUE ON CONFLICT (delivery_id) DO UPDATE SET kind = excluded.kind, hold_until = excluded.hold_until,
			leased = excluded.leased, ahead = FALSE, due_at = excluded.due_at, workflow_id = excluded.workflow_id WHERE outbox.kind <> 'cancel'`).run(ctx, r.tx)
		if err != nil {
			return false, err
		}
	}
	return true, nil
}

// handOn lets the places of attempts be those of their successors. One whose row another
// transaction has locked is about to be finished, or given back, and needs none: to wait
// for it could be to wait for one that waits for this.
func (r *recorder) handOn(ctx context.Context, outcomes []postrider.Outcome) error {
	var successors []string
	for _, o := range outcomes {
		if o.Successor != "" {
			successors = append(successors, o.Successor)
		}
	}
	for part := range slices.Chunk(successors, chunkSize) {
		err := sqlOf("UPDATE outbox SET ahead = FALSE WHERE delivery_id IN").in(part).
			add(" AND delivery_id IN (SELECT delivery_id FROM outbox WHERE delivery_id IN").in(part).
			add(r.s.dialect.lock("FOR UPDATE SKIP LOCKED")+")").run(ctx, r.tx)
		if err != nil {
			return err
		}
	}
	return nil
}

// insertAttempts stores the attempts and returns the outcomes of those that were
// not known.
func (r *recorder) insertAttempts(ctx context.Context, outcomes []postrider.Outcome) ([]postrider.Outcome, error) {
	of := map[attemptKey]postrider.Outcome{}
	for _, o := range outcomes {
		at := keyOf(o)
		if _, twice := of[at]; !twice {
			o.Attempt.Error, o.Attempt.ResponseExcerpt = storable(o.Attempt.Error), storable(o.Attempt.ResponseExcerpt)
			of[at] = o
		}
	}
	rows := make([][]any, 0, len(of))
	for _, o := range of {
		a := o.Attempt
		rows = append(rows, []any{
			o.DeliveryID, a.Number, postrider.Timestamp(a.StartedAt), int(a.DurationMS), a.StatusCode, a.Result,
			a.Error, a.ResponseExcerpt, a.ResponseTruncated, a.RemoteIP,
		})
	}
	var news []postrider.Outcome
	for part := range slices.Chunk(rows, maxParameters/10) {
		st, err := r.s.rowsAs(`delivery_id text, number integer, started_at timestamptz, duration_ms integer, status_code integer, result text, `+
			`error text, response_excerpt text, response_truncated boolean, remote_ip text`, part)
		if err != nil {
			return nil, err
		}
		var stored []attemptKey
		// The condition keeps SQLite from taking ON CONFLICT for that of a join.
		err = st.add(`INSERT INTO attempts (delivery_id, number, started_at, duration_ms, status_code, result, error, response_excerpt, response_truncated, remote_ip)
			SELECT * FROM news WHERE TRUE ON CONFLICT (delivery_id, number) DO NOTHING RETURNING delivery_id, number`).selectInto(ctx, r.tx, &stored)
		if err != nil {
			return nil, err
		}
		for _, at := range stored {
			news = append(news, of[at])
		}
	}
	isNew := map[attemptKey]bool{}
	for _, o := range news {
		isNew[keyOf(o)] = true
	}
	maps.DeleteFunc(r.owner, func(at attemptKey, _ int) bool { return !isNew[at] })
	slices.SortFunc(news, func(a, b postrider.Outcome) int {
		if order := strings.Compare(a.DeliveryID, b.DeliveryID); order != 0 {
			return order
		}
		return a.Attempt.Number - b.Attempt.Number
	})
	return news, nil
}

// storable returns text that both databases take: PostgreSQL refuses U+0000, and
// a receiver that sends one must not keep its own attempts from being recorded.
func storable(text *string) *string {
	if text == nil {
		return nil
	}
	clean := strings.ReplaceAll(strings.ToValidUTF8(*text, "\uFFFD"), "\x00", "\uFFFD")
	return &clean
}

// apply moves a delivery and its webhook's stats on by an attempt that is new.
func (r *recorder) apply(o postrider.Outcome) {
	d := r.lives[o.DeliveryID]
	t := r.stats[d.WebhookID]
	if t == nil {
		t = &tally{}
		r.stats[d.WebhookID] = t
	}
	if o.Attempt.Error != nil {
		t.lastError = o.Attempt.Error
	}
	latest := o.Attempt.Number > d.AttemptCount
	d.AttemptCount = max(d.AttemptCount, o.Attempt.Number)
	if d.State.Finished() && d.State != o.State {
		delete(r.owner, keyOf(o))
	}
	if d.State.Finished() || !latest {
		return
	}
	d.State, d.NextAttemptAt, d.moved, d.leaves = o.State, nil, true, o.Leaves
	if o.WorkflowID != "" {
		d.WorkflowID = o.WorkflowID
	}
	if o.Attempt.Error != nil {
		d.LastError = o.Attempt.Error
	}
	if o.NextAttempt != nil && o.State == postrider.StateRetrying {
		d.NextAttemptAt = &moment{postrider.Timestamp(*o.NextAttempt)}
	}
	if !o.State.Finished() {
		return
	}
	at := o.FinishedAt()
	d.FinishedAt = &moment{at}
	if o.State == postrider.StateCancelled {
		return
	}
	t.total++
	if o.State == postrider.StateFailed {
		t.failed++
	}
	if t.lastAt == nil || at.After(*t.lastAt) {
		t.lastAt = &at
	}
}

func (r *recorder) updateDeliveries(ctx context.Context, deliveryIDs []string) error {
	rows := make([][]any, len(deliveryIDs))
	for i, id := range deliveryIDs {
		d := r.lives[id]
		rows[i] = []any{id, d.State, d.AttemptCount, timeOf(d.NextAttemptAt), d.LastError, timeOf(d.FinishedAt), d.WorkflowID}
	}
	st, err := r.s.rowsAs("id text, state text, attempt_count integer, next_attempt_at timestamptz, last_error text, finished_at timestamptz, workflow_id text", rows)
	if err != nil {
		return err
	}
	// The condition says the same as the join does. Without it PostgreSQL, which plans this
	// while there are few rows, would go on to read all between the first and the last.
	return st.add(`UPDATE deliveries SET state = news.state, attempt_count = news.attempt_count, next_attempt_at = news.next_attempt_at,
		last_error = news.last_error, finished_at = news.finished_at, workflow_id = news.workflow_id
		FROM news WHERE deliveries.id = news.id AND `).within("deliveries.id", deliveryIDs).run(ctx, r.tx)
}

// disable disables the webhooks whose receivers want no more, and parks what
// waits for them.
func (r *recorder) disable(ctx context.Context, news []postrider.Outcome) error {
	reasons, workspaces := map[string]string{}, map[string]string{}
	for _, o := range news {
		if o.DisableWebhook != "" {
			d := r.lives[o.DeliveryID]
			reasons[d.WebhookID], workspaces[d.WebhookID] = o.DisableWebhook, d.WorkspaceID
		}
	}
	for _, id := range slices.Sorted(maps.Keys(reasons)) {
		disabled, err := sqlOf("UPDATE webhooks SET status = 'disabled', disabled_reason = ?, updated_at = ? WHERE id = ? AND status <> 'disabled'",
			reasons[id], r.s.now(), id).affect(ctx, r.tx)
		if err != nil {
			return err
		}
		if disabled > 0 {
			if err := r.s.park(ctx, r.tx, workspaces[id], id); err != nil {
				return err
			}
		}
	}
	return nil
}

// addStats adds the tallies, the webhooks in order: two transactions that wait for
// each other's would be a deadlock.
func (r *recorder) addStats(ctx context.Context) error {
	rows := make([][]any, 0, len(r.stats))
	for _, id := range slices.Sorted(maps.Keys(r.stats)) {
		t := r.stats[id]
		rows = append(rows, []any{id, t.total, t.failed, t.lastAt, t.lastError})
	}
	_, err := insert(ctx, r.tx, "INSERT INTO webhook_stats (webhook_id, total_deliveries, failed_deliveries, last_delivery_at, last_error) VALUES", rows,
		`ON CONFLICT (webhook_id) DO UPDATE SET total_deliveries = webhook_stats.total_deliveries + excluded.total_deliveries,
		failed_deliveries = webhook_stats.failed_deliveries + excluded.failed_deliveries,
		last_delivery_at = CASE WHEN webhook_stats.last_delivery_at > excluded.last_delivery_at THEN webhook_stats.last_delivery_at
			ELSE COALESCE(excluded.last_delivery_at, webhook_stats.last_delivery_at) END,
		last_error = COALESCE(excluded.last_error, webhook_stats.last_error)`)
	return err
}
