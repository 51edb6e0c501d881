package api_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/api"
)

// These targets send what no client would to every route that takes it. Whatever comes, the answer is no 5xx, and a
// refusal of what was sent says which field it is about. New routes are among them by themselves.

// fuzzer sends requests without a network, whose URLs and bodies may have any bytes, to routes that are wanted.
type fuzzer struct {
	*world
	handler    http.Handler
	document   contract
	operations []operation
	reasons    *syncBuffer // why the latest request was a 5xx
}

func newFuzzer(f *testing.F, wanted func(operation) bool) *fuzzer {
	f.Helper()
	now := time.Date(2026, 8, 3, 12, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	z := &fuzzer{reasons: new(syncBuffer), world: &world{
		workspace: "ws_1", key: "key_1", webhook: "wh_1", event: "e1", delivery: "dlv_1",
	}}
	z.handler = api.New(api.Config{
		Store: &cannedStore{world: z.world, now: now}, CheckURL: func(string) error { return nil }, Now: clock,
		IDs: postrider.NewIDs(clock, rand.Reader), Entropy: rand.Reader,
		Logger: slog.New(slog.NewTextHandler(z.reasons, &slog.HandlerOptions{Level: slog.LevelError})),
	})
	z.document = newContract(f, z.send(f.Context(), operation{Method: http.MethodGet, Path: "/openapi.json"}, "", "").Body.Bytes())
	z.operations = slices.DeleteFunc(z.document.operations(f), func(o operation) bool { return !wanted(o) })
	require.NotEmpty(f, z.operations)
	require.Less(f, len(z.operations), 256)
	return z
}

// of returns one of the operations.
func (z *fuzzer) of(which uint8) operation { return z.operations[int(which)%len(z.operations)] }

func (z *fuzzer) send(ctx context.Context, o operation, query, body string) *httptest.ResponseRecorder {
	request := &http.Request{
		Method: o.Method, URL: &url.URL{Path: z.path(o), RawQuery: query}, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"X-Api-Key": {"any"}},
	}
	if body != "" {
		request.Body, request.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
	}
	answer := httptest.NewRecorder()
	z.handler.ServeHTTP(answer, request.WithContext(ctx))
	return answer
}

// try sends a request and checks what holds of every answer.
func (z *fuzzer) try(t *testing.T, which uint8, query, body string) {
	t.Helper()
	o := z.of(which)
	got := z.send(t.Context(), o, query, body)
	require.Less(t, got.Code, http.StatusInternalServerError, "%s: %s %s", o.OperationID, got.Body, z.reasons)
	require.Contains(t, o.documented(), got.Code, "%s: %s", o.OperationID, got.Body)
	if got.Code < http.StatusBadRequest {
		return
	}
	var p problem
	decoder := json.NewDecoder(bytes.NewReader(got.Body.Bytes()))
	decoder.DisallowUnknownFields()
	require.NoError(t, decoder.Decode(&p), "%s", got.Body)
	require.Equal(t, got.Code, p.Status)
	require.NotEmpty(t, p.Detail)
	if got.Code != http.StatusUnprocessableEntity {
		return
	}
	require.NotEmpty(t, p.Errors, "%s", got.Body)
	for _, e := range p.Errors {
		place, _, _ := strings.Cut(strings.ReplaceAll(e.Location, "[", "."), ".")
		require.Contains(t, []string{"body", "query", "header"}, place)
		require.NotEmpty(t, e.Message)
	}
}

func FuzzQueries(f *testing.F) {
	z := newFuzzer(f, func(o operation) bool { return o.Method == http.MethodGet })
	values := []string{"1", "", "a.b", "a.*", "%00", "%ff", "%", "x;y", "2026-08-03T12:00:00Z", "2026-12-31t23:59:60z", "failed", "active"}
	for i, o := range z.operations {
		for _, p := range o.Parameters {
			for _, value := range values {
				f.Add(uint8(i), p.Name+"="+value)
			}
			f.Add(uint8(i), "limit=2&"+p.Name+"=1&"+p.Name+"=")
		}
		f.Add(uint8(i), "")
		f.Add(uint8(i), "surprise")
	}
	f.Fuzz(func(t *testing.T, which uint8, query string) { z.try(t, which, query, "") })
}

func FuzzCursors(f *testing.F) {
	z := newFuzzer(f, func(o operation) bool { return o.takes("cursor") })
	cursors := []string{"", "x", "====", strings.Repeat("a", 5000), "\x00", "\xff", base64.RawURLEncoding.EncodeToString([]byte("wh_1"))}
	for _, o := range z.operations {
		var answered struct {
			Next string `json:"next_cursor"`
		}
		require.NoError(f, json.Unmarshal(z.send(f.Context(), o, "limit=2", "").Body.Bytes(), &answered))
		require.NotEmpty(f, answered.Next)
		cursors = append(cursors, answered.Next, answered.Next+"A", answered.Next[1:])
	}
	for i := range z.operations {
		for _, cursor := range cursors {
			f.Add(uint8(i), cursor)
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, cursor string) { z.try(t, which, "cursor="+url.QueryEscape(cursor), "") })
}

// FuzzBodies sends bodies to every route that takes one, POST and PATCH.
func FuzzBodies(f *testing.F) {
	z := newFuzzer(f, hasBody)
	for i, o := range z.operations {
		body := good(f, o)
		f.Add(uint8(i), body)
		for _, odd := range []string{"", "{}", "[]", "null", `{"":1}`, body + body, strings.Repeat("[", 10_001), "\xff", body[:len(body)-1]} {
			f.Add(uint8(i), odd)
		}
		for name, field := range z.document.resolve(o.body()).Properties {
			for _, p := range z.document.probes(field) {
				f.Add(uint8(i), with(f, body, name, p.json))
			}
			f.Add(uint8(i), strings.TrimSuffix(body, "}")+`,"`+name+`":1,"`+name+`":{}}`)
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, body string) { z.try(t, which, "", body) })
}
