package rest_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/api/rest"
)

func TestTimesAreKeptInUTCAndMicroseconds(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"2026-08-03T12:00:00Z":                "2026-08-03T12:00:00Z",
		"2026-08-03t12:00:00z":                "2026-08-03T12:00:00Z",
		"2026-08-03T14:00:00+02:00":           "2026-08-03T12:00:00Z",
		"2026-08-03T12:00:00-00:00":           "2026-08-03T12:00:00Z",
		"2026-08-03T12:00:00.1234567Z":        "2026-08-03T12:00:00.123456Z",
		"2026-06-30T23:59:60Z":                "2026-07-01T00:00:00Z",
		"2026-12-31t15:59:60.999999-08:00":    "2027-01-01T00:00:00.999999Z",
		"0001-01-01T00:00:00Z":                "0001-01-01T00:00:00Z",
		"9999-12-31T23:59:59.999999999Z":      "9999-12-31T23:59:59.999999Z",
		"9999-12-31T23:59:59.999999999+14:00": "9999-12-31T09:59:59.999999Z",
	} {
		got, err := rest.ParseTime("query.since", text)
		require.NoError(t, err, text)
		require.Equal(t, want, got.Format(time.RFC3339Nano), text)
		require.True(t, rest.IsTime(text))
	}
	got, err := rest.ParseTime("query.since", "")
	require.NoError(t, err)
	require.Zero(t, got)
	require.False(t, rest.IsTime(""))
}

func TestTimesThatCannotBeKeptAreRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"today", "2026-08-03", "2026-08-03 12:00:00Z", "2026-08-03T12:00:00", "2026-02-30T12:00:00Z", "1754222400", " ",
		"2026-08-03T1:00:00Z", "2026-08-03T12:00:00,5Z", "2026-08-03T12:00:00+24:00", "2026-08-03T12:00:00+02:60",
		"2026-08-03T12:00:60Z", "2026-07-30T23:59:60Z", "2026-06-30T23:59:60+02:00", "2026-06-30T23:59:61Z", "9999-12-31T23:59:60Z",
		"0000-12-31T23:59:59Z", "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-00:01", "10000-01-01T00:00:00Z",
	} {
		_, err := rest.ParseTime("body.at", text)
		got := failing(t, err).problem(http.StatusUnprocessableEntity)
		require.Equal(t, "body.at", got.Errors[0].Location, text)
		require.False(t, rest.IsTime(text), text)
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

// Guards the document: times of queries have their usual format there, though huma does not check them.
func TestDocumentNamesTheFormatOfTimes(t *testing.T) {
	t.Parallel()
	n := newNotes(t)
	n.HandleReference()
	document := n.fetch(t, "/openapi.json").Body
	require.NotContains(t, document, "rfc3339")
	require.GreaterOrEqual(t, strings.Count(document, `"date-time"`), 3)
}

// FuzzTimes compares the parser with RFC 3339's own grammar, and with Go's parser where both accept a text.
func FuzzTimes(f *testing.F) {
	grammar := regexp.MustCompile(`^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])[Tt]([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?` +
		`([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)$`)
	for _, text := range []string{
		"2026-08-03T12:00:00Z", "2026-08-03t12:00:00.5z", "2026-12-31T23:59:60Z", "2026-08-03T12:00:00+02:00", "2024-02-29T00:00:00-00:00",
		"2026-08-03T1:00:00Z", "2026-08-03T12:00:00,5Z", "2026-08-03T12:00:00+24:00", "", "T", "2026-08-03T12:00:60",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := rest.ParseTime("query.since", text)
		if text == "" {
			return
		}
		require.Equal(t, err == nil, rest.IsTime(text))
		if err == nil {
			require.Regexp(t, grammar, text)
		}
		strict := grammar.MatchString(text) && !strings.ContainsAny(text, "tz")
		if byGo, errOfGo := time.Parse(time.RFC3339, text); strict && errOfGo == nil && byGo.UTC().Year() > 0 && byGo.UTC().Year() < 10_000 {
			require.NoError(t, err, text)
			require.Equal(t, postrider.Timestamp(byGo), got)
		}
	})
}
