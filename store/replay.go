package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/sqldb"
)

// A replay job is a row: what it sends again, how far its count and its deliveries have come, and when
// its workflow is to be started. The row alone counts, so that a job survives whatever is away: the
// workflow makes steps (replay_step.go), and whoever pauses, resumes or cancels changes the row.

// replayRow is a row of the table replays.
type replayRow struct {
	ID          string
	WorkspaceID string `db:"workspace_id"`
	WebhookID   string `db:"webhook_id"`
	State       postrider.ReplayState
	Since       sqldb.Time
	Until       sqldb.Time
	States      string // JSON
	EventTypes  string `db:"event_types"` // JSON
	Rate        int

	Counted     int    // what it sends, as far as it is counted
	CountedTo   string `db:"counted_to"` // a place of [replayWalk]
	MadeTo      string `db:"made_to"`    // the same, never beyond CountedTo
	Sent        int
	Succeeded   int
	Failed      int
	NextAt      sqldb.Time  `db:"next_at"` // when its rate allows the next delivery
	ResumedAt   sqldb.Time  `db:"resumed_at"`
	ResumedSent int         `db:"resumed_sent"` // what was sent by then
	StartAt     *sqldb.Time `db:"start_at"`     // when its workflow is started, again if there is none by then
	CreatedAt   sqldb.Time  `db:"created_at"`
	FinishedAt  *sqldb.Time `db:"finished_at"`
}

// replayDelivery is a row of the table replay_deliveries: a delivery of a job that was not ended when
// the job last looked.
type replayDelivery struct {
	ReplayID   string `db:"replay_id"`
	DeliveryID string `db:"delivery_id"`
}

func (r replayRow) cursor() string { return r.ID }

func (r replayRow) spec() (spec postrider.ReplaySpec, err error) {
	spec = postrider.ReplaySpec{
		WorkspaceID: r.WorkspaceID, WebhookID: r.WebhookID, Since: r.Since.Time, Until: r.Until.Time, Rate: r.Rate,
	}
	if err = json.Unmarshal([]byte(r.States), &spec.States); err == nil {
		err = json.Unmarshal([]byte(r.EventTypes), &spec.EventTypes)
	}
	return spec, err
}

// item returns the job without what has ended since its last step.
func (r replayRow) item() (postrider.Replay, error) {
	spec, err := r.spec()
	job := postrider.Replay{
		ReplaySpec: spec, ID: r.ID, State: r.State, Sent: r.Sent, Succeeded: r.Succeeded, Failed: r.Failed,
		CreatedAt: r.CreatedAt.Time, FinishedAt: r.FinishedAt.Pointer(),
	}
	if r.CountedTo == walkEnd {
		job.Matched = &r.Counted
	}
	return job, err
}

// progress returns how far the job has come.
func (r replayRow) progress() postrider.ReplayProgress {
	p := postrider.ReplayProgress{State: r.State, Sent: r.Sent, Succeeded: r.Succeeded, Failed: r.Failed}
	if r.CountedTo == walkEnd {
		p.Matched = &r.Counted
	}
	return p
}

// eta returns when the job will have made all its deliveries, at the rate since it was created or
// resumed; nil when that cannot be told.
func (r replayRow) eta(now time.Time) *time.Time {
	left := r.Counted - r.Sent
	if r.State != postrider.ReplayRunning || r.CountedTo != walkEnd || left <= 0 {
		return nil
	}
	rate := float64(r.Rate)
	if made, took := r.Sent-r.ResumedSent, now.Sub(r.ResumedAt.Time).Seconds(); took >= 1 {
		rate = min(rate, float64(made)/took)
	}
	if rate == 0 {
		return nil
	}
	const longest = 10 * 365 * 24 * time.Hour // of a guess
	at := postrider.Timestamp(now.Add(min(time.Duration(float64(left)/rate*float64(time.Second)), longest)))
	return &at
}

// soonCounted is how many pages are counted before the creation of a job is answered, so that a small
// one is answered with its count.
const soonCounted = 20

// CreateReplay stores a running job and returns it. What it sends is counted, at once where that is
// little, else by its steps. Returns [postrider.CodeNotFound] if the workspace does not have the
// webhook, and [postrider.CodeConflict] if it, or the workspace, has as many jobs as it may.
func (s *Store) CreateReplay(ctx context.Context, spec postrider.ReplaySpec) (postrider.Replay, error) {
	now := sqldb.TimeOf(s.now())
	if spec.Until.After(now.Time) {
		spec.Until = now.Time // what it makes itself comes later
	}
	begin := walkOf(spec).begin()
	row := replayRow{
		ID: s.IDs.New(postrider.PrefixReplay), WorkspaceID: spec.WorkspaceID, WebhookID: spec.WebhookID, State: postrider.ReplayRunning,
		Since: sqldb.TimeOf(spec.Since), Until: sqldb.TimeOf(spec.Until), Rate: spec.Rate, CountedTo: begin, MadeTo: begin,
		NextAt: now, ResumedAt: now, StartAt: &now, CreatedAt: now,
	}
	var err error
	if row.States, err = jsonText(spec.States); err == nil {
		row.EventTypes, err = jsonText(spec.EventTypes)
	}
	if err != nil {
		return postrider.Replay{}, err
	}
	if err := s.db.Write(ctx, "create a replay", func(tx *sqlx.Tx) error { return s.createReplay(ctx, tx, row, spec) }); err != nil {
		return postrider.Replay{}, err
	}
	for range soonCounted {
		if job, err := s.replayJob(ctx, row.ID); err != nil || job.CountedTo == walkEnd || s.countReplay(ctx, job) != nil {
			break // its steps go on
		}
	}
	s.acted(ctx)
	return s.Replay(ctx, spec.WorkspaceID, row.ID)
}

func (s *Store) createReplay(ctx context.Context, tx *sqlx.Tx, row replayRow, spec postrider.ReplaySpec) error {
	// Whoever creates another one of the workspace waits.
	_, err := sqldb.SQL("SELECT id FROM workspaces WHERE id = ?", spec.WorkspaceID).Add(s.db.Lock("FOR NO KEY UPDATE")).Strings(ctx, tx)
	if err != nil {
		return err
	}
	if _, err := s.webhook(ctx, tx, spec.WorkspaceID, spec.WebhookID, ""); err != nil && !errors.Is(err, errUndecryptable) {
		return err
	}
	if err := checkReplays(ctx, tx, spec); err != nil {
		return err
	}
	if _, err := replayJobsTable.Insert(ctx, tx, row); err != nil {
		return err
	}
	return s.audit(ctx, tx, postrider.AuditEntry{
		WorkspaceID: spec.WorkspaceID, Action: postrider.ActionCreateReplay, ResourceID: row.ID, Changes: postrider.ReplayChanges(spec),
	})
}

// checkReplays returns [postrider.CodeConflict] if no other job may be created.
func checkReplays(ctx context.Context, tx *sqlx.Tx, spec postrider.ReplaySpec) error {
	var open []replayRow
	err := sqldb.SQL(selectReplayJobs+openReplay+" AND workspace_id = ? ORDER BY id", spec.WorkspaceID).Select(ctx, tx, &open)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(open, func(r replayRow) bool { return r.WebhookID == spec.WebhookID })
	switch {
	case at >= 0:
		return &postrider.Error{Code: postrider.CodeConflict, Message: fmt.Sprintf(
			"the webhook has the replay %s, which is %s; wait until it ends, or cancel it", open[at].ID, open[at].State)}
	case len(open) >= postrider.MaxReplays:
		return &postrider.Error{Code: postrider.CodeConflict, Message: fmt.Sprintf(
			"the workspace has %d replays that are running or paused, as many as it may have; wait until one ends, or cancel one", len(open))}
	}
	return nil
}

// Replay returns a job. Returns [postrider.CodeNotFound] if it is unknown, past its retention or
// another workspace's.
func (s *Store) Replay(ctx context.Context, workspaceID, id string) (postrider.Replay, error) {
	var row replayRow
	err := sqldb.SQL(selectReplayJobs+"id = ? AND workspace_id = ?", id, workspaceID).Get(ctx, s.db.Reading, &row)
	if err != nil {
		return postrider.Replay{}, sqldb.Failure("read a replay", sqldb.OrNotFound("replay", err))
	}
	shown, err := s.showReplays(ctx, []replayRow{row})
	if err != nil {
		return postrider.Replay{}, sqldb.Failure("read a replay", err)
	}
	return shown[0], nil
}

// Replays lists a workspace's jobs, newest first.
func (s *Store) Replays(
	ctx context.Context, workspaceID string, f postrider.ReplayFilter, p postrider.Page,
) (postrider.List[postrider.Replay], error) {
	l := listing{
		rows: sqldb.SQL(selectReplayJobs), table: "replays", walk: (&sqldb.Statement{}).PinnedTo("workspace_id", workspaceID),
		filter: &sqldb.Statement{}, order: []string{"workspace_id", "id"},
	}
	if f.WebhookID != "" {
		l.filter.Add(" AND webhook_id || '' = ?", f.WebhookID)
	}
	if f.State != "" {
		l.filter.Add(" AND state || '' = ?", f.State)
	}
	found, err := listOf[listedReplay](ctx, s.db.Reading, l, p)
	if err != nil {
		return postrider.List[postrider.Replay]{}, sqldb.Failure("list replays", err)
	}
	shown, err := s.showReplays(ctx, found.Items)
	return postrider.List[postrider.Replay]{Items: shown, Next: found.Next}, sqldb.Failure("list replays", err)
}

// listedReplay is a row of a list of jobs, which are shown together.
type listedReplay struct{ replayRow }

//nolint:unparam // it implements listed
func (r listedReplay) item() (replayRow, error) { return r.replayRow, nil }

// showReplays returns the jobs with what has ended since their last steps.
func (s *Store) showReplays(ctx context.Context, rows []replayRow) ([]postrider.Replay, error) {
	ids := make([]string, len(rows))
	for i, r := range rows {
		ids[i] = r.ID
	}
	open, err := openReplays(ctx, s.db.Reading, ids)
	if err != nil {
		return nil, err
	}
	shown := make([]postrider.Replay, len(rows))
	for i, r := range rows {
		open[r.ID].addTo(&r)
		if shown[i], err = r.item(); err != nil {
			return nil, err
		}
		shown[i].ETA = r.eta(s.now())
	}
	return shown, nil
}

// PauseReplay pauses a running job. A paused one stays paused. Returns [postrider.CodeConflict] for one
// that has ended, and [postrider.CodeNotFound] as Replay does.
func (s *Store) PauseReplay(ctx context.Context, workspaceID, id string) (postrider.Replay, error) {
	return s.changeReplay(ctx, workspaceID, id, postrider.ActionPauseReplay, func(r *replayRow) error {
		if r.State.Ended() {
			return refuseReplay(*r, "nothing of it can be paused")
		}
		r.State, r.StartAt = postrider.ReplayPaused, nil
		return nil
	})
}

// ResumeReplay lets a paused job go on. A running one goes on anyway. It returns errors as PauseReplay does.
func (s *Store) ResumeReplay(ctx context.Context, workspaceID, id string) (postrider.Replay, error) {
	return s.changeReplay(ctx, workspaceID, id, postrider.ActionResumeReplay, func(r *replayRow) error {
		if r.State.Ended() {
			return refuseReplay(*r, "it cannot be resumed; create another replay")
		}
		if r.State == postrider.ReplayPaused {
			now := sqldb.TimeOf(s.now())
			r.State, r.StartAt, r.ResumedAt, r.ResumedSent = postrider.ReplayRunning, &now, now, r.Sent
		}
		return nil
	})
}

// CancelReplay ends a job. Those of its deliveries that are not finished are cancelled, by its last step. A
// cancelled one stays so. Returns [postrider.CodeConflict] for one that has ended otherwise, and
// [postrider.CodeNotFound] as Replay does.
func (s *Store) CancelReplay(ctx context.Context, workspaceID, id string) (postrider.Replay, error) {
	cancelled := false
	_, err := s.changeReplay(ctx, workspaceID, id, postrider.ActionCancelReplay, func(r *replayRow) error {
		cancelled = !r.State.Ended()
		switch {
		case cancelled:
			now := sqldb.TimeOf(s.now())
			r.State, r.StartAt, r.FinishedAt = postrider.ReplayCancelled, &now, &now
		case r.State != postrider.ReplayCancelled:
			return refuseReplay(*r, "nothing is left to be cancelled")
		}
		return nil
	})
	if err != nil {
		return postrider.Replay{}, err
	}
	if cancelled {
		s.OnReplayEnded(postrider.ReplayCancelled)
		_, _ = s.StepReplay(ctx, id) // at once; if it fails, its workflow makes it
	}
	return s.Replay(ctx, workspaceID, id)
}

func refuseReplay(r replayRow, reason string) error {
	return &postrider.Error{Code: postrider.CodeConflict, Message: "the replay is " + string(r.State) + ": " + reason}
}

// changeReplay changes a job's row for a caller.
func (s *Store) changeReplay(
	ctx context.Context, workspaceID, id string, action postrider.AuditAction, change func(*replayRow) error,
) (postrider.Replay, error) {
	err := s.db.Write(ctx, "change a replay", func(tx *sqlx.Tx) error {
		var row replayRow
		err := sqldb.SQL(selectReplayJobs+"id = ? AND workspace_id = ?", id, workspaceID).Add(s.db.Lock("FOR UPDATE")).Get(ctx, tx, &row)
		if err != nil {
			return sqldb.OrNotFound("replay", err)
		}
		before := row.State
		if err := change(&row); err != nil {
			return err
		}
		if row.State != before {
			if err := updateReplay(ctx, tx, row); err != nil {
				return err
			}
		}
		return s.audit(ctx, tx, postrider.AuditEntry{
			WorkspaceID: workspaceID, Action: action, ResourceID: id, Changes: postrider.ReplayStateChange(before, row.State),
		})
	})
	if err != nil {
		return postrider.Replay{}, err
	}
	s.acted(ctx)
	return s.Replay(ctx, workspaceID, id)
}

func updateReplay(ctx context.Context, tx *sqlx.Tx, row replayRow) error {
	columns := sqldb.ColumnsOf[replayRow]().Except("id")
	return sqldb.SQL("UPDATE replays SET "+columns.Assignments()+" WHERE id = ?", append(columns.Values(&row), row.ID)...).Run(ctx, tx)
}

// CancelAnyReplay is [Store.CancelReplay] for whoever cancelled the job's workflow. One that has ended, or
// is unknown, is left alone.
func (s *Store) CancelAnyReplay(ctx context.Context, id string) error {
	job, err := s.replayJob(ctx, id)
	if err == nil && !job.State.Ended() {
		_, err = s.CancelReplay(ctx, job.WorkspaceID, id)
	}
	if code := postrider.CodeOf(err); code == postrider.CodeNotFound || code == postrider.CodeConflict {
		return nil
	}
	return err
}

// WakeReplays gets a value, one for many, when this process made a job whose workflow is to be started.
func (s *Store) WakeReplays() <-chan struct{} { return s.wakeReplays }

// ClaimReplays returns jobs whose workflows are to be started, up to the limit. Another claim returns those
// after the lease that make no step by then.
func (s *Store) ClaimReplays(ctx context.Context, limit int, lease time.Duration) ([]postrider.DueReplay, error) {
	now := s.now()
	var due bool
	err := sqldb.SQL("SELECT EXISTS (SELECT 1 FROM replays WHERE start_at <= ?)", now).Get(ctx, s.db.Delivering.Reading, &due)
	if err != nil || !due {
		return nil, sqldb.Failure("look for replays", err)
	}
	var jobs []postrider.DueReplay
	err = s.db.Delivering.Write(ctx, "claim replays", func(tx *sqlx.Tx) error {
		jobs = nil
		err := sqldb.SQL("SELECT id, workspace_id, webhook_id FROM replays WHERE start_at <= ? ORDER BY start_at LIMIT ?", now, limit).
			Add(s.db.Lock("FOR UPDATE SKIP LOCKED")).Select(ctx, tx, &jobs)
		if err != nil || len(jobs) == 0 {
			return err
		}
		ids := make([]string, len(jobs))
		for i, job := range jobs {
			ids[i] = job.ID
		}
		return sqldb.SQL("UPDATE replays SET start_at = ? WHERE id IN", now.Add(lease)).In(ids).Run(ctx, tx)
	})
	return jobs, err
}

// RetainReplays removes jobs that ended before the given time, in steps. It calls progress with how many
// are removed.
func (s *Store) RetainReplays(ctx context.Context, before time.Time, progress func(removed int64)) error {
	return s.deleteInSteps(ctx, "delete old replays", progress, func() *sqldb.Statement {
		return sqldb.SQL("DELETE FROM replays WHERE id IN (SELECT id FROM replays WHERE id < ? AND finished_at < ? AND start_at IS NULL"+
			" ORDER BY id LIMIT ?)", postrider.IDFloor(postrider.PrefixReplay, before), before, retainChunk)
	})
}
