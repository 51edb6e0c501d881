package rest_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/api/rest"
)

func TestRequestIDsOfCallersAreKeptIfTheyAreHarmless(t *testing.T) {
	t.Parallel()
	n := newNotes(t)
	for given, want := range map[string]string{
		"":                          "made",
		"a":                         "a",
		"Trace-1/2:3.4_5+6=":        "Trace-1/2:3.4_5+6=",
		strings.Repeat("x", 128):    strings.Repeat("x", 128),
		strings.Repeat("x", 129):    "made",
		"a b":                       "made",
		"a\tb":                      "made",
		`{"level":"ERROR"}`:         "made",
		"<script>alert(1)</script>": "made",
		"schlüssel":                 "made",
	} {
		require.Equal(t, want, n.fetch(t, "/api/notes/1", "X-Request-Id", given).Header.Get("X-Request-Id"), given)
	}
	for _, path := range []string{"/nowhere", "/api/notes/1/nothing"} {
		require.Equal(t, "mine", n.fetch(t, path, "X-Request-Id", "mine").Header.Get("X-Request-Id"), path)
	}
}

func TestLogLineOfARequest(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		path, key, level, route, workspace string
		status                             int
		err                                error
		logged                             any
	}{
		"success":         {"/api/notes/secret", "good", "INFO", "/api/notes/{id}", "ws_1", 200, nil, nil},
		"refusal":         {"/api/notes/secret", "good", "INFO", "/api/notes/{id}", "ws_1", 404, postrider.NotFound("note"), nil},
		"no key":          {"/api/notes/secret", "", "INFO", "/api/notes/{id}", "", 401, nil, nil},
		"no scope":        {"/api/notes/secret", "poor", "INFO", "/api/notes/{id}", "ws_2", 403, nil, nil},
		"failure":         {"/api/notes/secret", "good", "ERROR", "/api/notes/{id}", "ws_1", 500, errors.New("why"), "why"},
		"key store away":  {"/api/notes/secret", "away", "ERROR", "/api/notes/{id}", "", 503, nil, ": internals"},
		"caller gone":     {"/api/notes/secret", "good", "INFO", "/api/notes/{id}", "ws_1", 503, context.Canceled, "context canceled"},
		"unknown route":   {"/secret", "good", "DEBUG", "", "", 404, nil, nil},
		"route of people": {"/docs?secret", "", "DEBUG", "/docs", "", 200, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNotes(t)
			n.HandleReference()
			n.get = func(context.Context, string) (note, error) { return note{}, c.err }
			got := n.fetch(t, c.path, "X-API-Key", c.key)
			require.Equal(t, c.status, got.Status, got.Body)
			line := n.line(t, "request")
			require.Equal(t, c.level, line["level"])
			require.Equal(t, "GET", line["method"])
			require.Equal(t, c.route, line["route"])
			require.InDelta(t, c.status, line["status"], 0)
			require.Equal(t, "made", line["request_id"])
			require.Equal(t, c.workspace, line["workspace_id"])
			require.InDelta(t, len(got.Body), line["bytes"], 0)
			require.Equal(t, c.logged, line["error"])
			require.NotContains(t, n.logs.String(), "secret")
		})
	}
}

func TestSummaryOfARequest(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 8, 3, 12, 0, 0, 0, time.UTC)
	var summaries []rest.RequestSummary
	n := newNotes(t, func(c *rest.Config) {
		c.Now = func() time.Time { return now }
		c.OnRequest = func(s rest.RequestSummary) { summaries = append(summaries, s) }
	})
	n.get = func(context.Context, string) (note, error) {
		now = now.Add(1500 * time.Millisecond)
		return note{}, nil
	}
	n.fetch(t, "/api/notes/1")
	n.send(t, http.MethodDelete, "/api/notes", nil)
	require.Equal(t, []rest.RequestSummary{
		{Method: "GET", Route: "/api/notes/{id}", Status: 200, Duration: 1500 * time.Millisecond},
		{Method: "DELETE", Status: 405},
	}, summaries)
	require.Contains(t, n.logs.String(), `"duration_ms":1500`)
}

func TestPanicsBecomeFailuresThatShowNothing(t *testing.T) {
	t.Parallel()
	for _, reason := range []any{"internals", errors.New("internals"), 7} {
		n := newNotes(t)
		n.get = func(context.Context, string) (note, error) { panic(reason) }
		got := n.fetch(t, "/api/notes/1")
		require.NotContains(t, got.problem(http.StatusInternalServerError).Detail, "internals")
		line := n.line(t, "panic")
		require.Contains(t, line["stack"], "request_test.go")
		require.Equal(t, "made", line["request_id"])
		require.Contains(t, n.line(t, "request")["error"], "panic: ")
	}
}

// Guards against a second document after the first bytes of an answer.
func TestPanicAfterTheAnswerBeganAddsNothing(t *testing.T) {
	t.Parallel()
	n := newNotes(t)
	n.HandleHTTP(&huma.Operation{Path: "/partial", OperationID: "partial"}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("part"))
		panic("internals")
	}))
	got := n.fetch(t, "/partial")
	require.Equal(t, "part", got.Body)
	require.Equal(t, http.StatusOK, got.Status)
	require.Equal(t, "internals", n.line(t, "panic")["reason"])
}

func TestAbortingAHandlerReachesTheServer(t *testing.T) {
	t.Parallel()
	n := newNotes(t)
	n.get = func(context.Context, string) (note, error) { panic(http.ErrAbortHandler) }
	require.PanicsWithError(t, http.ErrAbortHandler.Error(), func() { n.fetch(t, "/api/notes/1") })
}

// brokenWriter is a connection that the caller closed.
type brokenWriter struct{ http.ResponseWriter }

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestLogSaysThatAnAnswerCouldNotBeWritten(t *testing.T) {
	t.Parallel()
	n := newNotes(t)
	n.get = func(context.Context, string) (note, error) { return note{}, nil }
	request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/api/notes/1", nil)
	request.Header.Set("X-API-Key", "away")
	n.ServeHTTP(brokenWriter{httptest.NewRecorder()}, request)
	require.Contains(t, n.line(t, "request")["error"], "broken pipe")
}

func TestWorkspaceIsTheCallers(t *testing.T) {
	t.Parallel()
	n := newNotes(t)
	n.get = func(ctx context.Context, _ string) (note, error) { return note{Title: rest.Workspace(ctx)}, nil }
	require.Equal(t, "ws_1", n.fetch(t, "/api/notes/1").object(http.StatusOK)["title"])
	require.Empty(t, rest.Workspace(t.Context()), "a context of no request has no workspace")
}
