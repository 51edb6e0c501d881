package api_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/api"
)

// promptStore accepts every event at once, for one webhook, so that the benchmark measures
// the API alone.
type promptStore struct {
	api.Store
	key postrider.APIKey
}

func (s *promptStore) APIKeyByHash(context.Context, string) (postrider.APIKey, error) {
	return s.key, nil
}

func (s *promptStore) Revocations() int64 { return 0 }

func (s *promptStore) Publish(_ context.Context, p postrider.Publication) ([]postrider.Receipt, error) {
	receipts := make([]postrider.Receipt, len(p.Events))
	for i, e := range p.Events {
		receipts[i] = postrider.Receipt{ID: e.ID, Type: e.Type, DeliveryIDs: []string{e.Key}}
	}
	return receipts, nil
}

// discard is a response writer that keeps the status alone.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(status int)      { d.status = status }

// publisher sends the same body again and again, as an HTTP client of Go's would.
type publisher struct {
	handler http.Handler
	request *http.Request
	body    *bytes.Reader
	answer  discard
}

func newPublisher(b *testing.B, handler http.Handler, key, path, body string) *publisher {
	b.Helper()
	p := &publisher{handler: handler, body: bytes.NewReader([]byte(body)), answer: discard{header: http.Header{}}}
	p.request = httptest.NewRequestWithContext(b.Context(), http.MethodPost, path, p.body)
	p.request.Header = http.Header{
		"X-Api-Key": {key}, "Content-Type": {"application/json"}, "User-Agent": {"Go-http-client/1.1"}, "Accept-Encoding": {"gzip"},
	}
	return p
}

// publish sends the body once and returns the status of the answer.
func (p *publisher) publish() int {
	_, _ = p.body.Seek(0, io.SeekStart)
	clear(p.answer.header)
	p.handler.ServeHTTP(&p.answer, p.request)
	return p.answer.status
}

// eventOf512 is an event whose data has 512 bytes.
const eventOf512 = `{"type":"call.ended","data":{"call_id":"call_019a8f3c5b7e7c3a9d2e4f6081a2b3c4","from":"+491701234567",` +
	`"to":"+4930123456",` +
	`"direction":"inbound","started_at":"2026-08-03T11:58:12.123456Z","ended_at":"2026-08-03T11:59:54.654321Z","duration_ms":102531,` +
	`"recorded":true,"agent":{"id":42,"name":"Jörg Müller","team":"support"},` +
	`"tags":["vip","callback","de"],"score":0.8731,"transfer":null,` +
	`"summary":"The caller asked where the parcel is. It was found in \"Leipzig\" and arrives tomorrow; nothing else is open. ` +
	`The caller wants to be called back."}}`

func benchmarkPublish(b *testing.B, path, body string) {
	b.Helper()
	b.ReportAllocs()
	secret, err := postrider.NewAPIKeySecret(rand.Reader)
	require.NoError(b, err)
	now := time.Now()
	handler := api.New(api.Config{
		Store: &promptStore{key: postrider.APIKey{
			ID: "key_1", WorkspaceID: "ws_019a8f3c5b7e7c3a9d2e4f6081a2b3c4", Hash: postrider.HashAPIKey(secret),
			Scopes: postrider.Scopes(), LastUsedAt: &now,
		}},
		CheckURL: func(string) error { return nil }, Now: time.Now, IDs: postrider.NewIDs(time.Now, rand.Reader), Entropy: rand.Reader,
		Logger:  slog.New(slog.NewTextHandler(io.Discard, nil)), //nolint:sloglint // the cost of a line is measured too
		Version: "test",
	})
	b.RunParallel(func(pb *testing.PB) {
		p := newPublisher(b, handler, secret, path, body)
		for pb.Next() {
			if status := p.publish(); status != http.StatusAccepted {
				b.Errorf("answered with %d", status)
				return
			}
		}
	})
}

// BenchmarkPublish is a publish as far as the API goes: all of the handler, with a
// log line for each request, and a store that accepts at once.
func BenchmarkPublish(b *testing.B) { benchmarkPublish(b, eventsPath, eventOf512) }

// BenchmarkPublishBatch is the same for a full batch.
func BenchmarkPublishBatch(b *testing.B) {
	events := strings.Repeat(eventOf512+",", postrider.MaxBatch)
	benchmarkPublish(b, batchPath, `{"events":[`+strings.TrimSuffix(events, ",")+`]}`)
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/postrider.MaxBatch, "µs/event")
}
