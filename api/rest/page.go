package rest

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

// Page returns the page that was asked for, of a list whose ids have the prefix.
func (q PageQuery) Page(prefix string) (postrider.Page, error) {
	page := postrider.Page{Limit: q.Limit}
	if q.Cursor == "" {
		return page, nil
	}
	id, err := base64.RawURLEncoding.DecodeString(q.Cursor)
	if err == nil {
		_, err = postrider.IDTime(string(id))
	}
	if err != nil || !strings.HasPrefix(string(id), prefix+"_") {
		return page, BrokenField("query.cursor", "must be the next_cursor of a page of this list", q.Cursor)
	}
	page.After = string(id)
	return page, nil
}

// List is a page of a list, newest first.
type List[T any] struct {
	Data       []T     `json:"data" nullable:"false"`
	NextCursor *string `json:"next_cursor" doc:"What to send as cursor for the next page; null on the last, and on that alone."`
}

// ListOf returns the answer that shows a page of stored items.
func ListOf[Stored, Shown any](stored postrider.List[Stored], show func(Stored) Shown) *Output[List[Shown]] {
	shown := List[Shown]{Data: make([]Shown, len(stored.Items))}
	for i, item := range stored.Items {
		shown.Data[i] = show(item)
	}
	if stored.Next != "" {
		cursor := base64.RawURLEncoding.EncodeToString([]byte(stored.Next))
		shown.NextCursor = &cursor
	}
	return &Output[List[Shown]]{Body: shown}
}

// PeriodQuery are the query parameters that narrow a list to a time.
type PeriodQuery struct {
	Since string `query:"since" format:"rfc3339" doc:"Only what was accepted at or after this time (RFC 3339)." example:"2026-08-01T00:00:00Z"`
	Until string `query:"until" format:"rfc3339" doc:"Only what was accepted before this time (RFC 3339)." example:"2026-08-02T00:00:00Z"`
}

// Period returns the two times, zero if they were not given.
func (q PeriodQuery) Period() (since, until time.Time, err error) {
	if since, err = ParseTime("query.since", q.Since); err == nil {
		until, err = ParseTime("query.until", q.Until)
	}
	return since, until, err
}
