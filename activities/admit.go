package activities

import (
	"context"
	"log/slog"
	"time"

	"go.temporal.io/sdk/temporal"

	"postrider"
)

// ErrorNoPlace is the type of the error by which Retry says that the webhook has
// as many attempts under way as it allows. It uses up no attempt of the receiver's.
const ErrorNoPlace = "NoPlace"

// Times of a retry that waits for a place.
const (
	maxPlaceWait  = 5 * time.Second        // what an activity waits by itself, within its grace
	firstAskAgain = 250 * time.Millisecond // until it asks again, when it is not late yet
	lastAskAgain  = 5 * time.Minute
	recordGrace   = 5 * time.Second // for the attempt's record, after its deadline
	leaveTimeout  = 5 * time.Second
)

// admit waits for the attempt's place under its webhook's limits. Where there is
// none, it returns an error with the time to ask again as its next retry delay:
// the later the attempt is already, the longer, so that thousands that wait for one
// slow receiver do not keep the database busy with asking.
func (a *Activities) admit(ctx context.Context, target postrider.Target) error {
	d := target.Delivery
	if d.State.Finished() || callOff(target) != "" {
		return nil
	}
	again := a.askAgain(d)
	admission, err := a.Store.Admit(ctx, d, postrider.Ask{Hold: d.Policy.Timeout() + recordGrace, MaxWait: maxPlaceWait, Again: again})
	if err != nil {
		return err
	}
	if !admission.Granted {
		return temporal.NewApplicationErrorWithOptions("the webhook has no room for another attempt now", ErrorNoPlace,
			temporal.ApplicationErrorOptions{NextRetryDelay: max(again, admission.Wait), Category: temporal.ApplicationErrorCategoryBenign})
	}
	turn, cancel := context.WithTimeout(ctx, admission.Wait)
	defer cancel()
	<-turn.Done()
	if ctx.Err() != nil {
		a.leave(ctx, d.ID)
	}
	return ctx.Err()
}

// askAgain is half of how late the attempt is, give or take a quarter.
func (a *Activities) askAgain(d postrider.Delivery) time.Duration {
	due := d.DueAt
	if d.NextAttemptAt != nil {
		due = *d.NextAttemptAt
	}
	wait := min(max(a.Now().Sub(due)/2, firstAskAgain), lastAskAgain)
	return time.Duration(float64(wait) * (0.75 + a.Random()/2))
}

// leave is best effort: the place ends by itself.
func (a *Activities) leave(ctx context.Context, deliveryID string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	if err := a.Store.Leave(ctx, deliveryID); err != nil {
		a.Logger.LogAttrs(ctx, slog.LevelWarn, "place not given up, it will end by itself", slog.String("delivery_id", deliveryID), slog.Any("error", err))
	}
}
