package api_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

const expressionsPath = "/api/v1/expressions/test"

func TestExpressionsAreTried(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for body, answer := range map[string]string{
		`{"filter":"event.data.amount > 100","event":{"type":"o","data":{"amount":101}}}`:     `{"matches":true}`,
		`{"filter":"event.data.amount > 100","event":{"type":"o","data":{"amount":99}}}`:      `{"matches":false}`,
		`{"filter":"event.persona_id == 'p'","event":{"type":"o","data":1,"persona_id":"p"}}`: `{"matches":true}`,
		`{"filter":"event.data.n > 9","event":{"type":"o","data":{}}}`:                        `{"matches":false,"error":"no such key: n"}`,
		`{"transform":"{'n': event.data.n}","event":{"type":"a","data":{"n": 1.10}}}`:         `{"body":{"n":1.10}}`,
		`{"transform":"event.data.price","event":{"type":"a","data":{}}}`:                     `{"error":"no such key: price"}`,
		`{"transform":"event.id","event":{"type":"a","data":1,"id":"e1"}}`:                    `{"body":"e1"}`,
	} {
		got := b.do(http.MethodPost, expressionsPath, body)
		require.Equal(t, http.StatusOK, got.Status, string(got.Body))
		require.JSONEq(t, answer, string(got.Body), body)
	}
}

func TestExpressionMistakesNameTheirPlace(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for body, location := range map[string]string{
		`{"event":{"type":"a","data":1}}`:                                 "body",
		`{"filter":"true","transform":"1","event":{"type":"a","data":1}}`: "body",
		`{"filter":"event.data >","event":{"type":"a","data":1}}`:         "body.filter",
		`{"filter":"event.typ == 'a'","event":{"type":"a","data":1}}`:     "body.filter",
		`{"filter":"1","event":{"type":"a","data":1}}`:                    "body.filter",
		`{"transform":"foo()","event":{"type":"a","data":1}}`:             "body.transform",
		`{"filter":"true"}`: "body.event",
		`{"filter":"true","event":{"type":"a b","data":1}}`:                       "body.event.type",
		`{"filter":"true","event":{"type":"a","data":1,"timestamp":"yesterday"}}`: "body.event.timestamp",
	} {
		require.Contains(t, b.do(http.MethodPost, expressionsPath, body).locations(), location, body)
	}
}

func TestWebhookFilterAndTransform(t *testing.T) {
	t.Parallel()
	b := setup(t)
	got := b.do(http.MethodGet, webhooksPath+"/"+b.newWebhook(""), "").object(http.StatusOK)
	require.Nil(t, got["filter"])
	require.Nil(t, got["transform"])
	require.Equal(t, "envelope", got["format"])

	id := b.newWebhook(`,"filter":"event.data > 1","transform":"event.data"`)
	patch := func(body string) answer { return b.do(http.MethodPatch, webhooksPath+"/"+id, body) }
	got = patch(`{"name":"n"}`).object(http.StatusOK)
	require.Equal(t, "event.data > 1", got["filter"])
	require.Equal(t, "event.data", got["transform"])
	require.Contains(t, patch(`{"format":"thin"}`).locations(), "body.transform")
	require.Contains(t, patch(`{"filter":"event.data >"}`).locations(), "body.filter")
	require.Contains(t, patch(`{"transform":"event.dat"}`).locations(), "body.transform")
	require.Contains(t, patch(`{"format":"xml"}`).locations(), "body.format")
	got = patch(`{"filter":null,"transform":null,"format":"thin"}`).object(http.StatusOK)
	require.Nil(t, got["filter"])
	require.Nil(t, got["transform"])
	require.Equal(t, "thin", got["format"])

	b.newWebhook(`,"filter":"event.data.amount > 100"`)
	receipt := b.do(http.MethodPost, "/api/v1/events", `{"type":"a","data":{"amount":5}}`).object(http.StatusAccepted)
	require.InDelta(t, 2, receipt["deliveries"], 0, "the filter lets it not through")
}
