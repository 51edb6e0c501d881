package activities_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	temporallog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.uber.org/goleak"
	_ "modernc.org/sqlite"

	"postrider"
	"postrider/activities"
	"postrider/egress"
	"postrider/signing"
	"postrider/store"
	"postrider/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is the activities on a real database and a real network, with a receiver
// whose answers a test chooses.
type bench struct {
	t        *testing.T
	db       *store.Store
	ids      *postrider.IDs
	acts     *activities.Activities
	env      *testsuite.TestActivityEnvironment
	registry *prometheus.Registry
	webhook  postrider.Webhook
	secret   string

	mu       sync.Mutex
	requests []request
	respond  http.HandlerFunc
	reports  []activities.Report
	done     []string
	carried  map[string]*postrider.Target
	late     error // of a record that a test makes while a request is under way
}

// request is what the receiver got.
type request struct {
	at     time.Time
	header http.Header
	body   []byte
}

func setup(t *testing.T, change func(*postrider.Webhook)) *bench {
	t.Helper()
	b := &bench{t: t, registry: prometheus.NewRegistry(), secret: "whsec_" + "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="}
	b.answer(http.StatusNoContent)
	server := httptest.NewServer(http.HandlerFunc(b.receive))
	t.Cleanup(server.Close)
	b.db, b.ids = storetest.NewStore(t)
	client := egress.New(egress.Config{AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, UserAgent: "Postrider/test", Now: time.Now})
	t.Cleanup(client.Close)
	b.acts = activities.New(activities.Config{
		Store: b.db, Poster: client, Reporter: b, Metrics: activities.NewMetrics(b.registry),
		Logger: slog.New(slog.DiscardHandler), Now: time.Now, Random: func() float64 { return 0.5 },
		Carried:          func(id string) *postrider.Target { return b.carried[id] },
		FirstAttemptDone: func(id string) { b.mu.Lock(); defer b.mu.Unlock(); b.done = append(b.done, id) },
	})
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(temporallog.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	b.env = suite.NewTestActivityEnvironment()
	b.env.RegisterActivity(b.acts)
	b.subscribe(server.URL+"/hook", change)
	return b
}

func (b *bench) subscribe(url string, change func(*postrider.Webhook)) {
	b.t.Helper()
	now := postrider.Timestamp(time.Now())
	require.NoError(b.t, b.db.CreateWorkspace(b.t.Context(), postrider.Workspace{ID: "ws_1", Name: "test", CreatedAt: now}))
	w := postrider.Webhook{
		ID: b.ids.New(postrider.PrefixWebhook), WorkspaceID: "ws_1", URL: url, Events: []string{"*"},
		SigningMethod: postrider.SigningHMACSHA256, ScopeType: postrider.ScopeGlobal, MaxInFlight: 32, Status: postrider.WebhookActive,
		Policy:    postrider.Policy{TimeoutMS: 5000, MaxRetries: 3, BackoffMS: 1000},
		CreatedAt: now, UpdatedAt: now,
	}
	if change != nil {
		change(&w)
	}
	var err error
	b.webhook, err = b.db.CreateWebhook(b.t.Context(), w, b.secret)
	require.NoError(b.t, err)
}

func (b *bench) receive(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	b.mu.Lock()
	b.requests = append(b.requests, request{at: time.Now(), header: r.Header, body: body})
	respond := b.respond
	b.mu.Unlock()
	respond(w, r)
}

func (b *bench) answer(status int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.respond = func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		if status != http.StatusNoContent {
			_, _ = w.Write([]byte("the receiver's text"))
		}
	}
}

// Report implements [activities.Reporter].
func (b *bench) Report(_ context.Context, _, _ string, report activities.Report) error {
	b.reports = append(b.reports, report)
	return errors.New("nobody listens") // must not matter
}

// publish accepts an event, claims its delivery as a dispatcher would, and returns it.
func (b *bench) publish() string {
	b.t.Helper()
	return b.publishTraced("")
}

// publishTraced is publish in a trace.
func (b *bench) publishTraced(traceContext string) string {
	b.t.Helper()
	now := postrider.Timestamp(time.Now())
	key := b.ids.New(postrider.PrefixEvent)
	receipts, err := b.db.Publish(b.t.Context(), postrider.Publication{WorkspaceID: "ws_1", TraceContext: traceContext, Events: []postrider.PublishedEvent{{
		Event: postrider.Event{Key: key, ID: key, WorkspaceID: "ws_1", Type: "call.ended", Timestamp: now, Body: []byte(`{"id":"` + key + `"}`), CreatedAt: now},
	}}})
	require.NoError(b.t, err)
	require.Len(b.t, receipts[0].DeliveryIDs, 1)
	claimed, err := b.db.Claim(b.t.Context(), postrider.ClaimRequest{Limit: 10, Lease: time.Minute})
	require.NoError(b.t, err)
	require.Len(b.t, claimed, 1)
	return receipts[0].DeliveryIDs[0]
}

// alone asks for the first attempt of a delivery with a workflow of its own.
func alone(id string) activities.DeliverInput {
	return activities.DeliverInput{WorkflowID: postrider.DeliveryWorkflowID(id), DeliveryIDs: []string{id}}
}

func (b *bench) deliver(id string) activities.Report {
	b.t.Helper()
	reports, err := b.acts.Deliver(b.t.Context(), alone(id))
	require.NoError(b.t, err)
	require.Len(b.t, reports, 1)
	return reports[0]
}

// retry runs the ordinary activity and returns its report and whether Temporal may
// try it again; refused says whether the report came as an error.
func (b *bench) retry(id string) (activities.Report, *temporal.ApplicationError) {
	b.t.Helper()
	return b.retryKnowing(id, b.delivery(id).AttemptCount)
}

// retryKnowing is retry for a workflow that knows of so many attempts.
func (b *bench) retryKnowing(id string, known int) (report activities.Report, refused *temporal.ApplicationError) {
	b.t.Helper()
	value, err := b.env.ExecuteActivity(b.acts.Retry, activities.RetryInput{DeliveryID: id, Known: known})
	if err == nil {
		require.NoError(b.t, value.Get(&report))
		return report, nil
	}
	require.ErrorAs(b.t, err, &refused)
	require.Equal(b.t, activities.ErrorAttemptFailed, refused.Type())
	require.NoError(b.t, refused.Details(&report))
	return report, refused
}

func (b *bench) delivery(id string) postrider.Delivery {
	b.t.Helper()
	d, err := b.db.Delivery(b.t.Context(), "ws_1", id)
	require.NoError(b.t, err)
	return d
}

func TestDeliverSignsPostsAndRecords(t *testing.T) {
	t.Parallel()
	b := setup(t, func(w *postrider.Webhook) { w.Headers = map[string]string{"X-Tenant": "blue"} })
	id := b.publish()
	report := b.deliver(id)

	require.Equal(t, postrider.StateSucceeded, report.State)
	require.Len(t, b.requests, 1)
	got := b.requests[0]
	require.NoError(t, signing.Verify(postrider.SigningHMACSHA256, []string{b.secret}, got.header, got.body, time.Now(), time.Minute))
	require.Equal(t, id, got.header.Get("postrider-delivery-id"))
	require.Equal(t, "1", got.header.Get("postrider-attempt"))
	require.Equal(t, "application/json", got.header.Get("Content-Type"))
	require.Equal(t, "Postrider/test", got.header.Get("User-Agent"))
	require.Equal(t, "blue", got.header.Get("X-Tenant"))
	require.Equal(t, b.delivery(id).EventID, got.header.Get("webhook-id"))

	d := b.delivery(id)
	require.Equal(t, postrider.StateSucceeded, d.State)
	require.Equal(t, 1, d.AttemptCount)
	require.NotNil(t, d.FinishedAt)
	require.Equal(t, []string{id}, b.done)
	require.InDelta(t, 1, testutil.ToFloat64(b.counter("postrider_attempts_total", "success")), 0)
	require.InDelta(t, 1, testutil.ToFloat64(b.counter("postrider_deliveries_total", "succeeded")), 0)
}

// counter returns one series of a counter, as it is scraped.
func (b *bench) counter(name, label string) prometheus.Collector {
	b.t.Helper()
	families, err := b.registry.Gather()
	require.NoError(b.t, err)
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			if family.GetName() == name && metric.GetLabel()[0].GetValue() == label {
				gauge := prometheus.NewGauge(prometheus.GaugeOpts{Name: "found"})
				gauge.Set(metric.GetCounter().GetValue())
				return gauge
			}
		}
	}
	b.t.Fatalf("no series %s %s", name, label)
	return nil
}

// Guards against a second POST after a crash between the record and the return.
func TestDeliverDoesNotRepeatARecordedAttempt(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.answer(http.StatusInternalServerError)
	id := b.publish()
	first := b.deliver(id)
	again := b.deliver(id)
	require.Len(t, b.requests, 1)
	require.Equal(t, first.State, again.State)
	require.Equal(t, first.NextAttemptAt.UnixMilli(), again.NextAttemptAt.UnixMilli())
	require.Len(t, again.Attempts, 1)
	require.Nil(t, again.Attempts[0].ResponseExcerpt, "no response text goes to Temporal")
}

func TestRetriesUntilTheyAreUsedUp(t *testing.T) {
	t.Parallel()
	b := setup(t, func(w *postrider.Webhook) { w.Policy.MaxRetries, w.Policy.BackoffMS = 2, 400 })
	b.answer(http.StatusBadGateway)
	id := b.publish()
	report := b.deliver(id)
	require.Equal(t, postrider.StateRetrying, report.State)
	require.WithinDuration(t, b.requests[0].at.Add(400*time.Millisecond), *report.NextAttemptAt, 100*time.Millisecond)
	require.Equal(t, postrider.StateRetrying, b.delivery(id).State)

	report, refused := b.retry(id)
	require.Equal(t, postrider.StateRetrying, report.State)
	require.Equal(t, 2, report.Attempts[0].Number)
	require.False(t, refused.NonRetryable())
	require.Positive(t, refused.NextRetryDelay())
	require.LessOrEqual(t, refused.NextRetryDelay(), 800*time.Millisecond)
	require.Len(t, b.reports, 1, "the workflow was told")

	report, refused = b.retry(id)
	require.Equal(t, postrider.StateFailed, report.State)
	require.False(t, refused.NonRetryable(), "Temporal's policy is what ends it")
	require.Equal(t, postrider.StateFailed, b.delivery(id).State)
	require.Len(t, b.reports, 1)

	report, refused = b.retryKnowing(id, 0)
	require.True(t, refused.NonRetryable(), "Temporal has tries left, and nothing is left to try")
	require.Len(t, report.Attempts, 3)
	require.Len(t, b.requests, 3)
	attempts, err := b.db.Attempts(t.Context(), id)
	require.NoError(t, err)
	require.Len(t, attempts, 3)
	require.Equal(t, "the receiver's text", *attempts[0].ResponseExcerpt)
	require.Equal(t, []string{"1", "2", "3"}, b.sent("postrider-attempt"))
}

func (b *bench) sent(header string) []string {
	var values []string
	for _, r := range b.requests {
		values = append(values, r.header.Get(header))
	}
	return values
}

func TestRetrySucceeds(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.answer(http.StatusServiceUnavailable)
	id := b.publish()
	b.deliver(id)
	b.answer(http.StatusOK)
	report, refused := b.retry(id)
	require.Nil(t, refused)
	require.Equal(t, postrider.StateSucceeded, report.State)
	require.Equal(t, b.requests[0].body, b.requests[1].body, "every attempt sends the same bytes")
	require.Equal(t, b.requests[0].header.Get("webhook-id"), b.requests[1].header.Get("webhook-id"))
}

func TestGoneDisablesTheWebhook(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	other := b.publish()
	b.answer(http.StatusInternalServerError)
	require.Equal(t, postrider.StateRetrying, b.deliver(other).State)
	b.answer(http.StatusGone)
	id := b.publish()
	report := b.deliver(id)
	require.Equal(t, postrider.StateFailed, report.State)
	require.True(t, report.Attempts[0].Gone())
	w, err := b.db.Webhook(t.Context(), "ws_1", b.webhook.ID)
	require.NoError(t, err)
	require.Equal(t, postrider.WebhookDisabled, w.Status)

	report, refused := b.retry(other)
	require.Equal(t, postrider.StateFailed, report.State)
	require.Equal(t, postrider.ResultCancelled, report.Attempts[0].Result)
	require.True(t, refused.NonRetryable())
	require.Len(t, b.requests, 2, "a disabled webhook gets no request")
}

func TestDeletedWebhookGetsNoRequest(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	id := b.publish()
	require.NoError(t, b.db.DeleteWebhook(t.Context(), "ws_1", b.webhook.ID))
	require.Equal(t, postrider.StateCancelled, b.deliver(id).State)
	report, refused := b.retry(id)
	require.Nil(t, refused)
	require.Equal(t, postrider.StateCancelled, report.State)
	require.Empty(t, b.requests)
}

// Guards the whole story: a workflow whose first activity died after its commit
// learns of that attempt with the next.
func TestRetryReportsWhatTheWorkflowDoesNotKnow(t *testing.T) {
	t.Parallel()
	b := setup(t, func(w *postrider.Webhook) { w.Policy.BackoffMS = 100 })
	b.answer(http.StatusInternalServerError)
	id := b.publish()
	b.deliver(id)
	b.answer(http.StatusOK)
	report, refused := b.retryKnowing(id, 0)
	require.Nil(t, refused)
	require.Len(t, report.Attempts, 2)
	require.Equal(t, postrider.StateSucceeded, report.State)
}

// Guards Retry-After: Temporal's own backoff, after a try that died, may be shorter
// than the wait that was recorded.
func TestRetryDoesNotComeBeforeItsTime(t *testing.T) {
	t.Parallel()
	b := setup(t, func(w *postrider.Webhook) { w.Policy.BackoffMS = 3600000 })
	b.answer(http.StatusServiceUnavailable)
	id := b.publish()
	b.deliver(id)
	report, refused := b.retry(id)
	require.Len(t, b.requests, 1)
	require.Equal(t, postrider.StateRetrying, report.State)
	require.False(t, refused.NonRetryable())
	require.Greater(t, refused.NextRetryDelay(), 40*time.Minute)
}

// Guards against a delivery that its workflow takes for delivered and the database
// for waiting: an attempt that another try recorded meanwhile counts as stored.
func TestAttemptThatWasOvertakenReportsWhatIsStored(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	id := b.publish()
	b.mu.Lock()
	b.respond = func(w http.ResponseWriter, r *http.Request) {
		reason, next := "status 500", postrider.Timestamp(time.Now().Add(time.Hour))
		b.late = b.db.Record(r.Context(), []postrider.Outcome{{
			DeliveryID: id, WorkspaceID: "ws_1", WebhookID: b.webhook.ID, State: postrider.StateRetrying, NextAttempt: &next,
			Attempt: postrider.Attempt{Number: 1, StartedAt: postrider.Timestamp(time.Now()), Result: postrider.ResultServerError, Error: &reason},
		}})
		w.WriteHeader(http.StatusOK)
	}
	b.mu.Unlock()
	report := b.deliver(id)
	require.NoError(t, b.late)
	require.Equal(t, postrider.StateRetrying, report.State)
	require.Len(t, report.Attempts, 1)
	require.Equal(t, postrider.ResultServerError, report.Attempts[0].Result)
	require.Equal(t, postrider.StateRetrying, b.delivery(id).State)
}

func TestRetryOfAnUnknownDeliveryIsFinal(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	unknown := postrider.IDFloor(postrider.PrefixDelivery, time.Now())
	_, err := b.env.ExecuteActivity(b.acts.Retry, activities.RetryInput{DeliveryID: unknown})
	var typed *temporal.ApplicationError
	require.ErrorAs(t, err, &typed)
	require.Equal(t, activities.ErrorUnknownDelivery, typed.Type())
	require.True(t, typed.NonRetryable())
	_, err = b.env.ExecuteActivity(b.acts.Cancel, unknown)
	require.NoError(t, err)
}

func TestCancelIsRecorded(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	id := b.publish()
	_, err := b.env.ExecuteActivity(b.acts.Cancel, id)
	require.NoError(t, err)
	require.Equal(t, postrider.StateCancelled, b.delivery(id).State)
}

// Guards the difference between a receiver's failure and one of ours.
func TestShutdownIsNoAttempt(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	id := b.publish()
	ctx, cancel := context.WithCancel(t.Context())
	b.mu.Lock()
	b.respond = func(_ http.ResponseWriter, r *http.Request) { cancel(); <-r.Context().Done() }
	b.mu.Unlock()
	_, err := b.acts.Deliver(ctx, alone(id))
	require.ErrorIs(t, err, context.Canceled)
	require.Zero(t, b.delivery(id).AttemptCount)
	require.Empty(t, b.done)
}

func TestUnknownDeliveryIsAnError(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	_, err := b.acts.Deliver(t.Context(), alone(postrider.IDFloor(postrider.PrefixDelivery, time.Now())))
	require.Equal(t, postrider.CodeNotFound, postrider.CodeOf(err))
}

func TestRetryWaitsForAPlace(t *testing.T) {
	t.Parallel()
	b := setup(t, func(w *postrider.Webhook) { w.MaxInFlight, w.Policy.BackoffMS = 1, 100 })
	b.answer(http.StatusBadGateway)
	id := b.publish()
	b.deliver(id)
	other := b.publish() // claimed, it holds the one place

	_, err := b.env.ExecuteActivity(b.acts.Retry, activities.RetryInput{DeliveryID: id, Known: 1})
	var refused *temporal.ApplicationError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, activities.ErrorNoPlace, refused.Type())
	require.False(t, refused.NonRetryable())
	require.Positive(t, refused.NextRetryDelay())
	require.Len(t, b.requests, 1, "no attempt was made")
	require.Equal(t, 1, b.delivery(id).AttemptCount)

	b.answer(http.StatusNoContent)
	b.deliver(other)
	report, failed := b.retry(id)
	require.Nil(t, failed)
	require.Equal(t, postrider.StateSucceeded, report.State)
}

// A retry under a rate limit comes no sooner than the turn that it got.
func TestRetryWaitsForItsTurn(t *testing.T) {
	t.Parallel()
	rate := 5
	b := setup(t, func(w *postrider.Webhook) { w.RateLimit, w.Policy.BackoffMS = &rate, 100 })
	b.answer(http.StatusBadGateway)
	id := b.publish()
	b.deliver(id)
	b.answer(http.StatusNoContent)
	before := time.Now()
	turn, err := b.db.Admit(t.Context(), b.delivery(id), postrider.Ask{Hold: time.Minute, MaxWait: time.Minute})
	require.NoError(t, err)
	require.True(t, turn.Granted)
	report, failed := b.retry(id)
	require.Nil(t, failed)
	require.Equal(t, postrider.StateSucceeded, report.State)
	next := before.Add(turn.Wait + time.Second/time.Duration(rate)).Add(-time.Millisecond) // stored times are rounded
	require.False(t, b.requests[1].at.Before(next))
}
