package server

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"
)

// Guards against a process that is ready while it can write nothing. Here somebody else has the
// file's write lock.
func TestNotReadyWhileNothingCanBeWritten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := run(t, dir, nil)
	ready := func(want int, writes string) func() bool {
		return func() bool {
			status, body := p.call(t, http.MethodGet, p.apiURL()+"/readyz?exclude=temporal", "")
			return status == want && strings.Contains(body, `"database":"ok","database_writes":"`+writes+`"`)
		}
	}
	require.Eventually(t, ready(http.StatusOK, "ok"), patience, tick)
	other, err := sqlx.Open("sqlite", "file:"+filepath.Join(dir, "postrider.db")+"?_txlock=immediate&_pragma=busy_timeout(20000)")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, other.Close()) })
	locked, err := other.BeginTxx(t.Context(), nil)
	require.NoError(t, err)
	require.Eventually(t, ready(http.StatusServiceUnavailable, "unavailable"), patience, tick)
	require.Contains(t, p.log.String(), `msg="not ready" check=database_writes`)
	require.NoError(t, locked.Rollback())
	require.Eventually(t, ready(http.StatusOK, "ok"), patience, tick)
}

// Guards what an operator reads of a stop: that it began, what it waited for, and that it is over.
func TestStopIsLogged(t *testing.T) {
	t.Parallel()
	p := run(t, t.TempDir(), nil)
	p.publish(t)
	require.NoError(t, p.end())
	log := p.log.String()
	require.Regexp(t, `msg=stopping why="asked to" waits_for="requests and attempts under way" at_most=5s\n`, log)
	lines := strings.Split(strings.TrimSpace(log), "\n")
	last := lines[len(lines)-1]
	require.Contains(t, last, "msg=stopped took=")
	for _, part := range []string{"api_requests", "attempts", "metrics", "notifications", "partitions"} {
		require.Regexp(t, `waited\.`+part+`=\d`, last)
	}
}
