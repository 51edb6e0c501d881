package store

import (
	"context"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/sqldb"
)

// A job's workflow makes steps. Each makes the next deliveries in one transaction with the place that the job
// has come to, so that a step that is made again after a crash, or twice at once, makes nothing twice.

const (
	// maxReplayStep is the most deliveries of a step.
	maxReplayStep = 200
	// maxReplayOpen is the most deliveries of a job that are not finished. More of them wait for their
	// retries than may wait for an attempt.
	maxReplayOpen = 1000
	// replayLease is for how long a job whose workflow makes steps need not be started, and replayRenew when
	// a step that changes nothing else renews it.
	replayLease = 2 * time.Minute
	replayRenew = time.Minute
)

// replayJob is a job with what its webhook allows.
type replayJob struct {
	replayRow
	walk    replayWalk
	webhook replayedWebhook
}

// replayedWebhook is the webhook of a job.
type replayedWebhook struct {
	ID          string
	Status      postrider.WebhookStatus
	Deleted     bool
	ShapeID     *string `db:"shape_id"`
	Ordering    postrider.Ordering
	MaxInFlight int  `db:"max_in_flight"`
	RateLimit   *int `db:"rate_limit"`
	postrider.Policy
}

// window is how many of a job's deliveries may wait for an attempt: half of what the webhook may have under way at
// once, or gets in a second, so that others always find room.
func (w replayedWebhook) window() int {
	most := w.MaxInFlight
	if w.RateLimit != nil {
		most = min(most, *w.RateLimit)
	}
	return max(most/2, 1)
}

func (s *Store) replayJob(ctx context.Context, id string) (replayJob, error) {
	var job replayJob
	err := sqldb.SQL(selectReplayJobs+"id = ?", id).Get(ctx, s.db.Delivering.Reading, &job.replayRow)
	if err != nil {
		return job, sqldb.Failure("read a replay", sqldb.OrNotFound("replay", err))
	}
	spec, err := job.spec()
	if err != nil {
		return job, err
	}
	job.walk = walkOf(spec)
	job.webhook, err = readReplayed(ctx, s.db.Delivering.Reading, job.WebhookID)
	return job, sqldb.Failure("read a replay", err)
}

func readReplayed(ctx context.Context, q sqldb.Querier, webhookID string) (w replayedWebhook, err error) {
	const columns = "id, status, deleted_at IS NOT NULL AS deleted, shape_id, ordering, max_in_flight, rate_limit," +
		" timeout_ms, max_retries, backoff_ms, retry_schedule_ms"
	err = sqldb.SQL("SELECT "+columns+" FROM webhooks WHERE id = ?", webhookID).Get(ctx, q, &w)
	return w, err
}

// StepReplay makes a step of a job: it counts some of what the job sends, makes the next deliveries that its rate and
// its webhook allow, and notes which of them have ended. Of a job that is not running it makes what is left to do.
// Returns [postrider.CodeNotFound] if there is no such job.
func (s *Store) StepReplay(ctx context.Context, id string) (postrider.ReplayStep, error) {
	job, err := s.replayJob(ctx, id)
	if err != nil {
		return postrider.ReplayStep{}, err
	}
	if job.State != postrider.ReplayRunning {
		return s.windUpReplay(ctx, job)
	}
	if job.webhook.Deleted {
		if err := s.failReplay(ctx, id); err != nil {
			return postrider.ReplayStep{}, err
		}
		return postrider.ReplayStep{ReplayProgress: job.progress(), Moved: true}, nil
	}
	counts := job.CountedTo != walkEnd
	if counts {
		if err := s.countReplay(ctx, job); err != nil {
			return postrider.ReplayStep{}, err
		}
		if job, err = s.replayJob(ctx, id); err != nil {
			return postrider.ReplayStep{}, err
		}
	}
	step, err := s.makeReplays(ctx, job)
	step.Moved = step.Moved || counts
	return step, err
}

// lockReplay locks a job and returns its row as it is by then.
func (s *Store) lockReplay(ctx context.Context, tx *sqlx.Tx, id string) (row replayRow, err error) {
	err = sqldb.SQL(selectReplayJobs+"id = ?", id).Add(s.db.Lock("FOR UPDATE")).Get(ctx, tx, &row)
	return row, err
}

// countReplay counts a page of what the job sends.
func (s *Store) countReplay(ctx context.Context, job replayJob) error {
	found, to, err := s.replayPage(ctx, s.db.Delivering.Reading, job.walk, job.CountedTo, deliveriesLooked)
	if err != nil {
		return sqldb.Failure("count a replay", err)
	}
	return s.db.Delivering.Write(ctx, "count a replay", func(tx *sqlx.Tx) error {
		return sqldb.SQL("UPDATE replays SET counted = counted + ?, counted_to = ? WHERE id = ? AND counted_to = ?",
			len(found), to, job.ID, job.CountedTo).Run(ctx, tx)
	})
}

// failReplay ends a job whose webhook was deleted.
func (s *Store) failReplay(ctx context.Context, id string) error {
	failed := false
	err := s.db.Delivering.Write(ctx, "fail a replay", func(tx *sqlx.Tx) error {
		row, err := s.lockReplay(ctx, tx, id)
		if failed = row.State == postrider.ReplayRunning; err != nil || !failed {
			return err
		}
		return s.endReplay(ctx, tx, &row, postrider.ReplayFailed)
	})
	if err == nil && failed {
		s.OnReplayEnded(postrider.ReplayFailed)
	}
	return err
}

// endReplay makes a job ended and tells the workspace's webhooks.
func (s *Store) endReplay(ctx context.Context, tx *sqlx.Tx, row *replayRow, state postrider.ReplayState) error {
	now := sqldb.TimeOf(s.now())
	row.State, row.FinishedAt, row.StartAt = state, &now, nil
	if state != postrider.ReplayFinished {
		row.StartAt = &now // to be wound up
	}
	if err := updateReplay(ctx, tx, *row); err != nil {
		return err
	}
	return s.emit(ctx, tx, postrider.OperationalEvent{
		WorkspaceID: row.WorkspaceID, Type: postrider.EventReplayFinished, ResourceID: row.ID, Data: postrider.FinishedReplay{
			ReplayID: row.ID, WebhookID: row.WebhookID, ReplayProgress: row.progress(), FinishedAt: now.Time,
		},
	})
}

// windUpReplay notes what has ended of a job that is not running. If it ended, its other deliveries are cancelled.
func (s *Store) windUpReplay(ctx context.Context, job replayJob) (postrider.ReplayStep, error) {
	open, err := s.openReplay(ctx, job.ID)
	if err != nil {
		return postrider.ReplayStep{}, err
	}
	if left := open.unfinished(); job.State.Ended() && len(left) > 0 {
		for part := range slices.Chunk(left, calledOffChunk) {
			if _, err := s.callOff(ctx, part); err != nil {
				return postrider.ReplayStep{}, err
			}
		}
		if open, err = s.openReplay(ctx, job.ID); err != nil {
			return postrider.ReplayStep{}, err
		}
	}
	var row replayRow
	err = s.db.Delivering.Write(ctx, "wind up a replay", func(tx *sqlx.Tx) (err error) {
		if row, err = s.lockReplay(ctx, tx, job.ID); err != nil || row.State != job.State {
			return err
		}
		if err := open.settle(ctx, tx, &row); err != nil {
			return err
		}
		row.StartAt = nil
		return updateReplay(ctx, tx, row)
	})
	return postrider.ReplayStep{ReplayProgress: row.progress(), Over: row.State == job.State}, err
}

// makeReplays makes the job's next deliveries, and notes which of those before have ended.
func (s *Store) makeReplays(ctx context.Context, job replayJob) (postrider.ReplayStep, error) {
	open, err := s.openReplay(ctx, job.ID)
	if err == nil && job.webhook.Ordering != postrider.OrderingFIFO {
		err = s.leaveOutBehind(ctx, &open)
	}
	if err != nil {
		return postrider.ReplayStep{}, err
	}
	found, to, err := s.nextReplays(ctx, job, open)
	if err != nil {
		return postrider.ReplayStep{}, sqldb.Failure("look for what is to be replayed", err)
	}
	ends := to == walkEnd && len(found) == 0 && len(open.unfinished()) == 0
	moved := to != job.MadeTo || len(open.ended) > 0 || ends
	renew := job.StartAt == nil || job.StartAt.Sub(s.now()) < replayRenew
	if !moved && !renew {
		return postrider.ReplayStep{ReplayProgress: job.progress()}, nil
	}
	row, err := s.storeStep(ctx, job, open, found, to)
	return postrider.ReplayStep{ReplayProgress: row.progress(), Moved: moved, Over: row.State == postrider.ReplayFinished}, err
}

// storeStep is a step's transaction, which does nothing where another one was quicker. It returns the job's row.
func (s *Store) storeStep(
	ctx context.Context, job replayJob, open openDeliveries, found []candidate, to string,
) (row replayRow, err error) {
	mine := false
	err = s.db.Delivering.Write(ctx, "replay", func(tx *sqlx.Tx) (err error) {
		row, err = s.lockReplay(ctx, tx, job.ID)
		if mine = err == nil && row.State == job.State && row.MadeTo == job.MadeTo; !mine {
			return err
		}
		return s.replayStep(ctx, tx, &row, open, found, to)
	})
	if err == nil && mine {
		if len(found) > 0 {
			s.notify()
		}
		if row.State == postrider.ReplayFinished {
			s.OnReplayEnded(row.State)
		}
	}
	return row, err
}

// leaveOutBehind does not count as waiting for an attempt what waits for its turn, so that one lane's head does not
// stop the job for all others. With fifo all wait in one lane, and what is published is behind them.
func (s *Store) leaveOutBehind(ctx context.Context, open *openDeliveries) error {
	slices.Sort(open.ordered)
	for part := range slices.Chunk(open.ordered, sqldb.ChunkSize) {
		behind, err := sqldb.SQL("SELECT delivery_id FROM outbox WHERE hold_until >= ? AND delivery_id IN", behindUntil()).In(part).
			Strings(ctx, s.db.Delivering.Reading)
		if err != nil {
			return sqldb.Failure("read what a replay made", err)
		}
		open.waiting -= len(behind)
	}
	return nil
}

// nextReplays returns what the job sends next, as far as it may now, and the place that it comes to with it.
func (s *Store) nextReplays(ctx context.Context, job replayJob, open openDeliveries) ([]candidate, string, error) {
	now := s.now()
	paced := paceAt(job.Rate, job.NextAt.Time, now).allowed(now)
	most := min(job.webhook.window()-open.waiting, maxReplayOpen-len(open.states), paced, maxReplayStep)
	if most <= 0 || job.MadeTo >= job.CountedTo {
		return nil, job.MadeTo, nil
	}
	const least = 50 // rows, where few of many are sent
	found, to, err := s.replayPage(ctx, s.db.Delivering.Reading, job.walk, job.MadeTo, max(4*most, least))
	if err != nil {
		return nil, "", err
	}
	to = min(to, job.CountedTo)
	found = slices.DeleteFunc(found, func(c candidate) bool { return c.at > to })
	if len(found) > most {
		found = found[:most]
		to = found[most-1].at
	}
	return found, to, nil
}

// replayStep stores a step: the deliveries with their outbox rows, and the job's row.
func (s *Store) replayStep(ctx context.Context, tx *sqlx.Tx, row *replayRow, open openDeliveries, found []candidate, to string) error {
	now := sqldb.TimeOf(s.now())
	if err := open.settle(ctx, tx, row); err != nil {
		return err
	}
	made, err := s.insertReplays(ctx, tx, *row, found, now)
	if err != nil {
		return err
	}
	if made { // else its webhook was deleted just now
		row.MadeTo, row.Sent = to, row.Sent+len(found)
		row.NextAt = sqldb.Time{Time: paceAt(row.Rate, row.NextAt.Time, now.Time).after(len(found))}
	}
	if row.MadeTo == walkEnd && len(found) == 0 && len(open.unfinished()) == 0 {
		return s.endReplay(ctx, tx, row, postrider.ReplayFinished)
	}
	row.StartAt = &sqldb.Time{Time: now.Add(replayLease)}
	return updateReplay(ctx, tx, *row)
}

// insertReplays makes the deliveries, unless the webhook is deleted. Each goes by the webhook as it is now.
func (s *Store) insertReplays(ctx context.Context, tx *sqlx.Tx, job replayRow, found []candidate, now sqldb.Time) (made bool, err error) {
	if len(found) == 0 {
		return true, nil
	}
	// The webhook's status must not change before the deliveries are there, see subscribers.
	if _, err := s.generations(ctx, tx, []string{job.WorkspaceID}); err != nil {
		return false, err
	}
	w, err := readReplayed(ctx, tx, job.WebhookID)
	if err != nil || w.Deleted {
		return false, err
	}
	var rows replayedRows
	for _, c := range found {
		rows.add(job.ID, c.delivery(s.IDs.New(postrider.PrefixDelivery), w, now))
	}
	return true, rows.insert(ctx, tx, s)
}

// replayedRows are the rows that a step makes.
type replayedRows struct {
	deliveries []deliveryRow
	expiries   []expiryRow
	outbox     []outboxRow
	open       []replayDelivery
}

func (r *replayedRows) add(jobID string, d deliveryRow) {
	r.deliveries = append(r.deliveries, d)
	r.open = append(r.open, replayDelivery{jobID, d.ID})
	if d.State == postrider.StatePending {
		r.outbox = append(r.outbox, outboxRow{
			DeliveryID: d.ID, WebhookID: d.WebhookID, Queue: queueOf(d.WorkspaceID, d.WebhookID), Kind: kindStart, DueAt: d.DueAt,
		})
	}
	if d.ExpiresAt != nil {
		r.expiries = append(r.expiries, expiryRow{d.ID, *d.ExpiresAt})
	}
}

func (r *replayedRows) insert(ctx context.Context, tx *sqlx.Tx, s *Store) error {
	if _, err := replaysTable.Insert(ctx, tx, r.deliveries...); err != nil {
		return err
	}
	if err := r.takePlaces(ctx, tx, s); err != nil {
		return err
	}
	if _, err := expiriesTable.Insert(ctx, tx, r.expiries...); err != nil {
		return err
	}
	if _, err := outboxTable.Insert(ctx, tx, r.outbox...); err != nil {
		return err
	}
	_, err := replayDeliveriesTable.Insert(ctx, tx, r.open...)
	return err
}

// takePlaces lets the deliveries that have an order wait for their turn, after what was accepted before.
func (r *replayedRows) takePlaces(ctx context.Context, tx *sqlx.Tx, s *Store) error {
	ordered := map[string]deliveryRow{}
	var again []deliveryRow
	for _, d := range r.deliveries {
		if d.Lane != nil {
			ordered[d.ID] = d
			again = append(again, d)
		}
	}
	if len(again) == 0 {
		return nil
	}
	lanes, err := s.takePlacesAgain(ctx, tx, again)
	if err != nil {
		return err
	}
	for i, row := range r.outbox {
		if d, found := ordered[row.DeliveryID]; found {
			r.outbox[i].HoldUntil = lanes[*d.Lane].hold(d.ID, d.DueAt, s.now())
		}
	}
	return nil
}

// delivery returns the new delivery of the candidate's event.
func (c candidate) delivery(id string, w replayedWebhook, now sqldb.Time) deliveryRow {
	d := deliveryRow{
		ID: id, WorkspaceID: c.event.WorkspaceID, WebhookID: w.ID, EventID: c.event.ID, EventKey: c.event.Key, EventType: c.event.Type,
		State: postrider.StateParked, Policy: w.Policy, ReplayOf: c.repeats, CreatedAt: now, DueAt: now, ExpiresAt: c.event.ExpiresAt,
		ShapeID: w.ShapeID, Lane: laneOf(w.ID, w.Ordering, c.event.OrderingKey),
	}
	if w.Status == postrider.WebhookActive {
		d.State = postrider.StatePending
	}
	return d
}

// openDeliveries are the deliveries of a job that were not ended when it last looked, as they are now.
type openDeliveries struct {
	states  map[string]postrider.DeliveryState // of all; a delivery that is past its retention counts as failed
	ended   []string
	waiting int      // for an attempt, or for the webhook
	ordered []string // those of them that have a lane
}

func (o openDeliveries) unfinished() []string {
	var ids []string
	for id, state := range o.states {
		if !state.Finished() {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// addTo counts what has ended.
func (o openDeliveries) addTo(row *replayRow) {
	for _, id := range o.ended {
		if o.states[id] == postrider.StateSucceeded {
			row.Succeeded++
		} else {
			row.Failed++
		}
	}
}

// settle counts what has ended in the job's row, which the transaction has locked, each delivery once.
func (o openDeliveries) settle(ctx context.Context, tx *sqlx.Tx, row *replayRow) error {
	if len(o.ended) == 0 {
		return nil
	}
	gone, err := sqldb.SQL("DELETE FROM replay_deliveries WHERE replay_id = ? AND delivery_id IN", row.ID).In(o.ended).
		Add(" RETURNING delivery_id").Strings(ctx, tx)
	openDeliveries{states: o.states, ended: gone}.addTo(row)
	return err
}

func (s *Store) openReplay(ctx context.Context, id string) (openDeliveries, error) {
	open, err := openReplays(ctx, s.db.Delivering.Reading, []string{id})
	return open[id], sqldb.Failure("read what a replay made", err)
}

// openReplays returns the open deliveries of jobs.
func openReplays(ctx context.Context, q sqldb.Querier, ids []string) (map[string]openDeliveries, error) {
	var rows []replayDelivery
	err := sqldb.SQL("SELECT replay_id, delivery_id FROM replay_deliveries WHERE replay_id IN").In(ids).
		Add(" ORDER BY replay_id, delivery_id").Select(ctx, q, &rows)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	deliveryIDs := make([]string, len(rows))
	for i, row := range rows {
		deliveryIDs[i] = row.DeliveryID
	}
	states := map[string]endedDelivery{}
	for part := range slices.Chunk(slices.Sorted(slices.Values(deliveryIDs)), sqldb.ChunkSize) {
		some, err := keyed(ctx, q, selectEnded, "id", part, func(d endedDelivery) string { return d.ID })
		if err != nil {
			return nil, err
		}
		for id, d := range some {
			states[id] = d
		}
	}
	return openByJob(rows, states), nil
}

func openByJob(rows []replayDelivery, states map[string]endedDelivery) map[string]openDeliveries {
	byJob := map[string]openDeliveries{}
	for _, row := range rows {
		o := byJob[row.ReplayID]
		if o.states == nil {
			o.states = map[string]postrider.DeliveryState{}
		}
		o.add(row.DeliveryID, states[row.DeliveryID])
		byJob[row.ReplayID] = o
	}
	return byJob
}

// add adds a delivery, whose state is "" when it is gone.
func (o *openDeliveries) add(id string, d endedDelivery) {
	if d.State == "" {
		d.State = postrider.StateFailed
	}
	o.states[id] = d.State
	switch {
	case d.State.Finished():
		o.ended = append(o.ended, id)
	case d.State != postrider.StateRetrying:
		o.waiting++
		if d.Lane != nil {
			o.ordered = append(o.ordered, id)
		}
	}
}
