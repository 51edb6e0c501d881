package rest_test

import (
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"postrider.dev/postrider"
	"postrider.dev/postrider/api/rest"
)

func TestListsAreShownItemByItem(t *testing.T) {
	t.Parallel()
	n := newNotes(t)
	require.Equal(t, map[string]any{"data": []any{}, "next_cursor": nil}, n.fetch(t, "/api/notes").object(http.StatusOK))
	n.stored = postrider.List[string]{Items: []string{"b", "a"}}
	require.Equal(t, map[string]any{"data": []any{"B", "A"}, "next_cursor": nil}, n.fetch(t, "/api/notes").object(http.StatusOK))
}

// Guards paging: a list goes on after the item at which the page before it ended.
func TestNextCursorLeadsToTheNextPage(t *testing.T) {
	t.Parallel()
	n := newNotes(t)
	ids := postrider.NewIDs(time.Now, rand.Reader)
	n.stored = postrider.List[string]{Items: []string{"a"}, Next: ids.New("note")}
	cursor := n.fetch(t, "/api/notes?limit=7").object(http.StatusOK)["next_cursor"].(string)
	require.Equal(t, postrider.Page{Limit: 7}, n.page)
	require.Equal(t, cursor, url.QueryEscape(cursor), "it needs no escaping")
	n.fetch(t, "/api/notes?cursor="+cursor).object(http.StatusOK)
	require.Equal(t, postrider.Page{Limit: postrider.DefaultPageSize, After: n.stored.Next}, n.page)
}

func TestPageSizes(t *testing.T) {
	t.Parallel()
	n := newNotes(t)
	for query, limit := range map[string]int{"": postrider.DefaultPageSize, "?limit=1": 1, "?limit=200": postrider.MaxPageSize} {
		n.fetch(t, "/api/notes"+query).object(http.StatusOK)
		require.Equal(t, limit, n.page.Limit, query)
	}
	for _, limit := range []string{"0", "-1", "201", "1.5", "all"} {
		require.Equal(t, []string{"query.limit"}, n.fetch(t, "/api/notes?limit="+limit).locations(), limit)
	}
}

func TestCursorsOfOtherListsAreRefused(t *testing.T) {
	t.Parallel()
	ids := postrider.NewIDs(time.Now, rand.Reader)
	encode := func(id string) string { return base64.RawURLEncoding.EncodeToString([]byte(id)) }
	good := encode(ids.New("note"))
	_, err := rest.PageQuery{Cursor: good}.Page("note")
	require.NoError(t, err)
	for name, cursor := range map[string]string{
		"another list's":     encode(ids.New("evt")),
		"a longer prefix":    encode(ids.New("notes")),
		"no id":              encode("note_1"),
		"no prefix":          encode("019a8f3c5b7e7c3a9d2e4f6081a2b3c4"),
		"the id itself":      ids.New("note"),
		"padded":             good + "=",
		"another alphabet":   "+/" + good,
		"more after the end": good + good,
	} {
		require.Equal(t, []string{"query.cursor"}, newNotes(t).fetch(t, "/api/notes?cursor="+url.QueryEscape(cursor)).locations(), name)
	}
}

// Guards the database: no text that a caller sends as a cursor reaches it, but ids.
func TestOnlyIDsComeOutOfCursors(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.StringMatching(`note_[0-9a-f]{30,34}`)).Draw(t, "text")
		page, err := rest.PageQuery{Cursor: base64.RawURLEncoding.EncodeToString([]byte(text))}.Page("note")
		if err == nil && page.After != "" {
			require.Regexp(t, `^note_[0-9a-f]{32}$`, page.After)
			require.Equal(t, text, page.After)
		}
	})
}
