package store

import (
	"context"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/sqldb"
)

// How a webhook's attempts go is kept with its stats, in the statement that adds to these. Only for
// webhooks that fail, or have a gate, is there more to do.

// healthDelta is what a transaction's attempts say about a receiver.
type healthDelta struct {
	succeededAt *time.Time // the latest success
	failedAt    []time.Time
	tells       bool // of another delivery than an operational event's: those never make another event
}

func (h *healthDelta) add(o postrider.Outcome, eventType string) {
	if !o.CountsForHealth() {
		return
	}
	at := o.FinishedAt()
	h.tells = h.tells || !postrider.Operational(eventType)
	switch {
	case o.Attempt.Result != postrider.ResultSuccess:
		h.failedAt = append(h.failedAt, at)
	case h.succeededAt == nil || at.After(*h.succeededAt):
		h.succeededAt = &at
	}
}

// row returns the columns of the stats: the failures that came after the latest success.
func (h *healthDelta) row() healthColumns {
	row := healthColumns{LastSuccessAt: sqldb.NullTime(h.succeededAt)}
	for _, at := range h.failedAt {
		if h.succeededAt != nil && !at.After(*h.succeededAt) {
			continue
		}
		row.ConsecutiveFailures++
		if row.FailingSince == nil || at.Before(row.FailingSince.Time) {
			row.FailingSince = &sqldb.Time{Time: at}
		}
	}
	return row
}

// healthColumns are the columns of webhook_stats that say how attempts go.
type healthColumns struct {
	ConsecutiveFailures int         `db:"consecutive_failures"`
	FailingSince        *sqldb.Time `db:"failing_since"`
	LastSuccessAt       *sqldb.Time `db:"last_success_at"`
}

// addToHealth ends addToStats: a success begins anew.
const addToHealth = `consecutive_failures = excluded.consecutive_failures +
		CASE WHEN excluded.last_success_at IS NULL THEN webhook_stats.consecutive_failures ELSE 0 END,
	failing_since = CASE WHEN excluded.last_success_at IS NULL THEN COALESCE(webhook_stats.failing_since, excluded.failing_since)
		ELSE excluded.failing_since END,
	last_success_at = COALESCE(excluded.last_success_at, webhook_stats.last_success_at)`

// toFollow selects webhooks for which there is more to do than to count; a list of webhooks follows. t
// is webhook_stats, and g webhook_gates.
const toFollow = "(t.consecutive_failures > 0 OR t.failing_told OR g.webhook_id IS NOT NULL) AND t.webhook_id IN"

const statsAndGates = " FROM webhook_stats t LEFT JOIN webhook_gates g ON g.webhook_id = t.webhook_id"

// followedWebhook is a webhook whose health is followed, after the transaction's attempts were added.
type followedWebhook struct {
	ID                  string
	WorkspaceID         string `db:"workspace_id"`
	URL                 string
	Status              postrider.WebhookStatus
	Deleted             bool
	MaxInFlight         int  `db:"max_in_flight"`
	CircuitBreaker      bool `db:"circuit_breaker"`
	DisableAfterSeconds int  `db:"disable_after_seconds"`
	healthColumns
	FailingTold bool `db:"failing_told"`
	gateColumns
}

const selectFollowed = "SELECT w.id, w.workspace_id, w.url, w.status, w.deleted_at IS NOT NULL AS deleted, w.max_in_flight," +
	" w.circuit_breaker, w.disable_after_seconds, t.consecutive_failures, t.failing_since, t.last_success_at, t.failing_told," +
	" g.allowance, g.probe_at, g.changed_at, g.openings" + statsAndGates + " JOIN webhooks w ON w.id = t.webhook_id WHERE "

// followHealth does what follows from the attempts for webhooks that fail or have a gate. Their stats are
// locked, since the transaction has added to them.
func (r *recorder) followHealth(ctx context.Context) error {
	var found []followedWebhook
	err := sqldb.SQL(selectFollowed+toFollow).In(slices.Sorted(maps.Keys(r.stats))).Add(" ORDER BY w.id").Select(ctx, r.tx, &found)
	if err != nil {
		return err
	}
	for _, w := range found {
		if err := r.moveGate(ctx, w); err != nil {
			return err
		}
		if err := r.tellHealth(ctx, w); err != nil {
			return err
		}
		if w.failsFor(w.disableAfter(), r.s.now()) {
			r.overdue = append(r.overdue, w.ID)
		}
	}
	return nil
}

// moveGate opens, widens, narrows or removes the webhook's gate.
func (r *recorder) moveGate(ctx context.Context, w followedWebhook) error {
	delta, breaker, now := r.stats[w.ID].health, r.s.Breaker, r.s.now()
	before := w.gate()
	r.leftRetries = r.leftRetries || before != nil // it may let more through
	failed := len(delta.failedAt) > 0 && w.ConsecutiveFailures > 0
	if before == nil {
		if !failed || !w.CircuitBreaker || !breaker.Opens(w.ConsecutiveFailures, w.FailingSince.Pointer(), now) {
			return nil
		}
		gate := breaker.Opened(postrider.Gate{}, now, r.s.Random())
		r.logCircuit(ctx, w, "open", gate)
		return setGate(ctx, r.tx, w.ID, &gate)
	}
	gate, limits := *before, true
	if delta.succeededAt != nil || failed && !w.CircuitBreaker { // without a breaker a failure is as good as any attempt
		gate, limits = breaker.Succeeded(gate, w.MaxInFlight, now)
	}
	if failed && w.CircuitBreaker && limits {
		gate = breaker.Failed(gate, w.ConsecutiveFailures, now, r.s.Random())
	}
	switch {
	case !limits:
		r.logCircuit(ctx, w, "closed", gate)
		return setGate(ctx, r.tx, w.ID, nil)
	case gate == *before:
		return nil
	case gate.Openings > before.Openings:
		r.logCircuit(ctx, w, "open", gate)
	}
	return setGate(ctx, r.tx, w.ID, &gate)
}

func (r *recorder) logCircuit(ctx context.Context, w followedWebhook, circuit string, gate postrider.Gate) {
	r.s.Logger.LogAttrs(ctx, slog.LevelInfo, "circuit of a webhook", slog.String("webhook_id", w.ID), slog.String("circuit", circuit),
		slog.Int("openings", gate.Openings), slog.Int("consecutive_failures", w.ConsecutiveFailures))
}

func (w followedWebhook) disableAfter() time.Duration {
	return time.Duration(w.DisableAfterSeconds) * time.Second
}

// failsFor reports whether every attempt of an active webhook has failed for the time, if that is any.
func (w followedWebhook) failsFor(span time.Duration, now time.Time) bool {
	return span > 0 && w.Status == postrider.WebhookActive && !w.Deleted && w.FailingSince != nil && now.Sub(w.FailingSince.Time) >= span
}

// failingPart is which part of disable_after_seconds goes by before a failing webhook is told of.
const failingPart = 10

// tellHealth tells, once, that a webhook fails, and once that it has recovered.
func (r *recorder) tellHealth(ctx context.Context, w followedWebhook) error {
	var told postrider.OperationalEvent
	switch {
	case !r.stats[w.ID].health.tells:
		return nil
	case !w.FailingTold && w.failsFor(w.disableAfter()/failingPart, r.s.now()):
		told = w.event(postrider.EventWebhookFailing, nil, r.s.now())
	case w.FailingTold && r.stats[w.ID].health.succeededAt != nil:
		told = w.event(postrider.EventWebhookRecovered, nil, r.s.now())
	default:
		return nil
	}
	err := sqldb.SQL("UPDATE webhook_stats SET failing_told = ? WHERE webhook_id = ?", told.Type == postrider.EventWebhookFailing, w.ID).
		Run(ctx, r.tx)
	if err != nil {
		return err
	}
	return r.s.emit(ctx, r.tx, told)
}

// event returns an operational event about the webhook. The reason is why it was disabled; nil where it
// was not.
func (w followedWebhook) event(eventType string, reason *string, at time.Time) postrider.OperationalEvent {
	data := postrider.ChangedWebhook{WebhookID: w.ID, Reason: reason, FailingSince: w.FailingSince.Pointer(), At: at}
	if w.FailingSince != nil {
		data.ConsecutiveFailures = &w.ConsecutiveFailures
	}
	if address, err := url.Parse(w.URL); err == nil {
		data.Host = address.Host // no more of it: a path may hold a token
	}
	return postrider.OperationalEvent{WorkspaceID: w.WorkspaceID, Type: eventType, ResourceID: w.ID, Data: data}
}

// mostDisabled is how many webhooks one record disables, since others wait for it; the next failures bring back
// the rest.
const mostDisabled = 8

// disableOverdue disables webhooks whose every attempt has failed for too long. It comes after the record:
// webhooks are locked before deliveries. When it fails, or the process dies, the next failure
// brings it back.
func (s *Store) disableOverdue(ctx context.Context, webhookIDs []string) {
	for _, id := range webhookIDs[:min(len(webhookIDs), mostDisabled)] {
		err := s.db.Delivering.Write(ctx, "disable a failing webhook", func(tx *sqlx.Tx) error { return s.disableFailing(ctx, tx, id) })
		if err != nil && ctx.Err() == nil {
			s.Logger.LogAttrs(ctx, slog.LevelWarn, "could not disable a failing webhook, will do so at its next failure",
				slog.String("webhook_id", id), slog.Any("error", err))
		}
	}
	if len(webhookIDs) > 0 {
		signal(s.wakeSweeps)
	}
}

func (s *Store) disableFailing(ctx context.Context, tx *sqlx.Tx, id string) error {
	if err := s.lockToDisable(ctx, tx, id); err != nil {
		return err
	}
	var found []followedWebhook
	if err := sqldb.SQL(selectFollowed+toFollow).In([]string{id}).Select(ctx, tx, &found); err != nil {
		return err
	}
	if len(found) == 0 || !found[0].failsFor(found[0].disableAfter(), s.now()) { // somebody was earlier, or it has succeeded
		return nil
	}
	return s.disableWebhook(ctx, tx, found[0], postrider.DisabledFailing, true)
}

// lockToDisable locks a webhook, its workspace, and its sweep, which it requests.
func (s *Store) lockToDisable(ctx context.Context, tx *sqlx.Tx, id string) error {
	const withWorkspace = "SELECT w.id FROM webhooks w JOIN workspaces s ON s.id = w.workspace_id WHERE w.id = ?"
	if _, err := sqldb.SQL(withWorkspace, id).Add(s.db.Lock("FOR NO KEY UPDATE")).Strings(ctx, tx); err != nil {
		return err
	}
	return s.requestSweeps(ctx, tx, id)
}

// disableWebhook makes a webhook disabled that is not yet, and tells of it if it is to.
func (s *Store) disableWebhook(ctx context.Context, tx *sqlx.Tx, w followedWebhook, reason string, tell bool) error {
	const disable = "UPDATE webhooks SET status = " + sqlDisabled + ", disabled_reason = ?, updated_at = ?, inactive_since = ?" +
		" WHERE id = ? AND status <> " + sqlDisabled
	now := s.now()
	disabled, err := sqldb.SQL(disable, reason, now, now, w.ID).Affect(ctx, tx)
	if err != nil || disabled == 0 || !tell {
		return err
	}
	return s.emit(ctx, tx, w.event(postrider.EventWebhookDisabled, &reason, now))
}
