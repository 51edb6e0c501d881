package cli

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
)

// TestCommandsChooseTheirRole guards which parts each command runs: the API's port answers only
// where there is an API, and the backlog's metrics exist only where there is a worker.
func TestCommandsChooseTheirRole(t *testing.T) { //nolint:paralleltest // the console needs standard output
	database := "sqlite:" + filepath.Join(t.TempDir(), "test.db")
	console{t: t, url: database}.run("migrate", "up")
	client := &http.Client{}
	get := func(address, path string) (string, error) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+path, nil)
		require.NoError(t, err)
		response, err := client.Do(request)
		if err != nil {
			return "", err
		}
		text, err := io.ReadAll(response.Body)
		return string(text), errors.Join(err, response.Body.Close())
	}
	for _, c := range []struct {
		name        string
		api, worker bool
	}{{"serve", true, true}, {"api", true, false}, {"worker", false, true}} {
		metrics, api := freeAddress(t), freeAddress(t)
		args := []string{
			c.name, "--database-url", database, "--encryption-keys", testKeys, "--metrics-listen", metrics,
			"--temporal-address", "127.0.0.1:1", "--log-level", "error",
		}
		if c.api {
			args = append(args, "--listen", api)
		}
		parsed, err := parse(t, args...)
		require.NoError(t, err)
		run := map[string]func(context.Context) error{"serve": parsed.Serve.Run, "api": parsed.API.Run, "worker": parsed.Worker.Run}[c.name]
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- run(ctx) }()
		var text string
		require.Eventually(t, func() bool {
			text, err = get(metrics, "/metrics")
			return err == nil
		}, 10*time.Second, 10*time.Millisecond, c.name)
		require.Equal(t, c.worker, strings.Contains(text, "postrider_backlog_pending"), c.name)
		require.Equal(t, c.api, strings.Contains(text, "postrider_events_accepted_total"), c.name)
		_, err = get(api, "/healthz")
		require.Equal(t, c.api, err == nil, "%s: %v", c.name, err)
		client.CloseIdleConnections()
		stop()
		require.NoError(t, <-ended, c.name)
	}
	_, err := parse(t, "worker", "--database-url", database, "--encryption-keys", testKeys, "--listen", "127.0.0.1:0")
	require.ErrorContains(t, err, "unknown flag --listen", "a worker has no API")
}

// TestARoleThatCannotStartGivesItsPortsBack guards that a refused start leaves nothing behind.
func TestARoleThatCannotStartGivesItsPortsBack(t *testing.T) {
	t.Parallel()
	metrics := freeAddress(t)
	args := []string{
		"worker", "--database-url", "sqlite:" + filepath.Join(t.TempDir(), "empty.db"), "--encryption-keys", testKeys,
		"--metrics-listen", metrics, "--temporal-address", "127.0.0.1:1",
	}
	for range 2 { // the second would find a port that was not given back
		c, err := parse(t, args...)
		require.NoError(t, err)
		require.ErrorContains(t, c.Worker.Run(t.Context()), "postrider migrate up")
	}
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"2027-01-31T00:00:00Z": time.Date(2027, 1, 31, 0, 0, 0, 0, time.UTC), "90d": now.AddDate(0, 0, 90), "36h": now.Add(36 * time.Hour),
	} {
		var e expiryTime
		require.NoError(t, e.UnmarshalText([]byte(text)))
		require.Equal(t, want, *e.after(now), text)
	}
	require.Nil(t, expiryTime{}.after(now), "never")
	for _, text := range []string{"", "0d", "-1h", "tomorrow", "2027-01-31"} {
		require.EqualError(t, new(expiryTime).UnmarshalText([]byte(text)), "must be an RFC 3339 time, or a span such as 90d or 36h", text)
	}
}

// TestListsReadEveryPage guards that a list does not end with its first page.
func TestListsReadEveryPage(t *testing.T) {
	t.Parallel()
	pages := map[string]postrider.List[int]{"": {Items: []int{1, 2}, Next: "2"}, "2": {Items: []int{3}, Next: "3"}, "3": {}}
	read := func(p postrider.Page) (postrider.List[int], error) {
		require.Equal(t, postrider.MaxPageSize, p.Limit)
		return pages[p.After], nil
	}
	double := func(n int) int { return 2 * n }
	got, err := all(read, double)
	require.NoError(t, err)
	require.Equal(t, []int{2, 4, 6}, got)
	broken := errors.New("away")
	_, err = all(func(postrider.Page) (postrider.List[int], error) { return postrider.List[int]{}, broken }, double)
	require.ErrorIs(t, err, broken)
}

// TestListsForPeopleAndPrograms guards the two forms of a list: an aligned table, and JSON with one
// object a line. An empty list prints nothing.
func TestListsForPeopleAndPrograms(t *testing.T) { //nolint:paralleltest // standard output is the process's
	type item struct {
		Name string `json:"name"`
	}
	list := func(p printing, items ...item) string {
		text, err := printed(t, func(...any) error {
			return show(p, items, []string{"NAME", "LENGTH"}, func(i item) []string { return []string{i.Name, i.Name + "!"} })
		})
		require.NoError(t, err)
		return text
	}
	require.Equal(t, "NAME  LENGTH\na     a!\nbcde  bcde!\n", list(printing{}, item{"a"}, item{"bcde"}))
	require.Equal(t, "{\"name\":\"a\"}\n{\"name\":\"bcde\"}\n", list(printing{JSON: true}, item{"a"}, item{"bcde"}))
	require.Empty(t, list(printing{}))
	require.Empty(t, list(printing{JSON: true}))
	// Guards the operator's terminal: a customer's name must not move its cursor, nor look like another.
	odd := item{"a\x1b[2Jb\n\u009bc\u202ed\U000E0001\xff"}
	require.Equal(t, "NAME"+strings.Repeat(" ", 34)+"LENGTH\n"+`a\x1b[2Jb\n\u009bc\u202ed\U000e0001�`+"  "+
		`a\x1b[2Jb\n\u009bc\u202ed\U000e0001�!`+"\n", list(printing{}, odd))
	text := list(printing{JSON: true}, odd)
	require.Equal(t, `{"name":"a\u001b[2Jb\n\u009bc\u202ed\udb40\udc01\ufffd"}`+"\n", text)
	var back item
	require.NoError(t, json.Unmarshal([]byte(text), &back))
	require.Equal(t, strings.ToValidUTF8(odd.Name, "\ufffd"), back.Name)
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	require.Equal(t, "2026-01-02T03:04:05Z -", when(&at)+" "+when(nil))
}

func TestVersionNamesBuildAndPlatform(t *testing.T) { //nolint:paralleltest // standard output is the process's
	text, err := printed(t, func(...any) error { return VersionCommand{}.Run() })
	require.NoError(t, err)
	require.Regexp(t, `^postrider \S+ \(go\S+, \w+/\w+\)\n$`, text)
}

// TestHealthFails guards that a container's health check fails, within its time, when nothing
// answers.
func TestHealthFails(t *testing.T) {
	t.Parallel()
	require.Error(t, (&HealthCommand{MetricsListen: freeAddress(t), Timeout: time.Minute}).Run(t.Context()))
	require.ErrorIs(t, (&HealthCommand{MetricsListen: freeAddress(t), Timeout: -time.Second}).Run(t.Context()), context.DeadlineExceeded)
	require.Error(t, (&HealthCommand{URL: "http://bad host/", Timeout: time.Minute}).Run(t.Context()))
	require.Equal(t, "no address", reachable("no address"))
}
