package api

import (
	"encoding/base64"
	"strings"
	"time"

	"postrider.dev/postrider"
)

// PageQuery are the query parameters of every list.
type PageQuery struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50" doc:"How many items at most."`
	Cursor string `query:"cursor" doc:"Where to go on: next_cursor of the page before."`
}

// page returns the page asked for, of a list whose ids have the prefix.
func (q PageQuery) page(prefix string) (postrider.Page, error) {
	page := postrider.Page{Limit: q.Limit}
	if q.Cursor == "" {
		return page, nil
	}
	id, err := base64.RawURLEncoding.DecodeString(q.Cursor)
	if err == nil {
		_, err = postrider.IDTime(string(id))
	}
	if err != nil || !strings.HasPrefix(string(id), prefix+"_") {
		return page, brokenField("query.cursor", "must be the next_cursor of a page of this list", q.Cursor)
	}
	page.After = string(id)
	return page, nil
}

// list is a page of a list, newest first.
type list[T any] struct {
	Data       []T     `json:"data" nullable:"false"`
	NextCursor *string `json:"next_cursor" doc:"What to send as cursor for the next page; null on the last."`
}

// listOf returns a page of stored items as it is shown.
func listOf[Stored, Shown any](stored postrider.List[Stored], show func(Stored) Shown) *output[list[Shown]] {
	shown := list[Shown]{Data: make([]Shown, len(stored.Items))}
	for i, item := range stored.Items {
		shown.Data[i] = show(item)
	}
	if stored.Next != "" {
		cursor := base64.RawURLEncoding.EncodeToString([]byte(stored.Next))
		shown.NextCursor = &cursor
	}
	return &output[list[Shown]]{Body: shown}
}

// PeriodQuery are the query parameters that narrow a list to a time.
type PeriodQuery struct {
	Since string `query:"since" format:"date-time" doc:"Only what was accepted at or after this time (RFC 3339)." example:"2026-08-01T00:00:00Z"`
	Until string `query:"until" format:"date-time" doc:"Only what was accepted before this time (RFC 3339)." example:"2026-08-02T00:00:00Z"`
}

// period returns the two times, zero where not given.
func (q PeriodQuery) period() (since, until time.Time, err error) {
	if since, err = parseTime("query.since", q.Since); err == nil {
		until, err = parseTime("query.until", q.Until)
	}
	return since, until, err
}

// parseTime returns an RFC 3339 time the way times are kept, and the zero time for
// "". The years end at 9999, as RFC 3339's do: in UTC the edge of it may lie beyond.
func parseTime(location, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	t = postrider.Timestamp(t)
	if err != nil || t.Year() < 1 || t.Year() > 9999 {
		return time.Time{}, brokenField(location, "must be an RFC 3339 time of the years 1 to 9999", text)
	}
	return t, nil
}
