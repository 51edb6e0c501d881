package rest_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/api/rest"
)

// failing returns the answer of a route whose handler returns err.
func failing(t *testing.T, err error) answer {
	t.Helper()
	n := newNotes(t)
	n.get = func(context.Context, string) (note, error) { return note{}, err }
	return n.fetch(t, "/api/notes/1")
}

func TestEveryCodeHasItsStatus(t *testing.T) {
	t.Parallel()
	for code, want := range map[postrider.Code]struct {
		status         int
		header, detail string
	}{
		postrider.CodeInvalid:      {http.StatusUnprocessableEntity, "", "text"},
		postrider.CodeUnauthorized: {http.StatusUnauthorized, "WWW-Authenticate", "text"},
		postrider.CodeForbidden:    {http.StatusForbidden, "", "text"},
		postrider.CodeNotFound:     {http.StatusNotFound, "", "text"},
		postrider.CodeConflict:     {http.StatusConflict, "", "text"},
		postrider.CodeUnavailable:  {http.StatusServiceUnavailable, "Retry-After", "away"},
		"a later code":             {http.StatusServiceUnavailable, "Retry-After", "away"},
	} {
		err := &postrider.Error{Code: code, Message: "text", Err: errors.New("internals")}
		for how, err := range map[string]error{"plain": err, "wrapped": fmt.Errorf("internals: %w", err)} {
			got := failing(t, err)
			require.Contains(t, got.problem(want.status).Detail, want.detail, "%s %s", how, code)
			require.NotContains(t, got.Body, "internals", "%s %s", how, code)
			if want.header != "" {
				require.NotEmpty(t, got.Header.Get(want.header), "%s %s", how, code)
			}
		}
	}
}

func TestOtherErrorsShowNothing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err    error
		status int
	}{
		{errors.New("internals"), http.StatusInternalServerError},
		{fmt.Errorf("internals: %w", context.Canceled), http.StatusServiceUnavailable},
		{fmt.Errorf("internals: %w", context.DeadlineExceeded), http.StatusServiceUnavailable},
	} {
		got := failing(t, c.err)
		got.problem(c.status)
		require.NotContains(t, got.Body, "internals")
	}
}

func TestBrokenFieldsOfTheDomainAreInTheBody(t *testing.T) {
	t.Parallel()
	err := postrider.Invalid([]postrider.FieldError{
		{Field: "rank", Message: "must be odd", Value: 4},
		{Field: "parts[1].name", Message: "is taken", Value: "a"},
	})
	require.Equal(t, []broken{
		{Location: "body.rank", Message: "must be odd", Value: 4.0},
		{Location: "body.parts[1].name", Message: "is taken", Value: "a"},
	}, failing(t, err).problem(http.StatusUnprocessableEntity).Errors)
}

func TestErrorsRepeatOnlyShortAndHarmlessValues(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", 200)
	for name, c := range map[string]struct {
		location    string
		value, want any
	}{
		"a text":           {"body.title", "a", "a"},
		"a number":         {"body.rank", 7, 7.0},
		"nothing":          {"body.title", nil, nil},
		"a long text":      {"body.title", long, strings.Repeat("é", 128) + "…"},
		"a cut character":  {"body.title", "x" + long, "x" + strings.Repeat("é", 127) + "…"},
		"not UTF-8":        {"body.title", "a\xff", nil},
		"an array":         {"body.tags", []any{"a"}, nil},
		"texts":            {"body.tags", []string{"a"}, nil},
		"an object":        {"body.first", map[string]any{"a": 1}, nil},
		"a sensitive one":  {"body.labels.a", "hunter2", nil},
		"all of sensitive": {"body.labels", "hunter2", nil},
	} {
		got := failing(t, rest.BrokenField(c.location, "is odd", c.value)).problem(http.StatusUnprocessableEntity)
		require.Equal(t, []broken{{Location: c.location, Message: "is odd", Value: c.want}}, got.Errors, name)
	}
}

// Guards against a password in the part of a long value that is cut off: what decides
// about repeating a value has to see all of it.
func TestSensitiveSeesTheWholeValue(t *testing.T) {
	t.Parallel()
	n := newNotes(t, func(c *rest.Config) {
		c.Sensitive = func(_ string, value any) bool { text, ok := value.(string); return ok && strings.Contains(text, "@") }
	})
	address := "https://user:" + strings.Repeat("p", 300) + "@host"
	n.get = func(context.Context, string) (note, error) {
		return note{}, rest.BrokenField("body.link", "is odd", address)
	}
	require.Nil(t, n.fetch(t, "/api/notes/1").problem(http.StatusUnprocessableEntity).Errors[0].Value)
}

func TestWithinPutsTheLocationBefore(t *testing.T) {
	t.Parallel()
	inner := rest.BrokenField("name", "is odd", nil)
	require.Equal(t, []string{"body.parts[3].name"}, failing(t, rest.Within("body.parts[3]", inner)).locations())
	other := errors.New("other")
	require.Equal(t, other, rest.Within("body", other))
	require.NoError(t, rest.Within("body", nil))
}

func TestTooLargeSaysWhatAndHowMuch(t *testing.T) {
	t.Parallel()
	p := failing(t, rest.TooLarge("body.parts[3]", 256<<10)).problem(http.StatusRequestEntityTooLarge)
	require.Equal(t, "body.parts[3] is over 256 KiB", p.Detail)
}

func TestParametersThatHumaRefusesLookLikeAllOthers(t *testing.T) {
	t.Parallel()
	n := newNotes(t)
	for query, location := range map[string]string{
		"?limit=0":                              "query.limit",
		"?limit=x":                              "query.limit",
		"?mood=" + strings.Repeat("o", 300):     "query.mood",
		"?mod=good":                             "query.mod",
		"?mood=good&mood=good":                  "query.mood",
		"?mood=good%":                           "query",
		"?mood=good;limit=1":                    "query",
		"?since=" + strings.Repeat("2026", 100): "query.since",
	} {
		p := n.fetch(t, "/api/notes"+query).problem(http.StatusUnprocessableEntity)
		require.Equal(t, location, p.Errors[0].Location, query)
		if text, ok := p.Errors[0].Value.(string); ok {
			require.LessOrEqual(t, len(text), 260, query)
		}
	}
}
