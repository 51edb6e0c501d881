package activities

import (
	"context"
	"strconv"
	"time"

	"postrider.dev/postrider"
	"postrider.dev/postrider/egress"
	"postrider.dev/postrider/signing"
)

// Poster sends one request and waits for the end of its answer.
type Poster interface {
	// Post returns the attempt without its number, and the wait that the receiver asks for
	// before the next attempt. It returns an error only when ctx was cancelled, or when this
	// machine could not send anything; there was no attempt then.
	Post(ctx context.Context, request egress.Request) (postrider.Attempt, time.Duration, error)
}

// request returns the attempt's request: the body that the webhook's shape makes of the event, signed
// with the current time. The event's own headers replace the webhook's of the same name, and neither
// can replace Postrider's. The API refuses reserved names; this skips them in case they were stored
// all the same.
func (a *Activities) request(target postrider.Target, number int, now time.Time, body []byte) (egress.Request, error) {
	header, err := signing.Sign(target.SigningMethod, target.Secrets.Values(now), signing.Message{
		ID: target.Delivery.EventID, Timestamp: now, Body: body,
	})
	if err != nil {
		return egress.Request{}, err
	}
	header.Set(signing.HeaderDeliveryID, target.Delivery.ID)
	header.Set(signing.HeaderAttempt, strconv.Itoa(number))
	for _, custom := range []map[string]string{target.Headers, target.EventHeaders} {
		for name, value := range custom {
			if !postrider.ReservedHeader(name) {
				header.Set(name, value)
			}
		}
	}
	return egress.Request{
		URL: target.URL, Header: header, Body: body, Timeout: target.Delivery.Policy.Timeout(), TLS: target.TLS,
	}, nil
}
