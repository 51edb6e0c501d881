package e2e

import (
	"bytes"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"postrider.dev/postrider"
	"postrider.dev/postrider/standalone/instance"
)

// collector is an OpenTelemetry receiver that keeps spans.
type collector struct {
	*httptest.Server

	mu    sync.Mutex
	spans []*tracepb.Span
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var sent coltracepb.ExportTraceServiceRequest
		body, err := io.ReadAll(r.Body)
		if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(body, &sent) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, resource := range sent.GetResourceSpans() {
			for _, scope := range resource.GetScopeSpans() {
				c.spans = append(c.spans, scope.GetSpans()...)
			}
		}
	}))
	t.Cleanup(c.Close)
	return c
}

// env returns the variables that make a process send its spans here soon.
func (c *collector) env() []string {
	return []string{"POSTRIDER_TRACES_ENDPOINT=" + c.URL, "OTEL_BSP_SCHEDULE_DELAY=100"}
}

// trace returns the spans of the caller's trace by name, sorted by their start.
func (c *collector) trace() map[string][]*tracepb.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	named := map[string][]*tracepb.Span{}
	for _, span := range c.spans {
		if hex.EncodeToString(span.GetTraceId()) == callersTrace {
			named[span.GetName()] = append(named[span.GetName()], span)
		}
	}
	for _, spans := range named {
		slices.SortFunc(spans, func(a, b *tracepb.Span) int { return int(a.GetStartTimeUnixNano()) - int(b.GetStartTimeUnixNano()) })
	}
	return named
}

// failingTwice starts a receiver that fails two requests and keeps the headers of all.
func failingTwice(t *testing.T) (url string, headers func() []http.Header) {
	t.Helper()
	var mu sync.Mutex
	var came []http.Header
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		came = append(came, r.Header)
		if len(came) <= 2 {
			w.WriteHeader(http.StatusBadGateway)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL, func() []http.Header { mu.Lock(); defer mu.Unlock(); return slices.Clone(came) }
}

const (
	callersTrace = "0af7651916cd43dd8448eb211c80319c"
	callersSpan  = "b7ad6b7169203331"
)

// publishTraced publishes an event with the headers of a caller that traces.
func publishTraced(t *testing.T, c *instance.Client) {
	t.Helper()
	body := bytes.NewBufferString(`{"type":"call.ended","data":{"card":"PAYLOAD-TEXT"}}`)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.API+"/api/v1/events", body)
	require.NoError(t, err)
	for name, value := range map[string]string{
		"X-API-Key": c.Key, "Content-Type": "application/json",
		"traceparent": "00-" + callersTrace + "-" + callersSpan + "-01", "tracestate": "vendor=STATE-TEXT", "baggage": "user=BAGGAGE-TEXT",
	} {
		request.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusAccepted, response.StatusCode)
}

// TestTraceAcrossProcesses guards that one trace leads from a caller through an API process and a
// worker to the receiver, retries included. The worker starts after the API process has ended.
func TestTraceAcrossProcesses(t *testing.T) {
	t.Parallel()
	collected := newCollector(t)
	l := newLayout(t)
	l.env = append(append(l.env, collected.env()...), "POSTRIDER_TRACES_TO_RECEIVERS=true")
	first := l.run(t, "api")
	url, came := failingTwice(t)
	w := webhook(t, &l.Client, url+"/PATH-TOKEN?token=URL-TOKEN", map[string]any{
		"signing_method": "bearer", "secret": "SECRET-TOKEN", "headers": map[string]string{"X-Tenant": "HEADER-VALUE"},
	})
	publishTraced(t, &l.Client)
	require.NoError(t, first.Stop())
	l.run(t, "worker")
	l.Client = l.run(t, "api").Client
	d := finished(t, &l.Client, w.ID)
	require.Equal(t, "succeeded", d.State)

	await(t, func() bool { return len(collected.trace()["RunWorkflow:Delivery"]) == 1 })
	spans := collected.trace()
	id := func(span *tracepb.Span) string { return hex.EncodeToString(span.GetSpanId()) }
	under := func(parent, name string) *tracepb.Span {
		t.Helper()
		require.Len(t, spans[name], 1, name)
		require.Equal(t, parent, hex.EncodeToString(spans[name][0].GetParentSpanId()), name)
		return spans[name][0]
	}
	published := under(callersSpan, "POST /api/v1/events")
	started := under(id(published), "StartWorkflow:Delivery")
	run := under(id(started), "RunWorkflow:Delivery")
	firstTry := under(id(under(id(run), "StartActivity:Deliver")), "RunActivity:Deliver")
	retries := spans["RunActivity:Retry"]
	require.Len(t, retries, 2)
	scheduled := under(id(run), "StartActivity:Retry")
	attempts := spans["POST"]
	require.Len(t, attempts, 3)
	for n, activity := range []*tracepb.Span{firstTry, retries[0], retries[1]} {
		if n > 0 {
			require.Equal(t, scheduled.GetSpanId(), activity.GetParentSpanId())
		}
		require.Equal(t, published.GetSpanId(), attempts[n].GetParentSpanId())
		require.Equal(t, activity.GetSpanId(), attempts[n].GetLinks()[0].GetSpanId())
		require.Equal(t, n < 2, attempts[n].GetStatus().GetCode() == tracepb.Status_STATUS_CODE_ERROR)
		require.Equal(t, "00-"+callersTrace+"-"+id(attempts[n])+"-01", came()[n].Get("traceparent"))
		require.Equal(t, "vendor=STATE-TEXT", came()[n].Get("tracestate"))
		require.Empty(t, came()[n].Get("baggage"))
	}
	for name, all := range spans {
		for _, span := range all {
			for _, secret := range []string{"PATH-TOKEN", "URL-TOKEN", "SECRET-TOKEN", "HEADER-VALUE", "PAYLOAD-TEXT", "BAGGAGE-TEXT", l.Key} {
				require.NotContains(t, protojson.Format(span), secret, name)
			}
		}
	}
}

// TestTraceStaysHere guards that receivers get no trace headers by default, and that Temporal gets
// only a traceparent, with which histories replay.
func TestTraceStaysHere(t *testing.T) {
	t.Parallel()
	collected := newCollector(t)
	i := startWith(t, t.TempDir(), collected.env())
	url, came := failingTwice(t)
	w := webhook(t, i, url, nil)
	publishTraced(t, &i.Client)
	d := finished(t, i, w.ID)
	require.Len(t, d.Attempts, 3)
	await(t, func() bool { return len(collected.trace()["RunWorkflow:Delivery"]) == 1 })
	require.Len(t, collected.trace()["POST"], 3)
	for _, header := range came() {
		require.Empty(t, header.Get("traceparent"))
		require.Empty(t, header.Get("tracestate"))
	}

	c := temporal(t, i)
	require.Eventually(t, func() bool { return status(t, c, d.ID) == enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED }, patience, tick)
	_, err := i.History(t.Context(), d.ID) // replays the run that has ended
	require.NoError(t, err)
	headers := 0
	for event := range eventsOf(t, c, postrider.DeliveryWorkflowID(d.ID)) {
		fields := event.GetWorkflowExecutionStartedEventAttributes().GetHeader().GetFields()
		if scheduled := event.GetActivityTaskScheduledEventAttributes(); scheduled != nil {
			fields = scheduled.GetHeader().GetFields()
		}
		for name, payload := range fields {
			headers++
			require.Equal(t, "_tracer-data", name)
			require.Regexp(t, `^{"traceparent":"00-`+callersTrace+`-[0-9a-f]{16}-01"}$`, string(payload.GetData()))
		}
	}
	require.Equal(t, 2, headers)
	replay(t, c, postrider.DeliveryWorkflowID(d.ID), "delivery_v2_traced")
	require.Len(t, collected.trace()["RunWorkflow:Delivery"], 1)
}
