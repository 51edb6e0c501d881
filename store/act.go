package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/sqldb"
)

// An action of an operator is one transaction on the delivery's own rows: it decides by what it has
// locked, moves the outbox row, and notes who did what. So it is durable whatever else is away, and
// two actions on a delivery, or an action and an attempt, come one after the other. The workflow
// that carried the delivery is told afterwards (action.go); nothing depends on that, because a
// workflow that the outbox row does not name makes no attempt.

// actChunk is the most deliveries of one transaction.
const actChunk = 50

// Act makes an action on deliveries of a workspace, and returns what it came to for each, in the
// order asked. The results' errors are of [postrider.CodeNotFound] and [postrider.CodeConflict]. An
// action that changes nothing, because another came first, is no error.
func (s *Store) Act(ctx context.Context, request postrider.ActionRequest) ([]postrider.ActionResult, error) {
	made := map[string]*acted{}
	wanted := slices.Compact(slices.Sorted(slices.Values(request.DeliveryIDs)))
	for part := range slices.Chunk(wanted, actChunk) {
		var a *acting
		err := s.db.Write(ctx, "act on deliveries", func(tx *sqlx.Tx) error {
			a = &acting{s: s, tx: tx, now: s.now(), request: request, deliveries: map[string]*acted{}}
			return a.run(ctx, part)
		})
		if err != nil {
			return nil, err
		}
		s.wakeAfterActions(ctx, a)
		for id, x := range a.deliveries {
			made[id] = x
		}
	}
	return s.actionResults(ctx, request, made)
}

// actionResults reads the deliveries as the actions left them.
func (s *Store) actionResults(
	ctx context.Context, request postrider.ActionRequest, made map[string]*acted,
) ([]postrider.ActionResult, error) {
	shown := make([]string, 0, len(made))
	for _, x := range made {
		shown = append(shown, x.shown)
	}
	rows, err := keyed(ctx, s.db.Reading, selectDeliveries, "d.id", shown, deliveryRow.cursor)
	if err != nil {
		return nil, sqldb.Failure("read what was acted on", err)
	}
	results := make([]postrider.ActionResult, len(request.DeliveryIDs))
	for i, id := range request.DeliveryIDs {
		results[i] = postrider.ActionResult{DeliveryID: id, Err: postrider.NotFound("delivery")}
		if x := made[id]; x != nil {
			results[i].Err = x.err
			if results[i].Delivery, err = rows[x.shown].item(); err != nil {
				return nil, err
			}
		}
	}
	return results, nil
}

// wakeAfterActions wakes whoever has something to do, in all processes.
func (s *Store) wakeAfterActions(ctx context.Context, a *acting) {
	if a.cancelled > 0 {
		s.OnCancelled(a.cancelled)
	}
	if len(a.notes) > 0 {
		s.acted(ctx)
	}
}

// acting is one transaction of [Store.Act].
type acting struct {
	s       *Store
	tx      *sqlx.Tx
	now     time.Time
	request postrider.ActionRequest

	deliveries map[string]*acted // by id
	notes      []actionRow
	failed     []deliveryUpdate // without another attempt
	cancelled  int
}

// acted is a delivery that an action is on, as it was before.
type acted struct {
	deliveryRow
	row     *outboxRow // nil without one
	webhook actedWebhook
	latest  actionRow // the action before; zero without one
	lane    *laneRow  // nil when it is in none

	shown string // the delivery that the answer shows
	err   error  // why the action is refused

	changes []postrider.FieldChange // of its terms
}

// actedWebhook is the webhook of a delivery that an action is on.
type actedWebhook struct {
	ID      string
	Status  postrider.WebhookStatus
	Deleted bool
	ShapeID *string `db:"shape_id"`

	Ordering postrider.Ordering
	postrider.Policy
}

func (w actedWebhook) active() bool { return w.Status == postrider.WebhookActive && !w.Deleted }

func (a *acting) run(ctx context.Context, deliveryIDs []string) error {
	if err := a.load(ctx, deliveryIDs); err != nil {
		return err
	}
	for _, id := range deliveryIDs {
		if x := a.deliveries[id]; x != nil {
			if err := a.act(ctx, x); err != nil {
				return err
			}
		}
	}
	if _, err := actionsTable.Insert(ctx, a.tx, a.notes...); err != nil {
		return err
	}
	if err := a.s.countFailed(ctx, a.tx, a.failed, a.now); err != nil {
		return err
	}
	return a.audit(ctx, deliveryIDs)
}

// audit says in the audit log what was not refused.
func (a *acting) audit(ctx context.Context, deliveryIDs []string) error {
	var entries []postrider.AuditEntry
	for _, id := range deliveryIDs {
		if x := a.deliveries[id]; x != nil && x.err == nil {
			entries = append(entries, postrider.AuditEntry{
				WorkspaceID: x.WorkspaceID, Action: a.request.Kind.Audited(), ResourceID: x.ID, Changes: x.changes,
			})
		}
	}
	return a.s.audit(ctx, a.tx, entries...)
}

// act makes the action on one delivery, or says why it is refused.
func (a *acting) act(ctx context.Context, x *acted) error {
	if err := a.findLane(ctx, x); err != nil {
		return err
	}
	switch a.request.Kind {
	case postrider.ActionRetry:
		return a.retry(ctx, x)
	case postrider.ActionCancel:
		return a.cancel(ctx, x)
	case postrider.ActionPause:
		return a.pause(ctx, x)
	case postrider.ActionResume:
		return a.resume(ctx, x)
	case postrider.ActionEdit:
		return a.edit(ctx, x)
	case postrider.ActionSkip:
		return a.skip(ctx, x)
	}
	return nil
}

// load locks the deliveries, their lanes, what an edit changes of their expiries, and their outbox rows, in this
// order and each in the order of ids, after the sweeps of webhooks for which the action may leave something parked.
func (a *acting) load(ctx context.Context, deliveryIDs []string) error {
	webhookIDs, err := sqldb.SQL("SELECT DISTINCT webhook_id FROM deliveries WHERE "+ofWorkspace+" AND ", a.request.WorkspaceID).
		InKeyRange("id", deliveryIDs).Strings(ctx, a.tx)
	if err != nil || len(webhookIDs) == 0 {
		return err
	}
	webhooks, err := a.loadWebhooks(ctx, webhookIDs)
	if err != nil {
		return err
	}
	// Claims and permits read rows and write them later: they stay off until the commit.
	if _, err := a.s.lockPaces(ctx, a.tx, true, webhookIDs...); err != nil {
		return err
	}
	var rows []deliveryRow
	err = sqldb.SQL(selectStored+ofWorkspace+" AND ", a.request.WorkspaceID).InKeyRange("id", deliveryIDs).
		Add(" ORDER BY id"+a.s.db.Lock("FOR UPDATE")).Select(ctx, a.tx, &rows)
	if err != nil {
		return err
	}
	known := make([]string, len(rows))
	var lanes []string
	for i, d := range rows {
		if known[i] = d.ID; d.Lane != nil {
			lanes = append(lanes, *d.Lane)
		}
		a.deliveries[d.ID] = &acted{deliveryRow: d, webhook: webhooks[d.WebhookID], shown: d.ID}
	}
	if err := a.s.lockLanes(ctx, a.tx, lanes); err != nil {
		return err
	}
	if err := a.loadLatest(ctx, known); err != nil {
		return err
	}
	return a.loadWaiting(ctx, known)
}

// loadWaiting locks and reads the outbox rows of deliveries, after their expiries where these change.
func (a *acting) loadWaiting(ctx context.Context, known []string) error {
	if a.request.Edit.ExpiresAt != nil {
		if err := lockExpiries(ctx, a.tx, a.s.db.Lock("FOR UPDATE"), known); err != nil {
			return err
		}
	}
	var waiting []outboxRow
	err := sqldb.SQL(selectOutbox+"kind <> "+sqlCancel+" AND delivery_id IN").In(known).
		Add(" ORDER BY delivery_id"+a.s.db.Lock("FOR UPDATE")).Select(ctx, a.tx, &waiting)
	for i := range waiting {
		a.deliveries[waiting[i].DeliveryID].row = &waiting[i]
	}
	return err
}

// loadLatest reads what was done to the deliveries before.
func (a *acting) loadLatest(ctx context.Context, deliveryIDs []string) error {
	latest, err := latestActions(ctx, a.tx, deliveryIDs)
	for id, x := range a.deliveries {
		x.latest = latest[id]
	}
	return err
}

// loadWebhooks reads webhooks. Their status may change before the commit: claims look at it again,
// and what is parked for one that is not active now is swept.
func (a *acting) loadWebhooks(ctx context.Context, webhookIDs []string) (map[string]actedWebhook, error) {
	const selectActed = "SELECT id, status, deleted_at IS NOT NULL AS deleted, shape_id, ordering," +
		" timeout_ms, max_retries, backoff_ms, retry_schedule_ms" +
		" FROM webhooks WHERE id IN"
	var found []actedWebhook
	if err := sqldb.SQL(selectActed).In(webhookIDs).Select(ctx, a.tx, &found); err != nil {
		return nil, err
	}
	byID := make(map[string]actedWebhook, len(found))
	var inactive []string
	for _, w := range found {
		byID[w.ID] = w
		if !w.active() {
			inactive = append(inactive, w.ID)
		}
	}
	if a.request.Kind != postrider.ActionRetry && a.request.Kind != postrider.ActionResume {
		return byID, nil
	}
	return byID, a.s.requestSweeps(ctx, a.tx, inactive...)
}

// onTheWire reports whether an attempt is under way, or about to be.
func (x *acted) onTheWire(now time.Time) bool {
	return x.row != nil && x.row.Leased && x.row.HoldUntil != nil && x.row.HoldUntil.After(now)
}

// carried reports whether a workflow carries the delivery until its next attempt.
func (x *acted) carried() bool {
	return x.row != nil && x.row.Kind == kindRetry && !x.row.Leased && x.row.HoldUntil != nil
}

func (x *acted) parked() bool { return x.State == postrider.StateParked }

// next is the number of the attempt that is under way, or comes next.
func (x *acted) next() int { return x.AttemptCount + 1 }

// refuse lets the action be answered with a conflict, for the reason given.
func (x *acted) refuse(reason string, args ...any) {
	state := x.State
	if state == postrider.StatePending && x.row != nil && x.row.Leased { // as it is shown
		state = postrider.StateDelivering
	}
	x.err = &postrider.Error{Code: postrider.CodeConflict, Message: "the delivery is " + string(state) + ": " + fmt.Sprintf(reason, args...)}
}

// refuseIfFinished refuses what is possible only before the end.
func (x *acted) refuseIfFinished() bool {
	if x.State.Finished() {
		x.refuse("it has ended; retry is possible, which sends its event again")
	}
	return x.State.Finished()
}

// note notes the action. left says that it took the delivery out of the workflow that carried it,
// which is to be told.
func (a *acting) note(x *acted, left bool, detail string, args ...any) *actionRow {
	note := actionRow{
		DeliveryID: x.ID, ID: a.s.IDs.New(postrider.PrefixAction), At: sqldb.Time{Time: a.now}, Action: a.request.Kind,
		Actor: a.request.Actor, Detail: fmt.Sprintf(detail, args...), Attempt: x.next(),
	}
	// A batch of first attempts does not know its deliveries.
	if x.row != nil && x.row.HoldUntil != nil && x.row.WorkflowID != "" && !postrider.FirstAttemptsOnly(x.row.WorkflowID) {
		note.WorkflowID, note.LeftIt, note.TellAt = x.row.WorkflowID, left, &sqldb.Time{Time: a.now}
	}
	a.notes = append(a.notes, note)
	return &a.notes[len(a.notes)-1]
}
