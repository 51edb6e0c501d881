package storetest

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store"
)

// Start is what the suite's clocks begin at.
func Start() time.Time { return time.Date(2026, 3, 14, 9, 26, 53, 589793000, time.UTC) }

const lease = 45 * time.Second

// Run runs the suite. newDatabase returns the URL of a database of its own for the
// test, as store.Open takes it; the suite migrates it.
func Run(t *testing.T, newDatabase func(t *testing.T) string) {
	t.Helper()
	for _, part := range []map[string]func(*testing.T, *Bundle){
		workspaceTests(), webhookTests(), secretTests(), headerTests(), publishTests(), matchTests(), idempotencyTests(), groupTests(),
		claimTests(), capacityTests(), fairnessTests(), handoverTests(), permitTests(), migrateTests(), retentionTests(), recordTests(),
		sweepTests(), fanOutTests(), filterTests(), eventTypeTests(), listTests(), expiryTests(), eventCancelTests(), eventHeaderTests(),
		replayTests(), actTests(), orderTests(), orderActTests(), breakerTests(), failingTests(), searchTests(), auditTests(),
		statsTests(), seamTests(), operationalTests(),
		lifecycleTests(), propertyTests(), tlsTests(),
	} {
		for name, test := range part {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(t, NewBundle(t, newDatabase(t)))
			})
		}
	}
}

// Clock is a clock that tests move.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// Now returns the time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves the clock.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// Bundle is a store on a fresh database, with a workspace, for one test.
type Bundle struct {
	*store.Store
	URL       string
	Clock     *Clock
	IDs       *postrider.IDs
	Key       string // the encryption key
	Workspace string
}

// NewBundle opens and migrates the database and makes a workspace.
func NewBundle(tb testing.TB, url string) *Bundle {
	tb.Helper()
	b := &Bundle{URL: url, Clock: &Clock{now: Start()}}
	b.IDs = postrider.NewIDs(b.Clock.Now, rand.Reader)
	var err error
	b.Key, err = store.NewEncryptionKey(rand.Reader)
	require.NoError(tb, err)
	b.Store = b.Open(tb, b.Key)
	require.NoError(tb, b.Migrate(tb.Context()))
	b.Workspace = b.NewWorkspace(tb)
	return b
}

// Open opens another store on the same database, as another process would.
func (b *Bundle) Open(tb testing.TB, keys string) *store.Store {
	tb.Helper()
	return b.OpenWith(tb, keys, func(*store.Options) {})
}

// OpenWith is Open with other options.
func (b *Bundle) OpenWith(tb testing.TB, keys string, change func(*store.Options)) *store.Store {
	tb.Helper()
	ring, err := store.ParseKeyring(keys)
	require.NoError(tb, err)
	options := store.Options{Keys: ring, Now: b.Clock.Now, IDs: b.IDs, Logger: slog.New(slog.DiscardHandler)}
	change(&options)
	s, err := store.Open(tb.Context(), b.URL, options)
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, s.Close()) })
	return s
}

// Raw opens the database itself until the test ends, to look at the stored rows.
func (b *Bundle) Raw(tb testing.TB) *sqlx.DB {
	tb.Helper()
	db := b.openRaw(tb)
	tb.Cleanup(func() { require.NoError(tb, db.Close()) })
	return db
}

func (b *Bundle) openRaw(tb testing.TB) *sqlx.DB {
	tb.Helper()
	driver, address := "sqlite", strings.TrimPrefix(b.URL, "sqlite:")
	if strings.HasPrefix(b.URL, "postgres") {
		driver, address = "postgres", b.URL
	}
	db, err := sqlx.Open(driver, address)
	require.NoError(tb, err)
	return db
}

// NewWorkspace makes another workspace and returns its id.
func (b *Bundle) NewWorkspace(tb testing.TB) string {
	tb.Helper()
	w := postrider.Workspace{ID: b.IDs.New(postrider.PrefixWorkspace), Name: "Workspace", CreatedAt: b.Clock.Now()}
	require.NoError(tb, b.CreateWorkspace(tb.Context(), w))
	return w.ID
}

// Settings returns a webhook's settings, to be changed and created.
func (b *Bundle) Settings(events ...string) postrider.Webhook {
	if len(events) == 0 {
		events = []string{"*"}
	}
	return postrider.Webhook{
		WorkspaceID: b.Workspace,
		WebhookSettings: postrider.WebhookSettings{
			URL: "https://receiver.example/hooks", Events: events, SigningMethod: "hmac_sha256", ScopeType: postrider.ScopeGlobal,
			MaxInFlight: postrider.DefaultMaxInFlight, ParkSeconds: postrider.DefaultParkSeconds,
		},
		Policy: postrider.Policy{
			TimeoutMS: postrider.DefaultTimeoutMS, MaxRetries: postrider.DefaultMaxRetries, BackoffMS: postrider.DefaultBackoffMS,
		},
	}
}

// NewWebhook creates a webhook, changed by each of edits.
func (b *Bundle) NewWebhook(tb testing.TB, edits ...func(*postrider.Webhook)) postrider.Webhook {
	tb.Helper()
	w := b.Settings()
	for _, edit := range edits {
		edit(&w)
	}
	created, err := b.CreateWebhook(tb.Context(), w, "whsec_dG9wIHNlY3JldCB0b3Agc2VjcmV0IQ==")
	require.NoError(tb, err)
	return created
}

// NewEvent returns an event of the type, to be published.
func (b *Bundle) NewEvent(eventType string) postrider.PublishedEvent {
	key := b.IDs.New(postrider.PrefixEvent)
	return postrider.PublishedEvent{
		Event: postrider.Event{
			Key: key, ID: key, WorkspaceID: b.Workspace, Type: eventType, Timestamp: b.Clock.Now(),
			Body: []byte(`{"id":"` + key + `"}`), CreatedAt: b.Clock.Now(),
		},
		RequestHash: "hash of " + eventType,
	}
}

// NewEventTo returns an event to the webhook alone.
func (b *Bundle) NewEventTo(webhookID string) postrider.PublishedEvent {
	e := b.NewEvent("call.ended")
	e.WebhookID = &webhookID
	return e
}

// Publication returns the events as a publication.
func (b *Bundle) Publication(events ...postrider.PublishedEvent) postrider.Publication {
	return postrider.Publication{WorkspaceID: b.Workspace, Events: events}
}

// PublishTo publishes n events to the webhook alone and returns their deliveries.
func (b *Bundle) PublishTo(tb testing.TB, webhookID string, n int) []string {
	tb.Helper()
	var deliveries []string
	for n > 0 {
		p := b.Publication()
		for range min(n, postrider.MaxBatch) {
			p.Events = append(p.Events, b.NewEventTo(webhookID))
		}
		n -= len(p.Events)
		receipts, err := b.Publish(tb.Context(), p)
		require.NoError(tb, err)
		for _, r := range receipts {
			deliveries = append(deliveries, r.DeliveryIDs...)
		}
	}
	return deliveries
}

// SweepAll makes all steps that follow from webhooks that were changed, until none is due.
func (b *Bundle) SweepAll(tb testing.TB) {
	tb.Helper()
	all(tb, b.Sweep)
}

// FanOutAll makes all deliveries of large publications.
func (b *Bundle) FanOutAll(tb testing.TB) {
	tb.Helper()
	all(tb, b.FanOut)
}

func all(tb testing.TB, step func(context.Context) (more bool, err error)) {
	tb.Helper()
	for more := true; more; {
		var err error
		more, err = step(tb.Context())
		require.NoError(tb, err)
	}
}

// Claimed claims and returns the deliveries by webhook.
func (b *Bundle) Claimed(tb testing.TB, limit int) map[string][]string {
	tb.Helper()
	claimed, err := b.Claim(tb.Context(), postrider.ClaimRequest{Limit: limit, Lease: lease})
	require.NoError(tb, err)
	require.LessOrEqual(tb, len(claimed), limit)
	byWebhook := map[string][]string{}
	for _, d := range claimed {
		byWebhook[d.WebhookID] = append(byWebhook[d.WebhookID], d.ID)
	}
	return byWebhook
}

// Outcome returns the outcome of a delivery's attempt: its state and, unless it
// succeeded, an error.
func (b *Bundle) Outcome(t *testing.T, deliveryID string, number int, state postrider.DeliveryState) postrider.Outcome {
	t.Helper()
	d, err := b.Delivery(t.Context(), b.Workspace, deliveryID)
	require.NoError(t, err)
	o := postrider.Outcome{
		DeliveryID: d.ID, WorkspaceID: d.WorkspaceID, WebhookID: d.WebhookID, State: state, WorkflowID: d.WorkflowID,
		Attempt: postrider.Attempt{Number: number, StartedAt: b.Clock.Now(), DurationMS: 12, Result: postrider.ResultSuccess},
	}
	if state != postrider.StateSucceeded {
		o.Attempt.Result = postrider.ResultServerError
		o.Attempt.StatusCode = ref(500)
		o.Attempt.Error = ref(fmt.Sprintf("attempt %d: 500 Internal Server Error", number))
	}
	if state == postrider.StateRetrying {
		o.NextAttempt = ref(postrider.Timestamp(b.Clock.Now().Add(time.Second)))
	}
	return o
}

// State returns a delivery's state.
func (b *Bundle) State(t *testing.T, deliveryID string) postrider.DeliveryState {
	t.Helper()
	d, err := b.Delivery(t.Context(), b.Workspace, deliveryID)
	require.NoError(t, err)
	return d.State
}

// count returns the answer of a query for one number.
func (b *Bundle) count(ctx context.Context, t *testing.T, query string) int {
	t.Helper()
	db := b.openRaw(t)
	defer db.Close() // at once: a test may count thousands of times
	var n int
	require.NoError(t, db.GetContext(ctx, &n, query))
	return n
}

func requireCode(t *testing.T, code postrider.Code, err error) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, code, postrider.CodeOf(err), "%v", err)
}

func ref[T any](v T) *T { return &v }
