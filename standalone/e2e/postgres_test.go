package e2e

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider/store/pgtest"
)

// TestStandaloneOnPostgres guards that everything is in PostgreSQL, Temporal's state too: retries
// go on after the process was killed.
func TestStandaloneOnPostgres(t *testing.T) {
	t.Parallel()
	server, err := pgtest.Start(t.Context())
	require.NoError(t, err)
	t.Cleanup(server.Stop)
	var broken atomic.Bool
	broken.Store(true)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if broken.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	t.Cleanup(receiver.Close)

	dir := t.TempDir()
	env := []string{"POSTRIDER_DATABASE_URL=" + server.EmptyDatabase(t)}
	i := startWith(t, dir, env)
	w := webhook(t, i, receiver.URL, map[string]any{"max_retries": 10})
	publish(t, i, "call.ended", nil)
	id := only(t, i, w.ID).ID
	require.Eventually(t, func() bool {
		d, err := i.Delivery(t.Context(), id)
		return err == nil && d.AttemptCount >= 2
	}, patience, tick)
	require.NoError(t, i.Kill())
	_, err = os.Stat(filepath.Join(dir, "postrider.db"))
	require.ErrorIs(t, err, os.ErrNotExist)

	broken.Store(false)
	i = startWith(t, dir, env)
	d := finished(t, i, w.ID)
	require.Equal(t, "succeeded", d.State)
	require.Eventually(t, func() bool { // the database answers while the workflow is busy
		history, err := i.History(t.Context(), id)
		return err == nil && history.Source == "workflow" && len(history.Attempts) == d.AttemptCount
	}, patience, tick)
}
