package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/api"
)

func TestEventIDsAreAWorkspacesOwn(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.do(http.MethodPost, eventsPath, `{"type":"a","data":1,"id":"theirs"}`).object(http.StatusAccepted)
	stranger := b.as(b.newKey(b.newWorkspace(), postrider.Scopes()...))
	published := stranger.do(http.MethodPost, eventsPath, `{"type":"b","data":2,"id":"theirs"}`).object(http.StatusAccepted)
	require.Equal(t, false, published["duplicate"])
	require.Equal(t, "a", b.do(http.MethodGet, eventsPath+"/theirs", "").text(http.StatusOK, "type"))
}

func TestMalformedBodies(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name, body := range map[string]string{
		"cut off":          `{"type":"a","data":`,
		"trailing garbage": `{"type":"a","data":1} x`,
		"two documents":    `{"type":"a","data":1}{"type":"a","data":1}`,
		"blank":            "  \n",
		"not UTF-8":        "{\"type\":\"a\",\"data\":\"\xff\"}",
		"bad escape":       `{"type":"a","data":"\x"}`,
	} {
		b.do(http.MethodPost, eventsPath, body).problem(http.StatusBadRequest)
		require.NotContains(t, b.logs.String(), "panic", name)
	}
	b.do(http.MethodPost, eventsPath, "").problem(http.StatusBadRequest)
	b.do(http.MethodPatch, webhooksPath+"/"+b.newWebhook(""), "").problem(http.StatusBadRequest)
}

func TestBrokenOffBody(t *testing.T) {
	t.Parallel()
	b := setup(t)
	connection, err := new(net.Dialer).DialContext(t.Context(), "tcp", b.server.Listener.Addr().String())
	require.NoError(t, err)
	defer connection.Close()
	_, err = io.WriteString(connection, "POST /api/v1/events HTTP/1.1\r\nHost: x\r\nX-API-Key: "+b.key+"\r\n"+
		"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\nzz\r\n")
	require.NoError(t, err)
	response, err := http.ReadResponse(bufio.NewReader(connection), nil)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusBadRequest, response.StatusCode)
}

func TestContentTypes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const event = `{"type":"a","data":1}`
	for _, accepted := range []string{
		"application/json", "application/json; charset=utf-8", "Application/JSON", "application/cloudevents+json", "",
	} {
		b.do(http.MethodPost, eventsPath, event, "Content-Type", accepted).object(http.StatusAccepted)
	}
	for _, refused := range []string{
		"text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
		"application/jsonp", "text/json+x", "application/json;;",
	} {
		p := b.do(http.MethodPost, eventsPath, event, "Content-Type", refused).problem(http.StatusUnsupportedMediaType)
		require.Contains(t, p.Detail, "-H 'Content-Type: application/json'")
	}
	// The type of an empty body does not matter.
	id := b.newWebhook("")
	require.Equal(t, http.StatusAccepted, b.do(http.MethodPost, webhooksPath+"/"+id+"/test", "", "Content-Type", "text/plain").Status)
	require.Equal(t, http.StatusOK, b.do(http.MethodPost, webhooksPath+"/"+id+"/secret/rotate", "", "Content-Type", "text/plain").Status)
}

func TestUnknownRoutesAndMethods(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, path := range []string{"/api", "/api/v1", "/api/v1/nothing", webhooksPath + "/", "/openapi.yaml", "/schemas/Webhook.json"} {
		b.do(http.MethodGet, path, "").problem(http.StatusNotFound)
	}
	refused := b.do(http.MethodPut, webhooksPath, `{}`)
	refused.problem(http.StatusMethodNotAllowed)
	require.ElementsMatch(t, []string{"GET", "HEAD", "POST"}, strings.Split(strings.ReplaceAll(refused.Header.Get("Allow"), " ", ""), ","))
	b.do(http.MethodDelete, deliveriesPath+"/d1", "").problem(http.StatusMethodNotAllowed)
}

func TestRequestIDs(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.Equal(t, "trace-1/2:3", b.do(http.MethodGet, "/healthz", "", "X-Request-Id", "trace-1/2:3").Header.Get("X-Request-Id"))
	for _, odd := range []string{"", "a b", strings.Repeat("x", 129), "<script>"} {
		require.Regexp(t, `^req_[0-9a-f]{32}$`, b.do(http.MethodGet, webhooksPath, "", "X-Request-Id", odd).Header.Get("X-Request-Id"))
	}
}

func TestServerErrorsShowNothing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault  func() error
		status int
	}{
		"database away": {func() error {
			return &postrider.Error{Code: postrider.CodeUnavailable, Message: "internals", Err: errors.New("internals")}
		}, http.StatusServiceUnavailable},
		"shutdown":       {func() error { return context.Canceled }, http.StatusServiceUnavailable},
		"too slow":       {func() error { return context.DeadlineExceeded }, http.StatusServiceUnavailable},
		"unknown error":  {func() error { return errors.New("internals") }, http.StatusInternalServerError},
		"a panic":        {func() error { panic("internals") }, http.StatusInternalServerError},
		"an error panic": {func() error { panic(errors.New("internals")) }, http.StatusInternalServerError},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, failing(c.fault))
			id := b.newWebhook("")
			refused := b.do(http.MethodGet, webhooksPath+"/"+id, "")
			refused.problem(c.status)
			require.NotContains(t, string(refused.Body), "internals")
			if c.status == http.StatusServiceUnavailable {
				require.NotEmpty(t, refused.Header.Get("Retry-After"))
			}
			if name != "shutdown" && name != "too slow" {
				require.Contains(t, b.logs.String(), "internals", "the log says what happened")
				require.Contains(t, b.logs.String(), `"level":"ERROR"`)
			}
		})
	}
}

func TestAbortedHandlersCutTheConnection(t *testing.T) {
	t.Parallel()
	b := setup(t, failing(func() error { panic(http.ErrAbortHandler) }))
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.server.URL+webhooksPath+"/wh_1", nil)
	require.NoError(t, err)
	request.Header.Set("X-API-Key", b.key)
	response, err := b.server.Client().Do(request)
	if err == nil {
		require.NoError(t, response.Body.Close())
	}
	require.ErrorIs(t, err, io.EOF)
}

func TestRequestsAreLoggedOnceAndWide(t *testing.T) {
	t.Parallel()
	var summaries []api.RequestSummary
	b := setup(t, func(c *api.Config) { c.OnRequest = func(s api.RequestSummary) { summaries = append(summaries, s) } })
	sent := b.do(http.MethodGet, webhooksPath+"/wh_secret-id?persona=secret-query", "", "User-Agent", "secret-agent")
	sent.problem(http.StatusUnprocessableEntity)
	b.do(http.MethodGet, "/nowhere-secret", "").problem(http.StatusNotFound)

	lines := strings.Split(strings.TrimSpace(b.logs.String()), "\n")
	var line map[string]any
	for _, l := range lines {
		if strings.Contains(l, sent.Header.Get("X-Request-Id")) {
			require.Nil(t, line, "one line a request")
			require.NoError(t, json.Unmarshal([]byte(l), &line))
		}
	}
	require.Equal(t, "request", line["msg"])
	require.Equal(t, "GET", line["method"])
	require.Equal(t, "/api/v1/webhooks/{id}", line["route"])
	require.InDelta(t, http.StatusUnprocessableEntity, line["status"], 0)
	require.Regexp(t, `^ws_`, line["workspace_id"])
	require.InDelta(t, len(sent.Body), line["bytes"], 0)
	require.Contains(t, line, "duration_ms")
	require.NotContains(t, b.logs.String(), "secret")
	require.NotContains(t, b.logs.String(), b.key)
	require.Equal(t, []api.RequestSummary{
		{Method: "GET", Route: "/api/v1/webhooks/{id}", Status: http.StatusUnprocessableEntity},
		{Method: "GET", Status: http.StatusNotFound},
	}, summaries)
}
