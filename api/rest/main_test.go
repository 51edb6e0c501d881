package rest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"postrider.dev/postrider"
	"postrider.dev/postrider/api/rest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// part is an object inside a note.
type part struct {
	Name string `json:"name" minLength:"1"`
	Size int    `json:"size,omitempty" minimum:"0"`
}

// note is the resource of the API that these tests talk to. It has a field of every kind.
type note struct {
	Title  string            `json:"title" minLength:"1" maxLength:"8"`
	Rank   int               `json:"rank,omitempty" minimum:"1" maximum:"9" default:"5"`
	Mood   *string           `json:"mood,omitempty" nullable:"true" enum:"good,bad"`
	Link   string            `json:"link,omitempty" format:"uri"`
	At     *string           `json:"at,omitempty" nullable:"true" format:"date-time"`
	Tags   []string          `json:"tags,omitempty" maxItems:"2" maxLength:"3" nullable:"false"`
	Labels map[string]string `json:"labels,omitempty" maxProperties:"2"`
	First  *part             `json:"first,omitempty"`
	Parts  []part            `json:"parts,omitempty" minItems:"1" maxItems:"2" nullable:"false"`
	Extra  json.RawMessage   `json:"extra,omitempty"`
}

// sent is the answer to a PATCH of a note: how it was decoded.
type sent struct {
	Note note            `json:"note"`
	Has  map[string]bool `json:"has"`
	Null map[string]bool `json:"null"`
}

// NotePath is the path of a route on one note.
type NotePath struct {
	ID string `path:"id"`
}

type noteQuery struct {
	rest.PageQuery
	rest.PeriodQuery
	Mood string `query:"mood" enum:"good,bad"`
}

// notes is the API with what its handlers do.
type notes struct {
	*rest.API
	logs *syncBuffer
	// get is the handler of GET /api/notes/{id}.
	get func(ctx context.Context, id string) (note, error)
	// stored are the items of GET /api/notes.
	stored postrider.List[string]
	// page is the page that the last request for the list asked for.
	page postrider.Page
}

// newNotes returns an API with a route of every kind. The one valid key is "good"; the key
// "poor" lacks every scope.
func newNotes(t *testing.T, change ...func(*rest.Config)) *notes {
	t.Helper()
	n := &notes{logs: new(syncBuffer)}
	n.get = func(_ context.Context, id string) (note, error) { return note{Title: id}, nil }
	config := rest.Config{
		Document:     rest.Document{Title: "Notes", Version: "1", Description: "Notes.\n\n- one `x`\n- two"},
		Authorize:    authorize,
		Now:          func() time.Time { return time.Date(2026, 8, 3, 12, 0, 0, 0, time.UTC) },
		NewRequestID: func() string { return "made" },
		Logger:       slog.New(slog.NewJSONHandler(n.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Sensitive:    func(location string, _ any) bool { return strings.HasPrefix(location, "body.labels") },
	}
	for _, c := range change {
		c(&config)
	}
	n.API = rest.New(config)
	n.route()
	return n
}

func authorize(_ context.Context, secret string, scope postrider.Scope) (postrider.APIKey, error) {
	switch secret {
	case "good":
		return postrider.APIKey{WorkspaceID: "ws_1"}, nil
	case "poor":
		return postrider.APIKey{WorkspaceID: "ws_2"}, &postrider.Error{Code: postrider.CodeForbidden, Message: "needs " + string(scope)}
	case "away":
		return postrider.APIKey{}, &postrider.Error{Code: postrider.CodeUnavailable, Err: errors.New("internals")}
	}
	return postrider.APIKey{}, &postrider.Error{Code: postrider.CodeUnauthorized, Message: "no valid key"}
}

func (n *notes) route() {
	const path, tag = "/api/notes", "Notes"
	echo := func(_ context.Context, _ *struct{}, sent note) (*rest.Output[note], error) {
		return &rest.Output[note]{Body: sent}, nil
	}
	rest.HandleBody(n.API, rest.Route{
		Method: http.MethodPost, Path: path, ID: "create-note", Tag: tag, Scope: postrider.ScopeManage, Status: http.StatusCreated,
	}, rest.JSONBody(n.API, func() note { return note{Rank: 5} }), echo)
	optional := rest.JSONBody[note](n.API, nil)
	optional.Optional, optional.Limit = true, 64
	optional.Schema = rest.SchemaOf[note](n.API)
	rest.HandleBody(n.API, rest.Route{
		Method: http.MethodPost, Path: path + "/optional", ID: "optional-note", Tag: tag, Scope: postrider.ScopeManage,
	}, optional, echo)
	rest.HandleBody(n.API, rest.Route{
		Method: http.MethodPatch, Path: path + "/{id}", ID: "update-note", Tag: tag, Scope: postrider.ScopeManage,
	}, rest.PatchBody[notePatch](n.API), n.patch)
	rest.Handle(n.API, rest.Route{
		Method: http.MethodGet, Path: path + "/{id}", ID: "get-note", Tag: tag, Scope: postrider.ScopeRead, Errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, in *NotePath) (*rest.Output[note], error) {
		found, err := n.get(ctx, in.ID)
		return &rest.Output[note]{Body: found}, err
	})
	rest.Handle(n.API, rest.Route{Method: http.MethodGet, Path: path, ID: "list-notes", Tag: tag, Scope: postrider.ScopeRead}, n.list)
}

// notePatch is a note without the fields that a new one must have.
type notePatch struct {
	Title *string `json:"title,omitempty" minLength:"1"`
	Mood  *string `json:"mood,omitempty" nullable:"true"`
	Rank  int     `json:"rank,omitempty" minimum:"1"`
}

func (n *notes) patch(_ context.Context, _ *NotePath, patch rest.Patch[notePatch]) (*rest.Output[sent], error) {
	mood := "good"
	answer := sent{Note: note{Title: "stored", Rank: 7, Mood: &mood}, Has: map[string]bool{}, Null: map[string]bool{}}
	for _, field := range []string{"title", "mood", "rank"} {
		answer.Has[field], answer.Null[field] = patch.Has(field), patch.IsNull(field)
	}
	err := patch.ApplyTo(&answer.Note)
	return &rest.Output[sent]{Body: answer}, err
}

func (n *notes) list(_ context.Context, in *noteQuery) (*rest.Output[rest.List[string]], error) {
	var err error
	if n.page, err = in.Page("note"); err != nil {
		return nil, err
	}
	if _, _, err = in.Period(); err != nil {
		return nil, err
	}
	return rest.ListOf(n.stored, strings.ToUpper), nil
}

// answer is a response that was read to its end.
type answer struct {
	t      *testing.T
	Status int
	Header http.Header
	Body   string
}

// send sends a request with the valid key; headers are names and values in turn, and an
// empty value leaves a header out.
func (n *notes) send(t *testing.T, method, path string, body io.Reader, headers ...string) answer {
	t.Helper()
	request := httptest.NewRequestWithContext(t.Context(), method, path, body)
	request.Header.Set("X-API-Key", "good")
	if a, is := body.(announced); is {
		request.ContentLength = a.length
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Del(headers[i])
		if headers[i+1] != "" {
			request.Header.Set(headers[i], headers[i+1])
		}
	}
	w := httptest.NewRecorder()
	n.ServeHTTP(w, request)
	return answer{t: t, Status: w.Code, Header: w.Header(), Body: w.Body.String()}
}

func (n *notes) post(t *testing.T, body string, headers ...string) answer {
	t.Helper()
	return n.send(t, http.MethodPost, "/api/notes", strings.NewReader(body), headers...)
}

func (n *notes) fetch(t *testing.T, path string, headers ...string) answer {
	t.Helper()
	return n.send(t, http.MethodGet, path, nil, headers...)
}

// broken is one entry of a problem's errors.
type broken struct {
	Location string `json:"location"`
	Message  string `json:"message"`
	Value    any    `json:"value"`
}

// problem is an RFC 9457 document.
type problem struct {
	Type   string   `json:"type"`
	Title  string   `json:"title"`
	Status int      `json:"status"`
	Detail string   `json:"detail"`
	Errors []broken `json:"errors"`
}

// problem checks that the answer is a problem document with the status.
func (a answer) problem(status int) problem {
	a.t.Helper()
	require.Equal(a.t, status, a.Status, a.Body)
	require.Equal(a.t, "application/problem+json", a.Header.Get("Content-Type"))
	var p problem
	decoder := json.NewDecoder(strings.NewReader(a.Body))
	decoder.DisallowUnknownFields()
	require.NoError(a.t, decoder.Decode(&p))
	require.Equal(a.t, status, p.Status)
	require.Equal(a.t, http.StatusText(status), p.Title)
	require.Equal(a.t, "about:blank", p.Type)
	require.NotEmpty(a.t, p.Detail)
	return p
}

// locations checks that the answer is a 422, and returns where its errors are.
func (a answer) locations() []string {
	a.t.Helper()
	var all []string
	for _, e := range a.problem(http.StatusUnprocessableEntity).Errors {
		require.NotEmpty(a.t, e.Message)
		all = append(all, e.Location)
	}
	return all
}

// object checks the status and returns the body.
func (a answer) object(status int) map[string]any {
	a.t.Helper()
	require.Equal(a.t, status, a.Status, a.Body)
	require.Equal(a.t, "application/json", a.Header.Get("Content-Type"))
	var object map[string]any
	require.NoError(a.t, json.Unmarshal([]byte(a.Body), &object))
	return object
}

// line returns the one log line with the message.
func (n *notes) line(t *testing.T, message string) map[string]any {
	t.Helper()
	var found map[string]any
	for text := range strings.Lines(n.logs.String()) {
		var line map[string]any
		require.NoError(t, json.Unmarshal([]byte(text), &line))
		if line["msg"] == message {
			require.Nil(t, found, "one line")
			found = line
		}
	}
	require.NotNil(t, found, message)
	return found
}

// syncBuffer is a buffer that handlers may write to while a test reads.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
