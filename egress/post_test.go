package egress_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/egress"
)

func TestPostSendsWhatItIsGiven(t *testing.T) {
	t.Parallel()
	body := bytes.Repeat([]byte("0123456789abcdef"), 256<<10/16)
	var got *http.Request
	var gotBody []byte
	server := serve(t, nil)
	server.Config.Handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got = r
		gotBody, _ = io.ReadAll(r.Body)
	})
	attempt, retryAfter, err := setup(t).Post(t.Context(), egress.Request{
		URL:     server.URL + "/hooks/1?key=value",
		Header:  http.Header{"Content-Type": {"application/json"}, "Webhook-Id": {"evt_1"}, "X-Own": {"a"}},
		Body:    body,
		Timeout: long,
	})
	require.NoError(t, err)
	require.Zero(t, retryAfter)
	require.Equal(t, postrider.ResultSuccess, attempt.Result)
	require.Equal(t, 200, *attempt.StatusCode)
	require.Empty(t, *attempt.ResponseExcerpt)
	require.False(t, attempt.ResponseTruncated)
	require.Equal(t, "127.0.0.1", *attempt.RemoteIP)
	require.Zero(t, attempt.Number, "the caller knows it")

	require.Equal(t, http.MethodPost, got.Method)
	require.Equal(t, "/hooks/1?key=value", got.RequestURI)
	require.Equal(t, body, gotBody)
	require.Equal(t, http.Header{
		"Content-Type": {"application/json"}, "Webhook-Id": {"evt_1"}, "X-Own": {"a"},
		"User-Agent": {"Postrider/test"}, "Content-Length": {strconv.Itoa(len(body))},
	}, got.Header, "nothing is added: no Accept-Encoding, no Idempotency-Key")
}

func TestPostJudgesTheStatus(t *testing.T) {
	t.Parallel()
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		status, _ := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
		w.Header().Set("Location", "/200")
		w.WriteHeader(status)
		if status != http.StatusNoContent && status != http.StatusNotModified {
			_, _ = io.WriteString(w, "body "+marker)
		}
	})
	client := setup(t)
	for status, want := range map[int]struct {
		result postrider.Result
		text   string
	}{
		200: {postrider.ResultSuccess, ""},
		202: {postrider.ResultSuccess, ""},
		204: {postrider.ResultSuccess, ""},
		299: {postrider.ResultSuccess, ""},
		301: {postrider.ResultRedirect, "answered 301 Moved Permanently; redirects are not followed"},
		304: {postrider.ResultRedirect, "answered 304 Not Modified; redirects are not followed"},
		307: {postrider.ResultRedirect, "answered 307 Temporary Redirect; redirects are not followed"},
		400: {postrider.ResultClientError, "answered 400 Bad Request"},
		410: {postrider.ResultClientError, "answered 410 Gone"},
		429: {postrider.ResultClientError, "answered 429 Too Many Requests"},
		500: {postrider.ResultServerError, "answered 500 Internal Server Error"},
		599: {postrider.ResultServerError, "answered 599"},
		999: {postrider.ResultProtocol, "answered 999"},
	} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			t.Parallel()
			attempt := client.post(t, fmt.Sprintf("%s/%d", server.URL, status), long)
			require.Equal(t, want.result, attempt.Result)
			require.Equal(t, status, *attempt.StatusCode)
			require.Equal(t, "127.0.0.1", *attempt.RemoteIP)
			if want.text != "" {
				require.Equal(t, want.text, *attempt.Error)
			}
			if status != http.StatusNoContent && status != http.StatusNotModified {
				require.Equal(t, "body "+marker, *attempt.ResponseExcerpt)
			}
		})
	}
}

func TestRedirectIsNotFollowed(t *testing.T) {
	t.Parallel()
	var elsewhere atomic.Int32
	target := serve(t, func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) })
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, target.URL, http.StatusPermanentRedirect)
	})
	client := setup(t)
	require.Equal(t, postrider.ResultRedirect, client.post(t, server.URL, long).Result)
	// The sentinel arrives, so whatever was sent before it would have, too.
	require.Equal(t, postrider.ResultSuccess, client.post(t, target.URL, long).Result)
	require.EqualValues(t, 1, elsewhere.Load())
}

func TestNothingIsDecompressed(t *testing.T) {
	t.Parallel()
	var packed bytes.Buffer
	writer := gzip.NewWriter(&packed)
	_, err := writer.Write(bytes.Repeat([]byte("bomb"), 1<<20))
	require.NoError(t, err)
	require.NoError(t, writer.Close())
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept-Encoding") != "" {
			w.WriteHeader(http.StatusTeapot)
		}
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(packed.Bytes())
	})
	attempt := setup(t).post(t, server.URL, long)
	require.Equal(t, postrider.ResultSuccess, attempt.Result)
	require.NotContains(t, *attempt.ResponseExcerpt, "bombbomb")
	require.True(t, strings.HasPrefix(*attempt.ResponseExcerpt, "\x1f\uFFFD"), "gzip's magic number, made UTF-8")
}

func TestTimeoutCoversEveryStage(t *testing.T) {
	t.Parallel()
	silent := listen(t, func(_ int, conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		status  int
		text    string
	}{
		"headers": {func(_ http.ResponseWriter, r *http.Request) { stall(r) }, 0, "timed out after 500ms while waiting for the answer"},
		"body": {func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "begin")
			_ = http.NewResponseController(w).Flush()
			stall(r)
		}, 200, "timed out after 500ms while reading the answer"},
		"dripping body": {func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				_, _ = io.WriteString(w, "x")
				_ = http.NewResponseController(w).Flush()
				drip, cancel := context.WithTimeout(r.Context(), 10*time.Millisecond)
				<-drip.Done()
				cancel()
			}
		}, 200, "timed out after 500ms while reading the answer"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			attempt := setup(t).post(t, serve(t, c.handler).URL, soon)
			require.Equal(t, postrider.ResultTimeout, attempt.Result)
			require.Equal(t, c.text, *attempt.Error)
			require.GreaterOrEqual(t, attempt.DurationMS, soon.Milliseconds())
			require.Equal(t, "127.0.0.1", *attempt.RemoteIP)
			if c.status == 0 {
				require.Nil(t, attempt.StatusCode)
				return
			}
			require.Equal(t, c.status, *attempt.StatusCode, "it was known before the body failed to come")
			require.NotEmpty(t, *attempt.ResponseExcerpt)
			require.True(t, attempt.ResponseTruncated)
		})
	}
	t.Run("TLS", func(t *testing.T) {
		t.Parallel()
		attempt := setup(t).post(t, "https://"+silent, soon)
		require.Equal(t, postrider.ResultTimeout, attempt.Result)
		require.Equal(t, "timed out after 500ms while connecting", *attempt.Error)
		require.Equal(t, "127.0.0.1", *attempt.RemoteIP)
	})
}

func TestContextEndIsNoAttempt(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	server := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		stall(r)
	})
	client := setup(t)
	attempt, retryAfter, err := client.Post(ctx, egress.Request{URL: server.URL, Timeout: long})
	require.ErrorIs(t, err, context.Canceled)
	require.Zero(t, attempt)
	require.Zero(t, retryAfter)

	_, _, err = client.Post(ctx, egress.Request{URL: server.URL, Timeout: long})
	require.ErrorIs(t, err, context.Canceled)

	expired, stop := context.WithTimeout(t.Context(), soon)
	defer stop()
	_, _, err = client.Post(expired, egress.Request{URL: server.URL, Timeout: long})
	require.ErrorIs(t, err, context.DeadlineExceeded, "the caller's deadline is not the receiver's fault")
}

func TestExcerpt(t *testing.T) {
	t.Parallel()
	full := strings.Repeat("a", postrider.MaxExcerpt)
	for name, c := range map[string]struct {
		body    string
		chunked bool
		want    string
		cut     bool
	}{
		"empty":                     {"", false, "", false},
		"short":                     {"ok", false, "ok", false},
		"16 KiB":                    {full, false, full, false},
		"16 KiB, length unknown":    {full, true, full, false},
		"one more":                  {full + "b", false, full, true},
		"one more, length unknown":  {full + "b", true, full, true},
		"a megabyte":                {strings.Repeat("a", 1<<20), true, full, true},
		"not UTF-8":                 {"caf\xe9 \x00.", false, "caf\uFFFD \uFFFD.", false},
		"UTF-8":                     {"größe €", false, "größe €", false},
		"ends inside a character":   {full[:len(full)-1] + "€ and more", false, full[:len(full)-1], true},
		"only NUL":                  {strings.Repeat("\x00", len(full)), false, strings.Repeat("\uFFFD", len(full)/3), true},
		"ends with half a sequence": {"ab\xe2\x82", false, "ab\uFFFD", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				if c.chunked {
					_ = http.NewResponseController(w).Flush()
				} else {
					w.Header().Set("Content-Length", strconv.Itoa(len(c.body)))
				}
				_, _ = io.WriteString(w, c.body)
			})
			attempt := setup(t).post(t, server.URL, long)
			require.Equal(t, postrider.ResultSuccess, attempt.Result)
			require.Equal(t, c.want, *attempt.ResponseExcerpt)
			require.Equal(t, c.cut, attempt.ResponseTruncated)
		})
	}
}

// 16 KiB that came in time are enough, whatever the receiver does afterwards.
func TestEndlessBodySucceeds(t *testing.T) {
	t.Parallel()
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat("a", postrider.MaxExcerpt))
		_ = http.NewResponseController(w).Flush()
		stall(r)
	})
	attempt := setup(t).post(t, server.URL, soon)
	require.Equal(t, postrider.ResultSuccess, attempt.Result)
	require.True(t, attempt.ResponseTruncated)
}

func TestBrokenAnswers(t *testing.T) {
	t.Parallel()
	const cutOff, invalid = "the connection was closed before the answer was complete", "no valid HTTP answer"
	for name, c := range map[string]struct {
		answer string
		status int
		text   string
	}{
		"nothing":           {"", 0, cutOff},
		"half a status":     {"HTTP/1.1 20", 0, invalid},
		"body cut off":      {"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegin", 200, cutOff},
		"chunk cut off":     {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegin", 200, cutOff},
		"chunk malformed":   {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n" + marker, 200, invalid},
		"not HTTP":          {"SSH-2.0-" + marker + "\r\n\r\n", 0, invalid},
		"switches":          {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nbegin", 101, "answered 101 Switching Protocols"},
		"endless header":    {"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20), 0, invalid},
		"malformed headers": {"HTTP/1.1 200 OK\r\n" + marker + "\r\n\r\n", 0, invalid},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := listen(t, func(_ int, conn net.Conn) {
				request, err := http.ReadRequest(bufio.NewReader(conn))
				if err == nil {
					_, _ = io.Copy(io.Discard, request.Body)
					_, _ = io.WriteString(conn, c.answer)
				}
			})
			attempt := setup(t).post(t, "http://"+address, long)
			require.Equal(t, postrider.ResultProtocol, attempt.Result)
			require.Equal(t, c.text, *attempt.Error)
			if c.status == 0 {
				require.Nil(t, attempt.StatusCode)
			} else {
				require.Equal(t, c.status, *attempt.StatusCode)
			}
		})
	}
}

func TestInformationalAnswersAreSkipped(t *testing.T) {
	t.Parallel()
	server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusAccepted)
	})
	attempt := setup(t).post(t, server.URL, long)
	require.Equal(t, postrider.ResultSuccess, attempt.Result)
	require.Equal(t, http.StatusAccepted, *attempt.StatusCode)
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)
	client := setup(t, func(c *egress.Config) { c.Now = func() time.Time { return now } })
	for _, c := range []struct {
		status int
		header string
		want   time.Duration
	}{
		{429, "120", 2 * time.Minute},
		{503, "120", 2 * time.Minute},
		{503, " 7 ", 7 * time.Second},
		{503, "0", 0},
		{503, "3600", time.Hour},
		{503, "3601", time.Hour},
		{503, "99999999999999999999999", time.Hour},
		{429, now.Add(90 * time.Second).Format(http.TimeFormat), 90 * time.Second},
		{429, now.Add(90 * time.Second).Format(time.RFC850), 90 * time.Second},
		{429, now.Add(-time.Minute).Format(http.TimeFormat), 0},
		{429, now.Add(48 * time.Hour).Format(http.TimeFormat), time.Hour},
		{429, "", 0},
		{429, "-5", 0},
		{429, "1.5", 0},
		{429, "soon", 0},
		{500, "120", 0},
		{200, "120", 0},
		{301, "120", 0},
	} {
		t.Run(fmt.Sprintf("%d %s", c.status, c.header), func(t *testing.T) {
			t.Parallel()
			server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", c.header)
				w.WriteHeader(c.status)
			})
			attempt, wait := client.postForRetry(t, server.URL, long)
			require.Equal(t, c.want, wait)
			require.Equal(t, now, attempt.StartedAt)
		})
	}
}

func TestDurationIsTheClocks(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 8, 1, 12, 0, 0, 123456789, time.UTC)
	var calls atomic.Int64
	client := setup(t, func(c *egress.Config) {
		c.Now = func() time.Time { return start.Add(time.Duration(calls.Add(1)-1) * 1500 * time.Millisecond) }
	})
	attempt := client.post(t, serve(t, func(http.ResponseWriter, *http.Request) {}).URL, long)
	require.Equal(t, postrider.Timestamp(start), attempt.StartedAt)
	require.EqualValues(t, 1500, attempt.DurationMS)
}

func BenchmarkPost(b *testing.B) {
	var config net.ListenConfig
	listener, err := config.Listen(b.Context(), "tcp", "127.0.0.1:0")
	require.NoError(b, err)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })}
	go func() { _ = server.Serve(listener) }()
	b.Cleanup(func() { _ = server.Close() })
	client := egress.New(egress.Config{AllowNetworks: egress.StandaloneNetworks(), Now: time.Now})
	b.Cleanup(client.Close)
	request := egress.Request{
		URL: "http://" + listener.Addr().String(), Header: http.Header{}, Body: bytes.Repeat([]byte("x"), 512), Timeout: long,
	}
	b.ReportAllocs()
	for b.Loop() {
		if attempt, _, err := client.Post(b.Context(), request); err != nil || attempt.Result != postrider.ResultSuccess {
			b.Fatal(attempt.Result, err)
		}
	}
}
