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

func TestTimesAreKeptInUTCAndMicroseconds(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"2026-08-03T12:00:00Z":                "2026-08-03T12:00:00Z",
		"2026-08-03T14:00:00+02:00":           "2026-08-03T12:00:00Z",
		"2026-08-03T12:00:00.1234567Z":        "2026-08-03T12:00:00.123456Z",
		"0001-01-01T00:00:00Z":                "0001-01-01T00:00:00Z",
		"9999-12-31T23:59:59.999999999Z":      "9999-12-31T23:59:59.999999Z",
		"9999-12-31T23:59:59.999999999+14:00": "9999-12-31T09:59:59.999999Z",
	} {
		got, err := rest.ParseTime("query.since", text)
		require.NoError(t, err, text)
		require.Equal(t, want, got.Format(time.RFC3339Nano), text)
	}
	got, err := rest.ParseTime("query.since", "")
	require.NoError(t, err)
	require.Zero(t, got)
}

func TestTimesThatCannotBeKeptAreRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"today", "2026-08-03", "2026-08-03 12:00:00Z", "2026-08-03T12:00:00", "2026-02-30T12:00:00Z", "1754222400", " ",
		"0000-12-31T23:59:59Z", "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-00:01", "10000-01-01T00:00:00Z",
	} {
		_, err := rest.ParseTime("body.at", text)
		got := failing(t, err).problem(http.StatusUnprocessableEntity)
		require.Equal(t, "body.at", got.Errors[0].Location, text)
	}
}

func TestPeriodNamesTheTimeThatIsWrong(t *testing.T) {
	t.Parallel()
	n := newNotes(t)
	const good = "2026-08-03T12:00:00Z"
	n.fetch(t, "/api/notes?since="+good+"&until="+good).object(http.StatusOK)
	for query, location := range map[string]string{
		"?since=9999-12-31T23:59:59-01:00&until=" + good: "query.since",
		"?since=" + good + "&until=0000-01-01T00:00:00Z": "query.until",
	} {
		require.Equal(t, []string{location}, n.fetch(t, "/api/notes"+query).locations(), query)
	}
}
