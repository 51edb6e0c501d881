//nolint:thelper // these are the tests, not helpers of one
package storetest

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
)

// seamTests are of what one part of the store must know of another.
func seamTests() map[string]func(*testing.T, *Bundle) {
	return map[string]func(*testing.T, *Bundle){
		"a delivery that is sent again has its webhook's shape":  againShaped,
		"an action waits for claims of the webhook to end":       actAfterClaims,
		"filters that take too long are the publisher's trouble": filtersTakeTooLong,
	}
}

// Guards receivers that must not see what a transform leaves out.
func againShaped(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t, func(w *postrider.Webhook) { w.Format = postrider.FormatThin })
	id := underWay(t, b, w)
	require.NoError(t, b.Record(t.Context(), []postrider.Outcome{b.Outcome(t, id, 1, postrider.StateFailed)}))
	again := b.done(t, postrider.ActionRetry, id)
	targets, err := b.Targets(t.Context(), []string{again.ID})
	require.NoError(t, err)
	require.Equal(t, postrider.Shape{Format: postrider.FormatThin}, targets[0].Shape)
}

// Guards claims and permits, which read rows and write them later: an action must not come between.
func actAfterClaims(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	id := b.PublishTo(t, w.ID, 1)[0]
	if !strings.HasPrefix(b.URL, "postgres") { // one transaction at a time is all that SQLite has
		b.done(t, postrider.ActionPause, id)
		return
	}
	tx, err := b.Raw(t).BeginTxx(t.Context(), nil)
	require.NoError(t, err)
	_, err = tx.ExecContext(t.Context(), "SELECT 1 FROM webhook_pace WHERE webhook_id = $1 FOR UPDATE", w.ID) // as a claim does
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err = b.Act(ctx, postrider.ActionRequest{WorkspaceID: b.Workspace, Kind: postrider.ActionPause, DeliveryIDs: []string{id}})
	require.Error(t, err, "it waits")
	require.NoError(t, tx.Rollback())
	b.done(t, postrider.ActionPause, id)
	require.Equal(t, postrider.StateParked, b.State(t, id))
}

func filtersTakeTooLong(t *testing.T, b *Bundle) {
	costly := "[0,1,2,3,4,5,6,7,8,9]"
	filter := "true"
	for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
		filter = costly + ".all(" + name + ", " + filter + ")"
	}
	b.filtered(t, filter)
	p := postrider.Publication{WorkspaceID: b.Workspace}
	for range postrider.MaxBatch {
		p.Events = append(p.Events, b.eventWith(t, "1"))
	}
	_, err := b.Publish(t.Context(), p)
	require.Equal(t, postrider.CodeUnavailable, postrider.CodeOf(err))
	require.ErrorContains(t, err, "filters take longer than two seconds")
	require.Zero(t, b.count(t.Context(), t, "SELECT COUNT(*) FROM events"))
}
