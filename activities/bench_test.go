package activities_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/interceptor"
	temporallog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	sdkworker "go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"go.uber.org/goleak"
	_ "modernc.org/sqlite"

	"postrider.dev/postrider"
	"postrider.dev/postrider/activities"
	"postrider.dev/postrider/egress"
	"postrider.dev/postrider/signing"
	"postrider.dev/postrider/store"
	"postrider.dev/postrider/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench runs the activities on a real database and a real network, with a receiver whose answers
// a test chooses. It is also the [activities.Process] of the activities.
type bench struct {
	t        *testing.T
	db       *store.Store
	watched  *watched // db, as the activities see it
	ids      *postrider.IDs
	acts     *activities.Activities
	env      *testsuite.TestActivityEnvironment
	registry *prometheus.Registry
	webhook  postrider.Webhook
	secret   string
	ahead    atomic.Int64                                  // of the activities' clock, in nanoseconds
	random   atomic.Int64                                  // drawn for jitter, in thousandths
	feeds    map[string]activities.Feed                    // by workflow
	reserve  func(context.Context, postrider.Target) error // nil: a slot is always free
	deaf     bool                                          // reports to the workflow fail
	beat     any                                           // the latest heartbeat
	try      temporalTry
	stop     context.CancelFunc // ends the try as a shutdown does
	expires  *time.Time         // of events that are published
	headers  map[string]string  // of events that are published

	mu       sync.Mutex
	requests []request
	respond  http.HandlerFunc
	reports  []activities.Reports
	done     []string
	late     error // of a record that a test makes during a request
}

// temporalTry is Temporal's information on a try of Retry.
type temporalTry struct {
	workflowID string
	number     int32
}

// request is a request that the receiver got.
type request struct {
	at     time.Time
	header http.Header
	body   []byte
}

func setup(t *testing.T, change func(*postrider.Webhook)) *bench {
	t.Helper()
	b := newBench(t)
	b.answer(http.StatusNoContent)
	server := httptest.NewServer(http.HandlerFunc(b.receive))
	t.Cleanup(server.Close)
	client := egress.New(egress.Config{
		AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, UserAgent: "Postrider/test", Now: b.now,
	})
	t.Cleanup(client.Close)
	b.acts.Poster = client
	b.subscribe(server.URL+"/hook", change)
	return b
}

// newBench returns a bench without a network.
func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, registry: prometheus.NewRegistry(), secret: "whsec_" + "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="}
	b.db, b.ids = storetest.NewStore(t)
	b.watched = &watched{Store: b.db, now: b.now}
	b.random.Store(500)
	metrics := activities.NewMetrics(b.registry)
	b.db.OnCancelled, b.db.OnExpired = metrics.Cancelled, metrics.Expired
	b.acts = activities.New(activities.Config{
		Store: b.watched, Reporter: b, Process: b, Metrics: metrics,
		Logger: slog.New(slog.DiscardHandler), Now: b.now, Random: func() float64 { return float64(b.random.Load()) / 1000 },
	})
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(temporallog.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	b.env = suite.NewTestActivityEnvironment()
	b.env.SetWorkerOptions(sdkworker.Options{Interceptors: []interceptor.WorkerInterceptor{&tries{b: b}}})
	b.env.RegisterActivity(b.acts)
	workspace := postrider.Workspace{ID: "ws_1", Name: "test", CreatedAt: postrider.Timestamp(time.Now())}
	require.NoError(t, b.db.CreateWorkspace(t.Context(), workspace))
	return b
}

func (b *bench) subscribe(url string, change func(*postrider.Webhook)) {
	b.t.Helper()
	now := postrider.Timestamp(time.Now())
	w := postrider.Webhook{
		ID: b.ids.New(postrider.PrefixWebhook), WorkspaceID: "ws_1", Status: postrider.WebhookActive,
		WebhookSettings: postrider.WebhookSettings{
			URL: url, Events: []string{"*"}, SigningMethod: signing.HMACSHA256, ScopeType: postrider.ScopeGlobal, MaxInFlight: 32,
		},
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

// now is the activities' clock, which the database does not share.
func (b *bench) now() time.Time { return time.Now().Add(time.Duration(b.ahead.Load())) }

func (b *bench) advance(by time.Duration) { b.ahead.Add(int64(by)) }

func (b *bench) receive(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	b.mu.Lock()
	b.requests = append(b.requests, request{at: b.now(), header: r.Header, body: body})
	respond := b.respond
	b.mu.Unlock()
	respond(w, r)
}

func (b *bench) answer(status int) {
	b.answerBy(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		if status != http.StatusNoContent {
			_, _ = w.Write([]byte("the receiver's text"))
		}
	})
}

func (b *bench) answerBy(respond http.HandlerFunc) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.respond = respond
}

// sent returns a header of every request.
func (b *bench) sent(header string) []string {
	var values []string
	for _, r := range b.requests {
		values = append(values, r.header.Get(header))
	}
	return values
}

// Report implements [activities.Reporter].
func (b *bench) Report(_ context.Context, workflowID, _ string, reports activities.Reports) error {
	require.Equal(b.t, b.try.workflowID, workflowID)
	b.reports = append(b.reports, reports)
	if b.deaf {
		return errors.New("the workflow does not answer")
	}
	return nil
}

// Feed implements [activities.Process].
func (b *bench) Feed(workflowID string) activities.Feed {
	feed := b.feeds[workflowID]
	delete(b.feeds, workflowID)
	return feed
}

// Reserve implements [activities.Process].
func (b *bench) Reserve(ctx context.Context, target postrider.Target) error {
	if b.reserve != nil {
		return b.reserve(ctx, target)
	}
	return nil
}

// Began implements [activities.Process].
func (b *bench) Began(string) {}

// Answered implements [activities.Process].
func (*bench) Answered(string, bool) string { return "" }

// Done implements [activities.Process].
func (b *bench) Done(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done = append(b.done, id)
}

// publish publishes an event, and claims its delivery as a dispatcher does.
func (b *bench) publish() string {
	b.t.Helper()
	return b.publishTraced("")
}

// publishTraced is publish in a trace.
func (b *bench) publishTraced(traceContext string) string {
	b.t.Helper()
	return b.claim("", traceContext)[0]
}

// claim publishes an event for each trace context, and claims the deliveries for a workflow.
func (b *bench) claim(workflowID string, traceContexts ...string) []string {
	b.t.Helper()
	now := postrider.Timestamp(time.Now())
	for _, traceContext := range traceContexts {
		key := b.ids.New(postrider.PrefixEvent)
		_, err := b.db.Publish(b.t.Context(), postrider.Publication{
			WorkspaceID: "ws_1", TraceContext: traceContext, Events: []postrider.PublishedEvent{{Event: postrider.Event{
				Key: key, ID: key, WorkspaceID: "ws_1", Type: "call.ended", Timestamp: now, CreatedAt: now,
				Body:      []byte(`{"id":"` + key + `","type":"call.ended","timestamp":"2026-01-02T03:04:05Z","persona_id":null,"data":{"n":1}}`),
				ExpiresAt: b.expires, Headers: b.headers,
			}}},
		})
		require.NoError(b.t, err)
	}
	claimed, err := b.db.Claim(b.t.Context(), postrider.ClaimRequest{
		Limit: 100, Lease: time.Minute, WorkflowID: workflowID, SlowWorkflowID: workflowID,
	})
	require.NoError(b.t, err)
	require.Len(b.t, claimed, len(traceContexts))
	var claimedIDs []string
	for _, d := range claimed {
		require.Equal(b.t, workflowID == "", d.Alone())
		claimedIDs = append(claimedIDs, d.ID)
	}
	slices.Sort(claimedIDs)
	return claimedIDs
}

// alone returns the input for a delivery that has its own workflow.
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

// retry makes the first round of retries of a delivery that has its own workflow. It returns the
// report, and the error that carried it.
func (b *bench) retry(id string) (activities.Report, *temporal.ApplicationError) {
	b.t.Helper()
	return b.retryKnowing(id, b.delivery(id).AttemptCount)
}

// retryKnowing is retry for a workflow that knows the given number of attempts.
func (b *bench) retryKnowing(id string, known int) (activities.Report, *temporal.ApplicationError) {
	b.t.Helper()
	b.begin(postrider.DeliveryWorkflowID(id))
	reports, refused := b.round(activities.RetryMember{DeliveryID: id, Known: known})
	require.Len(b.t, reports, 1)
	return reports[0], refused
}

// begin begins the activity of a workflow's retries.
func (b *bench) begin(workflowID string) {
	b.try, b.beat = temporalTry{workflowID: workflowID}, nil
}

// cancel runs an activity of a workflow that was cancelled.
func (b *bench) cancel(workflowID string, run, in any) error {
	b.t.Helper()
	b.begin(workflowID)
	b.try.number++
	_, err := b.env.ExecuteActivity(run, in)
	return err
}

// round makes the next round of the activity. It returns the reports, and the error that carried
// them.
func (b *bench) round(members ...activities.RetryMember) (reports activities.Reports, refused *temporal.ApplicationError) {
	b.t.Helper()
	b.try.number++
	if b.beat != nil {
		b.env.SetHeartbeatDetails(b.beat)
	}
	value, err := b.env.ExecuteActivity(b.acts.Retry, activities.RetryInput{Members: members})
	if err == nil {
		require.NoError(b.t, value.Get(&reports))
		return reports, nil
	}
	require.ErrorAs(b.t, err, &refused)
	require.Contains(b.t, []string{activities.ErrorAttemptFailed, activities.ErrorNoPlace}, refused.Type(), err)
	require.NoError(b.t, refused.Details(&reports))
	return reports, refused
}

// fails makes the next round, which must end in an internal failure.
func (b *bench) fails(members ...activities.RetryMember) {
	b.t.Helper()
	b.try.number++
	_, err := b.env.ExecuteActivity(b.acts.Retry, activities.RetryInput{Members: members})
	var failed *temporal.ApplicationError
	require.ErrorAs(b.t, err, &failed)
	require.NotContains(b.t, []string{activities.ErrorAttemptFailed, activities.ErrorNoPlace}, failed.Type(), err)
	require.False(b.t, failed.NonRetryable())
}

func (b *bench) delivery(id string) postrider.Delivery {
	b.t.Helper()
	d, err := b.db.Delivery(b.t.Context(), "ws_1", id)
	require.NoError(b.t, err)
	return d
}

// tries replaces the test environment's information on a try.
type tries struct {
	interceptor.WorkerInterceptorBase

	b *bench
}

// InterceptActivity implements [interceptor.WorkerInterceptor].
func (i *tries) InterceptActivity(_ context.Context, next interceptor.ActivityInboundInterceptor) interceptor.ActivityInboundInterceptor {
	return &tryBegins{ActivityInboundInterceptorBase: interceptor.ActivityInboundInterceptorBase{Next: next}, b: i.b}
}

type tryBegins struct {
	interceptor.ActivityInboundInterceptorBase

	b *bench
}

// Init implements [interceptor.ActivityInboundInterceptor].
func (i *tryBegins) Init(outbound interceptor.ActivityOutboundInterceptor) error {
	return i.Next.Init(&tryRuns{ActivityOutboundInterceptorBase: interceptor.ActivityOutboundInterceptorBase{Next: outbound}, b: i.b})
}

// ExecuteActivity implements [interceptor.ActivityInboundInterceptor].
func (i *tryBegins) ExecuteActivity(ctx context.Context, in *interceptor.ExecuteActivityInput) (any, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	i.b.stop = cancel
	return i.Next.ExecuteActivity(ctx, in)
}

type tryRuns struct {
	interceptor.ActivityOutboundInterceptorBase

	b *bench
}

// GetInfo implements [interceptor.ActivityOutboundInterceptor].
func (i *tryRuns) GetInfo(ctx context.Context) activity.Info {
	info := i.Next.GetInfo(ctx)
	info.Attempt = i.b.try.number
	info.WorkflowExecution = workflow.Execution{ID: i.b.try.workflowID, RunID: "run"}
	return info
}

// RecordHeartbeat implements [interceptor.ActivityOutboundInterceptor].
func (i *tryRuns) RecordHeartbeat(_ context.Context, details ...any) { i.b.beat = details[0] }

// watched is a store that records which retries left and which were kept, and that fails when a
// test says so.
type watched struct {
	activities.Store

	now func() time.Time
	// away returns the error of a call for a delivery; a call for many deliveries asks for
	// each. Nil: no call fails.
	away func(call, deliveryID string) error
	// change changes a target that was read; permit replaces a permit that was acquired. Both
	// may be nil.
	change func(*postrider.Target)
	permit func(postrider.Permit) postrider.Permit

	mu       sync.Mutex
	left     []moved
	kept     []moved
	released []string
}

// moved is a delivery that left its workflow at a time, or that it keeps until then.
type moved struct {
	deliveryID string
	workflowID string
	at         time.Time
}

func (w *watched) fail(call string, deliveryIDs ...string) error {
	if w.away == nil {
		return nil
	}
	for _, id := range deliveryIDs {
		if err := w.away(call, id); err != nil {
			return err
		}
	}
	return nil
}

// Targets implements [activities.Store].
func (w *watched) Targets(ctx context.Context, deliveryIDs []string) ([]postrider.Target, error) {
	if err := w.fail("targets", deliveryIDs...); err != nil {
		return nil, err
	}
	targets, err := w.Store.Targets(ctx, deliveryIDs)
	for i := range targets {
		if w.change != nil {
			w.change(&targets[i])
		}
	}
	return targets, err
}

// Record implements [activities.Store].
func (w *watched) Record(ctx context.Context, outcomes []postrider.Outcome) error {
	if err := w.fail("record", outcomes[0].DeliveryID); err != nil {
		return err
	}
	return w.Store.Record(ctx, outcomes)
}

// AttemptsOf implements [activities.Store].
func (w *watched) AttemptsOf(ctx context.Context, deliveryIDs []string) (map[string][]postrider.Attempt, error) {
	if err := w.fail("attempts", deliveryIDs...); err != nil {
		return nil, err
	}
	return w.Store.AttemptsOf(ctx, deliveryIDs)
}

// AcquirePermit implements [activities.Store].
func (w *watched) AcquirePermit(ctx context.Context, request postrider.PermitRequest) (postrider.Permit, error) {
	if err := w.fail("permit", request.DeliveryID); err != nil {
		return postrider.Permit{}, err
	}
	permit, err := w.Store.AcquirePermit(ctx, request)
	if w.permit != nil {
		permit = w.permit(permit)
	}
	return permit, err
}

// ReleasePermit implements [activities.Store].
func (w *watched) ReleasePermit(ctx context.Context, deliveryID string) error {
	w.mu.Lock()
	w.released = append(w.released, deliveryID)
	w.mu.Unlock()
	if err := w.fail("release", deliveryID); err != nil {
		return err
	}
	return w.Store.ReleasePermit(ctx, deliveryID)
}

// CancelDelivery implements [activities.Store].
func (w *watched) CancelDelivery(ctx context.Context, workflowID, deliveryID string) error {
	if err := w.fail("cancel", deliveryID); err != nil {
		return err
	}
	return w.Store.CancelDelivery(ctx, workflowID, deliveryID)
}

// Leave implements [activities.Store].
func (w *watched) Leave(ctx context.Context, workflowID string, deliveryIDs []string) error {
	if err := w.fail("leave", deliveryIDs...); err != nil {
		return err
	}
	w.mu.Lock()
	for _, id := range deliveryIDs {
		w.left = append(w.left, moved{id, workflowID, w.now()})
	}
	w.mu.Unlock()
	return w.Store.Leave(ctx, workflowID, deliveryIDs)
}

// Keep implements [activities.Store].
func (w *watched) Keep(ctx context.Context, workflowID string, deliveryIDs []string, until time.Time) error {
	if err := w.fail("keep", deliveryIDs...); err != nil {
		return err
	}
	for _, id := range deliveryIDs {
		w.kept = append(w.kept, moved{id, workflowID, until})
	}
	return w.Store.Keep(ctx, workflowID, deliveryIDs, until)
}
