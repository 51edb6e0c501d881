package rest_test

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider/api/rest"
)

func TestFieldsThatAreNotSentKeepTheirDefaults(t *testing.T) {
	t.Parallel()
	n := newNotes(t)
	require.InDelta(t, 5, n.post(t, `{"title":"a"}`).object(http.StatusCreated)["rank"], 0)
	require.InDelta(t, 6, n.post(t, `{"title":"a","rank":6}`).object(http.StatusCreated)["rank"], 0)
}

// Guards against defaults that one request changes for the next.
func TestDefaultsAreFreshForEachBody(t *testing.T) {
	t.Parallel()
	n := newNotes(t)
	body := rest.JSONBody(n.API, func() note { return note{Labels: map[string]string{"a": "1"}} })
	first, err := body.Decode([]byte(`{"title":"a","labels":{"b":"2"}}`))
	require.NoError(t, err)
	require.Len(t, first.Labels, 2, "decoded over the default")
	second, err := body.Decode([]byte(`{"title":"a"}`))
	require.NoError(t, err)
	require.Equal(t, map[string]string{"a": "1"}, second.Labels)
}

func TestPatchSaysWhichFieldsWereSent(t *testing.T) {
	t.Parallel()
	n := newNotes(t)
	for _, c := range []struct {
		body      string
		has, null []string
		title     string
		mood      any
		rank      float64
	}{
		{`{}`, nil, nil, "stored", "good", 7},
		{`{"mood":null}`, []string{"mood"}, []string{"mood"}, "stored", nil, 7},
		{`{"title":"new", "rank": 8}`, []string{"title", "rank"}, nil, "new", "good", 8},
		{`{"mood": "bad"}`, []string{"mood"}, nil, "stored", "bad", 7},
	} {
		got := n.send(t, http.MethodPatch, "/api/notes/1", strings.NewReader(c.body)).object(http.StatusOK)
		for _, field := range []string{"title", "mood", "rank"} {
			require.Equal(t, slices.Contains(c.has, field), got["has"].(map[string]any)[field], "%s has %s", c.body, field)
			require.Equal(t, slices.Contains(c.null, field), got["null"].(map[string]any)[field], "%s is null %s", c.body, field)
		}
		changed := got["note"].(map[string]any)
		require.Equal(t, c.title, changed["title"], c.body)
		require.Equal(t, c.mood, changed["mood"], c.body)
		require.InDelta(t, c.rank, changed["rank"], 0, c.body)
	}
	require.Equal(t, []string{"body.rank"}, n.send(t, http.MethodPatch, "/api/notes/1", strings.NewReader(`{"rank":1e0}`)).locations())
	require.Equal(t, []string{"body.size"}, n.send(t, http.MethodPatch, "/api/notes/1", strings.NewReader(`{"size":1}`)).locations())
}

func TestPatchHasTheValuesThatWereSent(t *testing.T) {
	t.Parallel()
	patch, err := rest.PatchBody[notePatch](newNotes(t).API).Decode([]byte(`{"title":"new","mood":null}`))
	require.NoError(t, err)
	require.Equal(t, "new", *patch.Values.Title)
	require.Nil(t, patch.Values.Mood)
	require.Zero(t, patch.Values.Rank)
}

func TestOptionalBodyMayBeLeftOut(t *testing.T) {
	t.Parallel()
	n := newNotes(t)
	const path = "/api/notes/optional"
	// An empty body is read as {}, which has to keep to the schema like any other.
	for _, body := range []string{"", " \n\t"} {
		require.Equal(t, []string{"body.title"}, n.send(t, http.MethodPost, path, strings.NewReader(body)).locations())
	}
	require.Equal(t, "a", n.send(t, http.MethodPost, path, strings.NewReader(`{"title":"a"}`)).object(http.StatusOK)["title"])
	n.send(t, http.MethodPost, path, strings.NewReader(`{`)).problem(http.StatusBadRequest)
}

func TestBodiesThatAreNoJSON(t *testing.T) {
	t.Parallel()
	n := newNotes(t)
	for name, c := range map[string]struct{ body, detail string }{
		"nothing":       {"", "a JSON body is required"},
		"white space":   {" \r\n", "a JSON body is required"},
		"cut off":       {`{"title":"a"`, "byte 12"},
		"two documents": {`{"title":"a"}{}`, "byte 14"},
		"bad escape":    {`{"title":"\q"}`, "byte 12"},
		"not UTF-8":     {"{\"title\":\"\xff\"}", "not valid UTF-8"},
		"NaN":           {`{"rank":NaN}`, "byte 9"},
	} {
		require.Contains(t, n.post(t, c.body).problem(http.StatusBadRequest).Detail, c.detail, name)
	}
}

func TestBodyLimitIsExact(t *testing.T) {
	t.Parallel()
	n := newNotes(t)
	const path, limit = "/api/notes/optional", 64
	body := func(size int) string { return strings.Repeat(" ", size-len(`{"title":"a"}`)) + `{"title":"a"}` }
	for name, send := range map[string]func(body string) answer{
		"announced": func(body string) answer { return n.send(t, http.MethodPost, path, strings.NewReader(body)) },
		"chunked": func(body string) answer { // hides its length
			return n.send(t, http.MethodPost, path, struct{ io.Reader }{strings.NewReader(body)})
		},
	} {
		require.Equal(t, http.StatusOK, send(body(limit)).Status, name)
		require.Contains(t, send(body(limit+1)).problem(http.StatusRequestEntityTooLarge).Detail, "the body", name)
	}
}

func TestBodyThatBreaksOff(t *testing.T) {
	t.Parallel()
	n := newNotes(t)
	cut := iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader(`{"title":"a"}`)))
	p := n.send(t, http.MethodPost, "/api/notes", cut).problem(http.StatusBadRequest)
	require.Contains(t, p.Detail, "broke off")
}

func TestContentTypeIsCheckedBeforeTheBody(t *testing.T) {
	t.Parallel()
	n := newNotes(t)
	for header, status := range map[string]int{
		"":                                  http.StatusBadRequest,
		"application/json":                  http.StatusBadRequest,
		"application/json; charset=utf-8":   http.StatusBadRequest,
		"APPLICATION/vnd.notes+JSON":        http.StatusBadRequest,
		"text/plain":                        http.StatusUnsupportedMediaType,
		"text/vnd.notes+json":               http.StatusUnsupportedMediaType,
		"application/x-www-form-urlencoded": http.StatusUnsupportedMediaType,
		"application/json; charset":         http.StatusUnsupportedMediaType,
	} {
		n.post(t, `{`, "Content-Type", header).problem(status)
	}
	form := n.post(t, `{`, "Content-Type", "application/x-www-form-urlencoded").problem(http.StatusUnsupportedMediaType)
	require.Contains(t, form.Detail, "curl -d")
}

// Guards against messages that name Go's structs: a client knows the JSON alone.
func TestIntegersMustBeWholeNumbers(t *testing.T) {
	t.Parallel()
	type Inner struct {
		Size int `json:"size"`
	}
	type outer struct {
		Inner
		First Inner `json:"first"`
	}
	for body, location := range map[string]string{
		`{"size":1e2}`:            "body.size",
		`{"size":1.0}`:            "body.size",
		`{"first":{"size":10.0}}`: "body.first.size",
	} {
		err := rest.Decode([]byte(body), new(outer), "body")
		require.Equal(t, []string{location}, failing(t, err).locations(), body)
	}
	require.Contains(t, failing(t, rest.Decode([]byte(`{"size":1e2}`), new(outer), "body")).Body, "must be an integer")
	require.Contains(t, failing(t, rest.Decode([]byte(`{"first":7}`), new(outer), "body")).Body, "must be an object")
	require.NoError(t, rest.Decode([]byte(`{"size":100}`), new(outer), "body"))
	require.Error(t, rest.Decode([]byte(`{`), new(outer), "body"))
}
