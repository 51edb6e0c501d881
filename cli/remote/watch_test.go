package remote

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"
)

const patience = 20 * time.Second

func TestAWatchedListTellsWhatIsNew(t *testing.T) {
	t.Parallel()
	b := newAPI(t)
	first := b.newWebhook()
	ctx, stop := context.WithCancel(t.Context())
	var out buffer
	done := make(chan result)
	watcher := *b
	go func() {
		done <- watcher.runUntil(ctx, &out, "webhook", "list", "--watch", "--interval", "100ms", "-o", "json")
	}()
	require.Eventually(t, func() bool { return strings.Contains(out.String(), first) }, patience, time.Millisecond)
	second := b.newWebhook()
	require.Eventually(t, func() bool { return strings.Contains(out.String(), second) }, patience, time.Millisecond)
	b.ok("webhook", "pause", first)
	require.Eventually(t, func() bool { return strings.Contains(out.String(), `"paused"`) }, patience, time.Millisecond)
	stop()
	r := <-done
	require.NoError(t, r.failed, "Ctrl-C ends a watch, and nothing failed")
	require.Equal(t, 3, strings.Count(r.out, "\n"), "what has not changed is not told again:\n%s", r.out)
}

func TestAWatchedDeliveryEnds(t *testing.T) {
	t.Parallel()
	b := newAPI(t)
	b.newWebhook()
	b.ok("event", "publish", "--type", "a", "--data", "1")
	dlv := id(t, b.ok("delivery", "list", "-o", "json"))
	done := make(chan result)
	watcher := *b
	var out buffer
	go func() {
		done <- watcher.runUntil(t.Context(), &out, "delivery", "get", dlv, "--watch", "--interval", "100ms")
	}()
	require.Eventually(t, func() bool { return strings.Contains(out.String(), "pending") }, patience, time.Millisecond)
	b.ok("delivery", "cancel", dlv)
	r := <-done
	require.NoError(t, r.failed)
	require.Contains(t, r.out, "cancelled")
	require.NotContains(t, r.out, "\x1b", "nothing is drawn over where there is no terminal")
}

// stages is a server that answers another stage of a job each time.
func stages(t *testing.T, bodies ...string) *bundle {
	t.Helper()
	var asked atomic.Int64
	return serve(t, "secret", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprint(w, bodies[min(int(asked.Add(1)), len(bodies))-1])
	}))
}

func job(state string, sent int, finished string) string {
	return fmt.Sprintf(`{"id":"rpl_1","state":%q,"matched":20000,"sent":%d,"failed":0,"finished_at":%s,"eta":"2026-08-03T12:00:09Z"}`,
		state, sent, finished)
}

// A job that counts is drawn as a bar. The delivery's route stands in for that of a replay: what is drawn
// goes by the answer alone.
func TestProgressIsDrawnAsABar(t *testing.T) {
	t.Parallel()
	bodies := []string{job("running", 0, "null"), job("running", 5000, "null"), job("finished", 20000, `"2026-08-03T12:00:10Z"`)}
	b := stages(t, bodies...)
	b.streams.Draws = true
	out := b.ok("delivery", "retry", "rpl_1", "--watch", "--interval", "100ms")
	require.Contains(t, out, "\r\x1b[Krpl_1 [.............................."+"]   0 % 0 of 20000, 0 failed, running, done about 12:00:09 UTC")
	require.Contains(t, out, "\r\x1b[Krpl_1 [#######.......................]  25 % 5000 of 20000")
	require.Contains(t, out, "[##############################] 100 % 20000 of 20000, 0 failed, finished")
	require.True(t, strings.HasSuffix(out, "\n"))

	out = stages(t, bodies...).ok("delivery", "get", "rpl_1", "--watch", "--interval", "100ms")
	require.Equal(t, 3, strings.Count(out, "\n"), "a line a change, where there is no terminal")
	require.NotContains(t, out, "\r")
	out = stages(t, bodies...).ok("delivery", "get", "rpl_1", "--watch", "--interval", "100ms", "-o", "json")
	require.Equal(t, strings.Join(bodies, "\n")+"\n", out)
}

func TestWhatFailedIsAFailure(t *testing.T) {
	t.Parallel()
	b := stages(t, `{"id":"dlv_1","state":"failed","last_error":"500 \u001b","finished_at":"2026-08-03T12:00:10Z"}`)
	b.streams.Draws = true
	r := b.run("delivery", "get", "dlv_1", "--watch")
	require.EqualError(t, r.failed, `dlv_1 failed: 500 \u001b`)
	require.Contains(t, r.out, clear)
}

func TestProgressOfNothingIsAll(t *testing.T) {
	t.Parallel()
	line, counts := progress(gjson.Parse(`{"id":"rpl_1","state":"finished","matched":0,"sent":0}`))
	require.True(t, counts)
	require.Contains(t, line, "100 % 0 of 0, 0 failed, finished")
	_, counts = progress(gjson.Parse(`{"id":"dlv_1"}`))
	require.False(t, counts)
}

// Guards that a list that is watched on a terminal is drawn as a whole each time.
func TestAWatchedListIsDrawnAsAWhole(t *testing.T) {
	t.Parallel()
	b := newAPI(t)
	wh := b.newWebhook()
	b.streams.Draws = true
	ctx, stop := context.WithCancel(t.Context())
	var out buffer
	done := make(chan result)
	go func() { done <- b.runUntil(ctx, &out, "webhook", "list", "-w", "--interval", "100ms") }()
	require.Eventually(t, func() bool { return strings.Count(out.String(), clear+"ID") > 1 }, patience, time.Millisecond)
	stop()
	r := <-done
	require.NoError(t, r.failed)
	require.Greater(t, strings.Count(r.out, wh), 1)
}
