package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// These targets send what no client would to every route that takes it. Whatever comes, the answer is no 5xx, and a
// refusal of what was sent says which field it is about. New routes are among them by themselves.

// fuzz sends a request without a network, whose URL and body may have any bytes.
func (w *world) fuzz(ctx context.Context, o operation, query, body string) *httptest.ResponseRecorder {
	request := &http.Request{
		Method: o.Method, URL: &url.URL{Path: w.path(o), RawQuery: query}, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"X-Api-Key": {w.bundle.key}},
	}
	if body != "" {
		request.Body, request.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
	}
	answer := httptest.NewRecorder()
	w.server.Config.Handler.ServeHTTP(answer, request.WithContext(ctx))
	return answer
}

// behaves checks what holds of every answer.
func behaves(t *testing.T, o operation, got *httptest.ResponseRecorder) {
	t.Helper()
	require.Less(t, got.Code, http.StatusInternalServerError, "%s: %s", o.OperationID, got.Body)
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
	if got.Code == http.StatusUnprocessableEntity {
		require.NotEmpty(t, p.Errors, "%s", got.Body)
		for _, e := range p.Errors {
			require.Regexp(t, `^(body|query|header)(\.|\[|$)`, e.Location)
			require.NotEmpty(t, e.Message)
		}
	}
}

// of returns one of the operations.
func of(operations []operation, which uint8) operation { return operations[int(which)%len(operations)] }

// operationsOf returns the operations of a new world that are wanted, and the world.
func operationsOf(f *testing.F, wanted func(operation) bool) (*world, []operation) {
	f.Helper()
	w := newWorld(f)
	operations := slices.DeleteFunc(w.contract().operations(f), func(o operation) bool { return !wanted(o) })
	require.NotEmpty(f, operations)
	require.Less(f, len(operations), 256)
	return w, operations
}

func FuzzQueries(f *testing.F) {
	w, operations := operationsOf(f, func(o operation) bool { return o.Method == http.MethodGet })
	for i, o := range operations {
		for _, p := range o.Parameters {
			for _, value := range []string{
				"1", "", "a.b", "a.*", "*", "%00", "%ff", "%", "x;y", "2026-08-03T12:00:00Z", "2026-12-31t23:59:60z", "failed", "active", "é",
			} {
				f.Add(uint8(i), p.Name+"="+value)
				f.Add(uint8(i), "limit=2&"+p.Name+"="+value+"&"+p.Name+"=")
			}
		}
		f.Add(uint8(i), "")
		f.Add(uint8(i), "surprise")
	}
	f.Fuzz(func(t *testing.T, which uint8, query string) {
		o := of(operations, which)
		behaves(t, o, w.fuzz(t.Context(), o, query, ""))
	})
}

func FuzzCursors(f *testing.F) {
	w, operations := operationsOf(f, func(o operation) bool { return o.takes("cursor") })
	for range 3 {
		w.newWebhook("")
		w.newKey(w.workspace)
		w.newWorkspace()
	}
	w.event = "e2"
	for _, id := range []string{"e2", "e3"} {
		w.do(http.MethodPost, eventsPath, `{"type":"a","data":1,"id":"`+id+`"}`).object(http.StatusAccepted)
	}
	cursors := []string{"", "x", "====", strings.Repeat("a", 5000), "\x00", "\xff"}
	for _, o := range operations {
		_, next := w.do(http.MethodGet, w.path(o)+"?limit=1", "").items()
		cursors = append(cursors, next)
	}
	for i := range operations {
		for _, cursor := range cursors {
			f.Add(uint8(i), cursor)
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, cursor string) {
		o := of(operations, which)
		behaves(t, o, w.fuzz(t.Context(), o, "cursor="+url.QueryEscape(cursor), ""))
	})
}

// Each route has a world to itself: the webhooks that one makes would get the events of another, more and more.
func FuzzBodies(f *testing.F) {
	_, operations := operationsOf(f, hasBody)
	worlds := make([]*world, len(operations))
	for i, o := range operations {
		worlds[i] = newWorld(f)
		body := good(f, o)
		document := worlds[i].contract()
		f.Add(uint8(i), body)
		for _, odd := range []string{"", "{}", "[]", "null", `{"":1}`, body + body, strings.Repeat("[", 10_001), "\xff", body[:len(body)-1]} {
			f.Add(uint8(i), odd)
		}
		for name, field := range document.resolve(o.body()).Properties {
			for _, p := range document.probes(field) {
				f.Add(uint8(i), with(f, body, name, p.json))
			}
			f.Add(uint8(i), strings.TrimSuffix(body, "}")+`,"`+name+`":1,"`+name+`":{}}`)
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, body string) {
		o := of(operations, which)
		behaves(t, o, worlds[int(which)%len(worlds)].fuzz(t.Context(), o, "", body))
	})
}
