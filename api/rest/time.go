package rest

import (
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"postrider.dev/postrider"
)

// Go's parser, by which huma checks the format date-time, is not RFC 3339's: it knows no lower-case letters and
// no leap seconds, and accepts hours of one digit, commas and offsets of a day. So times are checked here alone.
// A parameter has the format formatTime, which huma does not know, and the document shows it as formatDateTime.
const (
	formatTime     = "rfc3339"
	formatDateTime = "date-time"
)

const timeRule = "must be an RFC 3339 time of the years 1 to 9999, such as 2026-08-03T12:00:00Z"

// ParseTime returns an RFC 3339 time as [postrider.Timestamp] stores it, and the zero time
// for "". A leap second is the first moment after it. Returns a 422 about the location for anything else.
// Years end at 9999, as RFC 3339's do; a time near the end of that year can lie after it in UTC.
func ParseTime(location, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	t, ok := parseTime(text)
	if !ok {
		return time.Time{}, BrokenField(location, timeRule, text)
	}
	return t, nil
}

// IsTime reports whether [ParseTime] accepts a text that is not "".
func IsTime(text string) bool {
	_, ok := parseTime(text)
	return ok
}

func parseTime(text string) (t time.Time, ok bool) {
	if len(text) < len("2006-01-02T15:04:05Z") {
		return t, false
	}
	upper := strings.ToUpper(text) // T and Z may be small; every other letter is refused
	leap := upper[17:19] == "60"
	if leap {
		upper = upper[:17] + "59" + upper[19:]
	}
	t, err := time.Parse(time.RFC3339, upper)
	if err != nil || !isStrict(upper) {
		return t, false
	}
	if leap {
		t = t.Add(time.Second)
		if after := t.UTC(); after.Truncate(time.Second) != time.Date(after.Year(), after.Month(), 1, 0, 0, 0, 0, time.UTC) {
			return t, false // they end months of UTC
		}
	}
	t = postrider.Timestamp(t)
	return t, t.Year() >= 1 && t.Year() <= 9999
}

// isStrict reports whether a text that Go's parser accepts is as RFC 3339 has it: it has hours of two digits, no
// comma, and an offset below a day.
func isStrict(text string) bool {
	if text[13] != ':' || text[19] == ',' {
		return false
	}
	offset := text[len(text)-len("23:59"):]
	return strings.HasSuffix(text, "Z") || offset[:2] < "24" && offset[3:] < "60"
}

// showTimes names the format of times in the document.
func showTimes(_ *huma.OpenAPI, operation *huma.Operation) {
	for _, p := range operation.Parameters {
		if p.Schema != nil && p.Schema.Format == formatTime {
			shown := *p.Schema // the original is what huma checks
			shown.Format = formatDateTime
			p.Schema = &shown
		}
	}
}
