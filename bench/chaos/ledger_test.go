package main

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider/standalone/instance"
)

// Guards against a comparison that cannot fail.
func TestLedgerFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	why := "answered 500"
	for wrong, state := range map[string]instance.Delivery{
		"lost: evt was accepted and has no delivery to /good/0":                     {},
		"dlv is said to have succeeded and never came to /good/0":                   {State: "succeeded"},
		"dlv failed and does not say why":                                           {State: "failed"},
		"dlv to /good/0 failed, though the receiver has been well for long: " + why: {State: "failed", LastError: &why},
		"dlv to /good/0 is parked, though the webhook is active":                    {State: "parked"},
		"dlv to /good/0 is cancelled, and nobody did that":                          {State: "cancelled"},
		"stuck: dlv to /good/0 is retrying":                                         {State: "retrying"},
	} {
		t.Run(wrong, func(t *testing.T) {
			t.Parallel()
			l, deliveries := newLedger(), map[string]instance.Delivery{}
			l.accept("evt", goodEvents)
			l.accept("other", badEvents)
			if state.State != "" {
				state.ID = "dlv"
				deliveries["evt"] = state
			}
			b := newBalance()
			l.compareWebhook(b, subscribedWebhook{goodPath(0), goodEvents}, deliveries)
			require.Equal(t, 1, b.owed)
			require.Equal(t, []string{wrong}, b.wrong)
		})
	}
}

// Guards against a loss of ours that is put down to the database.
func TestOnlyWhatTheDatabaseForgotIsNotOwed(t *testing.T) {
	t.Parallel()
	l := newLedger()
	for _, id := range []string{"forgotten", "lost"} {
		l.accept(id, goodEvents)
	}
	l.forget("forgotten")
	b := newBalance()
	l.compareWebhook(b, subscribedWebhook{goodPath(0), goodEvents}, nil)
	require.Equal(t, 1, b.owed)
	require.Equal(t, 1, b.lost)
	require.Equal(t, []string{"lost: lost was accepted and has no delivery to /good/0"}, b.wrong)
}

func TestCopiesHaveTheirCause(t *testing.T) {
	t.Parallel()
	began := time.Now()
	at := func(seconds float64) time.Time { return began.Add(time.Duration(seconds * float64(time.Second))) }
	l := newLedger()
	l.spans = []span{
		{fault: "killed", began: at(10), recovered: at(20)},
		{fault: "cut", began: at(30), recovered: at(40)},
	}
	for _, c := range []struct {
		cause    string
		arrivals []time.Time
	}{
		{"killed", []time.Time{at(15), at(35)}},  // what was not recorded came again under the next fault
		{"killed", []time.Time{at(8.5), at(11)}}, // it was on the wire
		{"cut", []time.Time{at(25), at(35)}},
		{noFault, []time.Time{at(1), at(2)}},
	} {
		copies := map[string]int{}
		l.causes(c.arrivals, copies)
		require.Equal(t, map[string]int{c.cause: 1}, copies, c.arrivals)
	}
}

func TestEventHasArrivedWhenEveryGoodReceiverHasIt(t *testing.T) {
	t.Parallel()
	l := newLedger()
	for n := range goodWebhooks {
		require.False(t, l.arrived("evt"))
		r := httptest.NewRequest(http.MethodPost, goodPath(n), nil)
		r.Header.Set("webhook-id", "evt")
		require.Equal(t, n+1, l.received(r))
	}
	require.True(t, l.arrived("evt"))
}
