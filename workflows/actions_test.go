package workflows_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"postrider.dev/postrider"
	"postrider.dev/postrider/workflows"
)

// acted is an operator's action that took the delivery out of its workflow.
func acted(kind postrider.ActionKind, id string) postrider.Acted {
	return postrider.Acted{DeliveryID: id, Left: true, Action: postrider.Action{Kind: kind, Actor: "key_1"}}
}

// after lets workflows hear of actions after a time.
func (b *carrierBench) after(wait time.Duration, actions ...postrider.Acted) {
	b.RegisterDelayedCallback(func() { b.SignalWorkflow("acted", actions) }, wait)
}

// Guards Temporal's UI against workflows that wait for deliveries that they carry no more. Package e2e does the same
// to an activity in its backoff.
func TestCarrierEndsWhenOperatorsTookAllItCarried(t *testing.T) {
	t.Parallel()
	b := setupCarrier(t, map[string][]answer{"dlv_1": nil, "dlv_2": nil})
	began := b.Now()
	b.after(500*time.Millisecond, acted(postrider.ActionRetry, "dlv_1"))
	b.after(600*time.Millisecond, acted(postrider.ActionPause, "dlv_2"))
	require.NoError(t, b.run(policy))
	require.Equal(t, 600*time.Millisecond, b.Now().Sub(began), "it waits while it carries one")
	require.Empty(t, b.rounds)
	require.Empty(t, b.cancelled, "they go on elsewhere")
}

func TestCarrierGoesOnWithWhatIsLeft(t *testing.T) {
	t.Parallel()
	b := setupCarrier(t, map[string][]answer{"dlv_1": {succeeded}, "dlv_2": {succeeded}})
	b.after(500*time.Millisecond, acted(postrider.ActionRetry, "dlv_1"), acted(postrider.ActionRetry, "dlv_unknown"))
	require.NoError(t, b.run(policy))
	require.Equal(t, [][]string{{"dlv_2"}}, b.members)
}

// Guards workflows that are under way in a rolling upgrade, as history acted_v2_unheard of a real server does: when
// an action was signalled to a worker that did not listen, the workflow does what that worker began.
func TestCarrierThatHeardOfNoActionStaysDeaf(t *testing.T) {
	t.Parallel()
	b := setupCarrier(t, map[string][]answer{"dlv_1": {left}})
	began := b.Now()
	b.OnGetVersion("acted", workflow.DefaultVersion, workflow.Version(1)).Return(workflow.DefaultVersion)
	b.after(500*time.Millisecond, acted(postrider.ActionPause, "dlv_1"))
	require.NoError(t, b.run(policy))
	require.Equal(t, [][]string{{"dlv_1"}}, b.members, "its activity finds that it is gone")
	require.Greater(t, b.Now().Sub(began), 500*time.Millisecond)
}

func TestCarrierOfCancelledDeliveriesIsCancelled(t *testing.T) {
	t.Parallel()
	b := setupCarrier(t, map[string][]answer{"dlv_1": {retrying(time.Hour)}, "dlv_2": {retrying(time.Hour)}})
	b.after(500*time.Millisecond, acted(postrider.ActionCancel, "dlv_1"), acted(postrider.ActionCancel, "dlv_2"))
	require.True(t, temporal.IsCanceledError(b.run(policy)))
	require.Equal(t, postrider.StateCancelled, b.history("dlv_1").State)
	require.Nil(t, b.history("dlv_1").NextAttemptAt)
	require.Empty(t, b.cancelled, "the database knows")
}

// An action on a delivery whose attempt is under way leaves it with its workflow until its record.
func TestActionOnAnAttemptUnderWayInterruptsNothing(t *testing.T) {
	t.Parallel()
	b := setupCarrier(t, map[string][]answer{"dlv_1": {succeeded}})
	edited := acted(postrider.ActionEdit, "dlv_1")
	edited.Left = false
	b.after(500*time.Millisecond, edited)
	require.NoError(t, b.run(policy))
	require.Equal(t, postrider.StateSucceeded, b.history("dlv_1").State)
}

// Guards against a notice that is repeated for ever because its workflow has ended.
func TestToldIsWhoHasEnded(t *testing.T) {
	t.Parallel()
	r := &running{}
	c := workflows.NewClient(r, "postrider")
	notice := postrider.Notice{WorkflowID: "retry/bat_1", Acted: []postrider.Acted{acted(postrider.ActionRetry, "dlv_1")}}
	require.NoError(t, c.Tell(t.Context(), notice))
	require.Equal(t, []any{"retry/bat_1", "", "acted", notice.Acted}, r.called)
	r.err = serviceerror.NewNotFound("workflow execution already completed")
	require.NoError(t, c.Tell(t.Context(), notice))
	r.err = errRefused
	require.ErrorIs(t, c.Tell(t.Context(), notice), errRefused)
}
