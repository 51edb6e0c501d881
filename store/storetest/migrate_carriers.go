//nolint:thelper // these are the tests, not helpers of one
package storetest

import (
	"cmp"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
)

// storedTime is how SQLite keeps times, and PostgreSQL takes them.
const storedTime = "2006-01-02 15:04:05.999999-07:00"

// stored is a row of the outbox, and of its delivery.
type stored struct {
	Kind       string // "": there is none
	Leased     bool
	Hold       *time.Time
	WorkflowID string `db:"workflow_id"`
	DueAt      time.Time
	Queue      string
}

// tables reads and writes them by hand.
type tables struct {
	*Bundle
	raw     *sqlx.DB
	version int64
}

func newTables(t *testing.T, b *Bundle) *tables {
	t.Helper()
	return &tables{Bundle: b, raw: b.Raw(t), version: 6}
}

func (s *tables) exec(t *testing.T, query string, args ...any) {
	t.Helper()
	_, err := s.raw.ExecContext(t.Context(), s.raw.Rebind(query), args...)
	require.NoError(t, err, query)
}

// at returns a time after the start as it is stored, null for 0.
func at(after time.Duration) any {
	if after == 0 {
		return nil
	}
	return Start().Add(after).Format(storedTime)
}

// row returns a delivery's row of the outbox.
func (s *tables) row(t *testing.T, id string) stored {
	t.Helper()
	columns := "kind, leased, workflow_id, CAST(hold_until AS text) AS hold, CAST(due_at AS text) AS due"
	if s.version >= 6 {
		columns += ", queue"
	}
	var rows []struct {
		stored
		Hold *string
		Due  string
	}
	tx, err := s.raw.BeginTxx(t.Context(), nil)
	require.NoError(t, err)
	defer tx.Rollback() //nolint:errcheck // nothing was written
	if s.raw.DriverName() == "postgres" {
		_, err = tx.ExecContext(t.Context(), "SET LOCAL timezone TO 'UTC'")
		require.NoError(t, err)
	}
	require.NoError(t, tx.SelectContext(t.Context(), &rows, s.raw.Rebind("SELECT "+columns+" FROM outbox WHERE delivery_id = ?"), id))
	if len(rows) == 0 {
		return stored{}
	}
	read := rows[0].stored
	read.DueAt = parsed(t, rows[0].Due)
	if rows[0].Hold != nil {
		hold := parsed(t, *rows[0].Hold)
		read.Hold = &hold
	}
	return read
}

func parsed(t *testing.T, text string) time.Time {
	t.Helper()
	layout := "2006-01-02 15:04:05.999999-07"
	if strings.HasSuffix(text, ":00") && strings.ContainsAny(text[len(text)-6:], "+-") {
		layout += ":00"
	}
	at, err := time.Parse(layout, text)
	require.NoError(t, err)
	return at.UTC()
}

// before is how the version before had a delivery.
type before struct {
	state    postrider.DeliveryState // pending when ""
	workflow string                  // OWN is the delivery's own
	next     time.Duration           // of the next attempt, after the start
	handed   bool                    // off the outbox before an attempt was recorded

	kind    string // "": no row in the outbox
	leased  bool
	hold    time.Duration
	carrier string // the row's workflow
}

// after is what becomes of it.
type after struct {
	kind    string
	leased  bool
	carrier string
	hold    time.Duration // after the start; 0 for none
	late    bool          // held from now on, the next attempt's time being past
	due     time.Duration
}

// The clock of the databases is years after the suite's: a time in a century is to come,
// one of the suite's is past.
const (
	toCome = 100 * 365 * 24 * time.Hour
	grace  = postrider.CarrierGrace
)

func migrateToCarriers(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	s := newTables(t, b)
	cases := map[string]struct {
		before before
		after  after
	}{
		"first attempt ready": {before{kind: "start"}, after{kind: "start"}},
		"first attempt leased to its own": {
			before{kind: "start", leased: true, hold: lease, carrier: "OWN"}, after{kind: "start", leased: true, hold: lease, carrier: "OWN"},
		},
		"first attempt leased to a batch": {
			before{kind: "start", leased: true, hold: lease, carrier: "batch/a"},
			after{kind: "start", leased: true, hold: lease, carrier: "batch/a"},
		},
		"given back":         {before{kind: "start", carrier: "OWN"}, after{kind: "start", carrier: "OWN"}},
		"waits for its time": {before{kind: "start", hold: time.Hour}, after{kind: "start", hold: time.Hour}},
		"handed over to its own": {
			before{state: "delivering", handed: true, workflow: "OWN"}, after{kind: "start", leased: true, late: true, carrier: "OWN"},
		},
		"handed over, then given": {before{state: "delivering", handed: true, kind: "start"}, after{kind: "start"}},

		"to be handed over": {
			before{state: "retrying", next: time.Hour, kind: "own", workflow: "OWN"}, after{kind: "retry", due: time.Hour},
		},
		"about to be handed over": {
			before{state: "retrying", next: toCome, kind: "own", leased: true, hold: lease, workflow: "OWN"}, after{kind: "retry", due: toCome},
		},
		"handed over to be seen": {before{state: "failed", kind: "own", workflow: "OWN"}, after{}},
		"about to be seen":       {before{state: "succeeded", kind: "own", leased: true, hold: lease, workflow: "OWN"}, after{}},
		"waits in its own": {
			before{state: "retrying", next: toCome, workflow: "OWN"}, after{kind: "retry", hold: toCome + grace, due: toCome, carrier: "OWN"},
		},
		"is late in its own": {
			before{state: "retrying", next: time.Hour, workflow: "OWN"}, after{kind: "retry", late: true, due: time.Hour, carrier: "OWN"},
		},
		"in an attempt of its own": {
			before{state: "retrying", next: time.Second, workflow: "OWN", kind: "retry", leased: true, hold: time.Minute},
			after{kind: "retry", late: true, due: time.Second, carrier: "OWN"},
		},
		"refused a permit": {
			before{state: "retrying", next: time.Second, workflow: "OWN", kind: "retry", hold: time.Minute},
			after{kind: "retry", late: true, due: time.Second, carrier: "OWN"},
		},
		"finished in its attempt": {before{state: "cancelled", workflow: "OWN", kind: "retry", leased: true, hold: time.Minute}, after{}},

		"to be cancelled": {before{state: "cancelled", workflow: "OWN", kind: "cancel"}, after{kind: "cancel", carrier: "OWN"}},
		"about to be cancelled": {
			before{state: "cancelled", workflow: "OWN", kind: "cancel", leased: true, hold: lease},
			after{kind: "cancel", leased: true, hold: lease, carrier: "OWN"},
		},
		"cancelled before it began": {before{state: "cancelled", kind: "cancel"}, after{kind: "cancel", carrier: "OWN"}},

		"parked": {before{state: "parked"}, after{}}, "succeeded": {before{state: "succeeded", workflow: "batch/a"}, after{}},
	}
	ids := map[string]string{}
	for name := range cases {
		ids[name] = b.PublishTo(t, w.ID, 1)[0]
	}
	s.unmigrate(t)
	for name, c := range cases {
		s.insert(t, w.ID, ids[name], c.before)
	}
	begun := time.Now()
	s.migrate(t)
	for name, c := range cases {
		id := ids[name]
		got := s.row(t, id)
		if c.after.late {
			require.NotNil(t, got.Hold, name)
			require.WithinRange(t, *got.Hold, begun.Add(grace-time.Second), time.Now().Add(grace+time.Second), name)
			got.Hold = nil
		}
		if c.after == (after{}) {
			require.Equal(t, stored{}, got, name)
			continue
		}
		want := stored{
			Kind: c.after.kind, Leased: c.after.leased, WorkflowID: named(c.after.carrier, id),
			DueAt: Start().Add(c.after.due), Queue: b.Workspace + "/" + w.ID,
		}
		if c.after.hold > 0 {
			want.Hold = ref(Start().Add(c.after.hold))
			require.NotNil(t, got.Hold, name)
			require.WithinDuration(t, *want.Hold, *got.Hold, time.Millisecond, name) // SQLite reckons in milliseconds
			got.Hold = want.Hold
		}
		require.Equal(t, want, got, name)
	}

	// Then all of them go on.
	claimed := b.Claimed(t, 100)[w.ID]
	require.ElementsMatch(t, []string{ids["first attempt ready"], ids["given back"], ids["handed over, then given"]}, claimed)
	handed := []string{}
	for _, some := range members(b.handovers(t, 100)) {
		handed = append(handed, some...)
	}
	require.ElementsMatch(t, []string{ids["to be handed over"], ids["about to be handed over"]}, handed)
	require.True(t, b.permitted(t, b.read(t, ids["waits in its own"])))
	for _, c := range b.cancellations(t, 100) {
		require.Equal(t, postrider.DeliveryWorkflowID(c.DeliveryID), c.WorkflowID)
	}
	b.Clock.Advance(time.Since(Start()) + lease + grace + time.Second) // who made attempts is lost
	require.Subset(t, append(b.Claimed(t, 100)[w.ID], handed...), []string{
		ids["first attempt leased to its own"], ids["first attempt leased to a batch"], ids["waits for its time"], ids["handed over to its own"],
	})
	lost := []string{}
	for _, some := range members(b.handovers(t, 100)) {
		lost = append(lost, some...)
	}
	require.Subset(t, lost, []string{ids["is late in its own"], ids["in an attempt of its own"], ids["refused a permit"]})
}

// named returns the workflow, the delivery's own for OWN.
func named(workflow, id string) string {
	if workflow == "OWN" {
		return postrider.DeliveryWorkflowID(id)
	}
	return workflow
}

func (s *tables) unmigrate(t *testing.T) {
	t.Helper()
	for s.version = math.MaxInt64; s.version > 5; {
		version, err := s.Unmigrate(t.Context())
		require.NoError(t, err)
		require.Less(t, version, s.version)
		s.version = version
	}
}

func (s *tables) migrate(t *testing.T) {
	t.Helper()
	require.NoError(t, s.Migrate(t.Context()))
	require.NoError(t, s.CheckSchema(t.Context()))
	s.version = 6
}

// insert lets a published delivery be as the version before had it.
func (s *tables) insert(t *testing.T, webhookID, id string, b before) {
	t.Helper()
	var finished any
	if b.state.Finished() {
		finished = at(time.Second)
	}
	s.exec(t, "UPDATE deliveries SET state = ?, workflow_id = ?, next_attempt_at = ?, finished_at = ?, handed_over = ? WHERE id = ?",
		cmp.Or(b.state, postrider.StatePending), named(b.workflow, id), at(b.next), finished, b.handed, id)
	s.exec(t, "DELETE FROM outbox WHERE delivery_id = ?", id)
	if b.kind != "" {
		s.exec(t, "INSERT INTO outbox (delivery_id, webhook_id, kind, hold_until, leased, due_at, workflow_id) VALUES (?, ?, ?, ?, ?, ?, ?)",
			id, webhookID, b.kind, at(b.hold), b.leased, Start().Format(storedTime), named(b.carrier, id))
	}
}

func migrateFromCarriers(t *testing.T, b *Bundle) {
	ctx := t.Context()
	w := b.NewWebhook(t)
	s := newTables(t, b)
	alone := retrying(t, b, w.ID, 1)[0].ID // which its own workflow carries
	together := left(t, b, w.ID, 2, time.Hour)
	require.Len(t, b.handovers(t, 10), 1)
	waiting := left(t, b, w.ID, 1, time.Hour)
	ids := b.PublishTo(t, w.ID, 3)
	claimed, err := b.Claim(ctx, postrider.ClaimRequest{Limit: 1, Lease: lease, WorkflowID: "batch/two"})
	require.NoError(t, err)
	require.Len(t, claimed, 1)
	require.Equal(t, ids[1:2], b.claimOne(t))
	doomed := b.NewWebhook(t)
	gone := b.PublishTo(t, doomed.ID, 1)
	require.Equal(t, gone, b.Claimed(t, 1)[doomed.ID])
	require.NoError(t, b.DeleteWebhook(ctx, b.Workspace, doomed.ID))
	b.SweepAll(t) // otherwise the downgrade is refused
	rows := map[string]stored{}
	for _, id := range append(ids, gone...) {
		rows[id] = s.row(t, id)
	}

	s.unmigrate(t)
	require.Equal(t, stored{}, s.row(t, alone))
	for _, id := range append(together, waiting...) {
		require.Equal(t, stored{Kind: "own", DueAt: Start().Add(time.Hour)}, s.row(t, id), "it gets one of its own")
	}
	for id, row := range rows {
		row.Queue = ""
		require.Equal(t, row, s.row(t, id))
	}
	for _, id := range append(together, alone, waiting[0]) {
		var workflowID string
		require.NoError(t, s.raw.GetContext(ctx, &workflowID, s.raw.Rebind("SELECT workflow_id FROM deliveries WHERE id = ?"), id))
		require.Equal(t, "delivery/"+id, workflowID)
	}

	// And back.
	s.migrate(t)
	for id, row := range rows {
		require.Equal(t, row, s.row(t, id))
	}
	require.Equal(t, "delivery/"+alone, s.row(t, alone).WorkflowID)
	for _, id := range append(together, waiting...) {
		require.Equal(t, stored{Kind: "retry", DueAt: Start().Add(time.Hour), Queue: b.Workspace + "/" + w.ID}, s.row(t, id))
	}
}

// claimOne claims one delivery for a workflow of its own.
func (b *Bundle) claimOne(t *testing.T) []string {
	t.Helper()
	var ids []string
	for _, claimed := range b.Claimed(t, 1) {
		ids = append(ids, claimed...)
	}
	return ids
}
