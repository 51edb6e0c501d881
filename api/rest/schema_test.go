package rest_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Guards the rules that the OpenAPI document states: every one is checked, and an answer
// names the place of every broken one.
func TestBodiesAreCheckedAgainstTheirSchema(t *testing.T) {
	t.Parallel()
	n := newNotes(t)
	for fields, locations := range map[string][]string{
		``:                                    nil,
		`,"rank":1`:                           nil,
		`,"rank":9`:                           nil,
		`,"rank":0`:                           {"rank"},
		`,"rank":10`:                          {"rank"},
		`,"rank":"5"`:                         {"rank"},
		`,"rank":5.5`:                         {"rank"},
		`,"rank":null`:                        {"rank"},
		`,"rank":1e999`:                       {"rank"},
		`,"mood":"good"`:                      nil,
		`,"mood":null`:                        nil,
		`,"mood":"odd"`:                       {"mood"},
		`,"mood":1`:                           {"mood"},
		`,"link":"https://a.example"`:         nil,
		`,"link":"http://[::1"`:               {"link"},
		`,"at":"2026-08-03T12:00:00Z"`:        nil,
		`,"at":"today"`:                       {"at"},
		`,"at":"2026-08-03t12:00:00z"`:        nil,
		`,"at":"2026-08-03T1:00:00Z"`:         {"at"},
		`,"at":7`:                             {"at"},
		`,"rank":-1e999`:                      {"rank"},
		`,"tags":[1e999]`:                     {"tags[0]"},
		`,"rank":1,"rank":2`:                  {"rank"},
		`,"rank":"a","rank":2`:                {"rank"},
		`,"first":{"name":"a","name":"b"}`:    {"first.name"},
		`,"extra":{"a":1,"a":2}`:              nil,
		`,"at":null`:                          nil,
		`,"tags":[]`:                          nil,
		`,"tags":["a","b"]`:                   nil,
		`,"tags":["a","b","c"]`:               {"tags"},
		`,"tags":["a","long"]`:                {"tags[1]"},
		`,"tags":["a",1]`:                     {"tags[1]"},
		`,"tags":null`:                        {"tags"},
		`,"tags":"a"`:                         {"tags"},
		`,"labels":{"a":"1"}`:                 nil,
		`,"labels":{"a":1}`:                   {"labels.a"},
		`,"labels":{"a":"","b":"","c":""}`:    {"labels"},
		`,"labels":null`:                      {"labels"},
		`,"first":{"name":"a"}`:               nil,
		`,"first":{}`:                         {"first.name"},
		`,"first":{"name":""}`:                {"first.name"},
		`,"first":{"name":"a","x":1}`:         {"first.x"},
		`,"first":null`:                       {"first"},
		`,"first":[]`:                         {"first"},
		`,"parts":[{"name":"a"}]`:             nil,
		`,"parts":[]`:                         {"parts"},
		`,"parts":null`:                       {"parts"},
		`,"parts":{}`:                         {"parts"},
		`,"parts":[{"name":"a"},{"size":-1}]`: {"parts[1].size", "parts[1].name"},
		`,"parts":[null]`:                     {"parts[0]"},
		`,"parts":[{"name":"a"},{"name":"b"},{"name":1}]`: {"parts"},
		`,"extra":[null,{"a":"\u0000"}]`:                  nil,
		`,"extra":null`:                                   nil,
		`,"Rank":1`:                                       {"Rank"},
		`,"rank":0,"mood":1,"x":1`:                        {"mood", "rank", "x"},
	} {
		got := n.post(t, `{"title":"a"`+fields+`}`)
		if locations == nil {
			require.Equal(t, http.StatusCreated, got.Status, "%s: %s", fields, got.Body)
			continue
		}
		want := make([]string, len(locations))
		for i, location := range locations {
			want[i] = "body." + location
		}
		require.Equal(t, want, got.locations(), fields)
	}
}

func TestBodiesMustBeObjects(t *testing.T) {
	t.Parallel()
	n := newNotes(t)
	for _, body := range []string{`null`, `[]`, `"title"`, `1`, `true`} {
		require.Equal(t, []string{"body"}, n.post(t, body).locations(), body)
	}
	require.Equal(t, []string{"body.title"}, n.post(t, `{}`).locations())
}

// Guards the database: PostgreSQL cannot store the character.
func TestNULIsRefusedInEveryText(t *testing.T) {
	t.Parallel()
	n := newNotes(t)
	const nul = `"\u0000"`
	for body, location := range map[string]string{
		`{"title":` + nul + `}`:                        "body.title",
		`{"title":"a","tags":["b",` + nul + `]}`:       "body.tags",
		`{"title":"a","labels":{"b":` + nul + `}}`:     "body.labels",
		`{"title":"a","labels":{` + nul + `:"b"}}`:     "body.labels",
		`{"title":"a","first":{"name":` + nul + `}}`:   "body.first.name",
		`{"title":"a","parts":[{"name":` + nul + `}]}`: "body.parts[0].name",
	} {
		p := n.post(t, body).problem(http.StatusUnprocessableEntity)
		require.Equal(t, location, p.Errors[0].Location, body)
		require.Contains(t, p.Errors[0].Message, "U+0000", body)
	}
}

func TestOneAnswerListsOneHundredBrokenRules(t *testing.T) {
	t.Parallel()
	n := newNotes(t)
	var fields strings.Builder
	for i := range 150 {
		fmt.Fprintf(&fields, `,"field%03d":1`, i)
	}
	locations := n.post(t, `{"title":"a"`+fields.String()+`}`).locations()
	require.Len(t, locations, 100)
	require.Equal(t, "body.field000", locations[0])
}

func TestLongFieldNamesAreCut(t *testing.T) {
	t.Parallel()
	location := newNotes(t).post(t, `{"title":"a","`+strings.Repeat("é", 400)+`":1}`).locations()[0]
	require.LessOrEqual(t, len(location), 260)
	require.True(t, strings.HasSuffix(location, "é…"), location)
}

// Guards against a parser's message, which would repeat a URL and the password in it.
func TestURLsThatCannotBeParsedAreNotRepeated(t *testing.T) {
	t.Parallel()
	got := newNotes(t).post(t, `{"title":"a","link":"https://user:hunter2@[::1"}`)
	message := got.problem(http.StatusUnprocessableEntity).Errors[0].Message
	require.Equal(t, "must be a valid URL and must start with http:// or https://", message)
}
