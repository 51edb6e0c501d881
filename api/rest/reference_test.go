package rest_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/api/rest"
)

// referencePage returns the reference page of the notes.
func referencePage(t *testing.T, change ...func(*rest.Config)) answer {
	t.Helper()
	n := newNotes(t, append([]func(*rest.Config){func(c *rest.Config) {
		c.Document.Tags = []*huma.Tag{{Name: "Notes", Description: "What people wrote."}}
	}}, change...)...)
	rest.Handle(n.API, rest.Route{
		Method: http.MethodGet, Path: "/api/odd", ID: "odd", Tag: "Notes", Scope: postrider.ScopeRead,
		Summary: "<script>alert(1)</script>", Description: "One.\n\n- two `three`\n- four",
	}, func(context.Context, *struct{}) (*struct{}, error) { return nil, nil })
	n.HandleReference()
	page := n.fetch(t, "/docs", "X-API-Key", "")
	require.Equal(t, http.StatusOK, page.Status)
	return page
}

func TestReferencePageSaysTheRulesInWords(t *testing.T) {
	t.Parallel()
	page := referencePage(t).Body
	for _, text := range []string{
		"<title>Notes API reference</title>", "What people wrote.",
		"1 to 8 characters", "1 to 9; default 5", "one of good, bad", "string or null", "date-time or null", "<td>uri</td>",
		"string[]", "at most 3 characters", "1 to 2 entries", "any JSON",
		`<a href="#schema-Part">Part[]</a>`, `<a href="#schema-Part">Part</a>`, `id="schema-Part"`,
		"<em>query</em>", "<em>path</em> <em>required</em>", `<a href="#schema-Note">Note</a>`,
		"Service Unavailable", "<b>PATCH</b> /api/notes/{id}",
	} {
		require.Contains(t, page, text)
	}
}

func TestReferencePageShowsDescriptionsAsParagraphsAndLists(t *testing.T) {
	t.Parallel()
	page := referencePage(t).Body
	require.Contains(t, page, "<p>Notes.</p><ul><li>one x</li><li>two</li></ul>")
	require.Contains(t, page, "<p>One.</p><ul><li>two three</li><li>four</li></ul>")
}

func TestReferencePageCannotRunAnything(t *testing.T) {
	t.Parallel()
	page := referencePage(t)
	require.Equal(t,
		"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
		page.Header.Get("Content-Security-Policy"))
	require.NotContains(t, page.Body, "<script")
	require.Contains(t, page.Body, "&lt;script&gt;alert(1)&lt;/script&gt;", "text of the document is escaped")
	require.Equal(t, "text/html; charset=utf-8", page.Header.Get("Content-Type"))
}

// Guards against a page that was rendered before the last route was added.
func TestReferenceHasTheRoutesThatWereAddedAfterIt(t *testing.T) {
	t.Parallel()
	n := newNotes(t, func(c *rest.Config) { c.Document.Tags = []*huma.Tag{{Name: "Notes"}} })
	n.HandleReference()
	rest.Handle(n.API, rest.Route{Method: http.MethodGet, Path: "/api/late", ID: "late", Tag: "Notes", Scope: postrider.ScopeRead},
		func(context.Context, *struct{}) (*struct{}, error) { return nil, nil })
	require.Contains(t, n.fetch(t, "/docs").Body, "/api/late")
	require.Contains(t, n.document(t), "/api/late")
	front := n.fetch(t, "/", "X-API-Key", "")
	require.Equal(t, http.StatusFound, front.Status)
	require.Equal(t, "/docs", front.Header.Get("Location"))
}

func TestDocumentNamesProblemsAsTheRFCDoes(t *testing.T) {
	t.Parallel()
	n := newNotes(t)
	n.HandleReference()
	document := n.fetch(t, "/openapi.json").Body
	require.Contains(t, document, `"#/components/schemas/Problem"`)
	require.Contains(t, document, `"ProblemDetail": {`)
	require.False(t, strings.Contains(document, "ErrorModel") || strings.Contains(document, "ErrorDetail"), "huma's own names")
}
