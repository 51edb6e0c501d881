package client_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider/client"
)

// newWebhook creates a webhook for every event.
func newWebhook(t *testing.T, c *client.Client, name string) client.Webhook {
	t.Helper()
	w, err := c.CreateWebhook(t.Context(), client.CreateWebhook{
		URL: "https://example.com/hook?a=1&b=<2>", Events: []string{"*"}, Name: &name, MaxRetries: new(0),
	})
	require.NoError(t, err)
	return w
}

func TestAWebhooksLife(t *testing.T) {
	t.Parallel()
	c := newAPI(t)
	w := newWebhook(t, c, "first")
	require.Equal(t, "https://example.com/hook?a=1&b=<2>", w.URL)
	require.Equal(t, "first", *w.Name)
	require.Equal(t, 0, w.DeliverySettings.MaxRetries, "a zero that was given is not left out")
	require.Equal(t, "active", w.Status)

	changed, err := c.UpdateWebhook(t.Context(), w.ID, client.UpdateWebhook{Name: client.Null[string](), RateLimit: client.Set(7)})
	require.NoError(t, err)
	require.Nil(t, changed.Name)
	require.Equal(t, 7, *changed.RateLimit)
	require.Equal(t, w.Events, changed.Events, "what is not given stays")

	paused, err := c.PauseWebhook(t.Context(), w.ID)
	require.NoError(t, err)
	require.Equal(t, "paused", paused.Status)
	secret, err := c.GetWebhookSecret(t.Context(), w.ID)
	require.NoError(t, err)
	require.NotEmpty(t, secret.Secret)

	require.NoError(t, c.DeleteWebhook(t.Context(), w.ID))
	_, err = c.GetWebhook(t.Context(), w.ID)
	var p *client.Problem
	require.ErrorAs(t, err, &p)
	require.Equal(t, http.StatusNotFound, p.Status)
}

func TestListsAreReadToTheirEnd(t *testing.T) {
	t.Parallel()
	requests := 0
	c := newAPI(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				requests++
			}
			next.ServeHTTP(w, r)
		})
	})
	for i := range 5 {
		newWebhook(t, c, strconv.Itoa(i))
	}
	var names []string
	for w, err := range c.ListWebhooks(t.Context(), client.ListWebhooksParams{Limit: 2}) {
		require.NoError(t, err)
		names = append(names, *w.Name)
	}
	require.Equal(t, []string{"4", "3", "2", "1", "0"}, names)
	require.Equal(t, 3, requests)

	for _, err := range c.ListWebhooks(t.Context(), client.ListWebhooksParams{Limit: 2}) {
		require.NoError(t, err)
		break
	}
	require.Equal(t, 4, requests, "a loop that ends reads no more")

	page, err := c.ListWebhooksPage(t.Context(), client.ListWebhooksParams{Limit: 4})
	require.NoError(t, err)
	rest := []string{}
	for w, err := range c.ListWebhooks(t.Context(), client.ListWebhooksParams{Cursor: *page.NextCursor}) {
		require.NoError(t, err)
		rest = append(rest, *w.Name)
	}
	require.Equal(t, []string{"0"}, rest, "an iterator goes on from a cursor")
}

func TestAListsErrorEndsIt(t *testing.T) {
	t.Parallel()
	c := newAPI(t)
	var errs []error
	for _, err := range c.ListDeliveries(t.Context(), client.ListDeliveriesParams{State: []string{"failed", "lost"}}) {
		errs = append(errs, err)
	}
	require.Len(t, errs, 1)
	p, is := errors.AsType[*client.Problem](errs[0])
	require.True(t, is)
	require.Equal(t, http.StatusUnprocessableEntity, p.Status)
	require.Contains(t, p.Errors[0].Location, "query.state")
}

func TestNumbersStayAsTheyAre(t *testing.T) {
	t.Parallel()
	c := newAPI(t)
	const data = `{"id":12345678901234567890123,"price":0.10,"html":"<a>&"}`
	receipt, err := c.PublishEvent(t.Context(), client.PublishEvent{Type: "order.paid", Data: json.RawMessage(data)})
	require.NoError(t, err)
	event, err := c.GetEvent(t.Context(), receipt.ID)
	require.NoError(t, err)
	require.Equal(t, data, string(event.Data))
}

func TestAProblemTellsWhatIsWrong(t *testing.T) {
	t.Parallel()
	c := newAPI(t)
	_, err := c.CreateWebhook(t.Context(), client.CreateWebhook{URL: "https://example.com", Events: []string{"*"}, TimeoutMs: new(1)})
	var p *client.Problem
	require.ErrorAs(t, err, &p)
	require.Equal(t, http.StatusUnprocessableEntity, p.Status)
	require.Len(t, p.Errors, 1)
	require.Equal(t, "body.timeout_ms", p.Errors[0].Location)
	require.Equal(t, "1", string(p.Errors[0].Value))
	require.NotEmpty(t, p.RequestID)
	require.ErrorContains(t, err, "422")
	require.ErrorContains(t, err, "body.timeout_ms: "+p.Errors[0].Message)
}

// TestProblemHasTheDocumentsFields guards the one type of the document that is written by hand.
func TestProblemHasTheDocumentsFields(t *testing.T) {
	t.Parallel()
	c := newAPI(t)
	text, err := c.Openapi(t.Context())
	require.NoError(t, err)
	var document struct {
		Components struct {
			Schemas map[string]struct{ Properties map[string]any }
		}
	}
	require.NoError(t, json.Unmarshal(text, &document))
	for name, value := range map[string]any{"Problem": client.Problem{}, "ProblemDetail": client.ProblemDetail{}} {
		written, err := json.Marshal(value)
		require.NoError(t, err)
		var fields map[string]any
		require.NoError(t, json.Unmarshal(written, &fields))
		require.NotEmpty(t, fields)
		for field := range document.Components.Schemas[name].Properties {
			require.Contains(t, fields, field, name)
		}
	}
}

func TestActionsAndDeliveries(t *testing.T) {
	t.Parallel()
	c := newAPI(t)
	w := newWebhook(t, c, "w")
	begun := time.Now().Add(-time.Minute)
	receipts, err := c.PublishEvents(t.Context(), client.PublishBatch{Events: []client.PublishEvent{
		{Type: "a.one", Data: 1}, {Type: "a.two", Data: nil, DeliverAt: new(time.Now().Add(time.Hour))},
	}})
	require.NoError(t, err)
	require.Len(t, receipts.Data, 2)

	var ids []string
	for d, err := range c.ListWebhookDeliveries(t.Context(), w.ID, client.ListWebhookDeliveriesParams{Since: begun}) {
		require.NoError(t, err)
		ids = append(ids, d.ID)
	}
	require.Len(t, ids, 2)
	paused, err := c.PauseDelivery(t.Context(), ids[0])
	require.NoError(t, err)
	require.Equal(t, "parked", paused.State)
	done, err := c.ActOnDeliveries(t.Context(), client.ActOnDeliveries{Action: "cancel", IDs: ids})
	require.NoError(t, err)
	require.Len(t, done.Data, 2)
	history, err := c.GetDeliveryHistory(t.Context(), ids[0])
	require.NoError(t, err)
	require.Equal(t, "cancelled", history.State)
	require.True(t, slices.ContainsFunc(history.Actions, func(a client.Action) bool { return a.Action == "pause" }))

	tested, err := c.TestExpression(t.Context(), client.TestExpression{
		Filter: new("event.data.n > 1"), Event: client.PublishEvent{Type: "a.b", Data: map[string]int{"n": 2}},
	})
	require.NoError(t, err)
	require.True(t, *tested.Matches)
}
