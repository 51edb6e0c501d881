package signing_test

import (
	"fmt"
	"net/http"
	"time"

	"postrider.dev/postrider/signing"
)

// A request that is signed for Standard Webhooks carries GitHub's signature, too.
func ExampleSign() {
	header, err := signing.Sign(signing.HMACSHA256, []string{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}, signing.Message{
		ID: "msg_p5jXN8AQM9LWM0D4loKWxJek", Timestamp: time.Unix(1614265330, 0), Body: []byte(`{"test": 2432232314}`),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, name := range []string{signing.HeaderID, signing.HeaderTimestamp, signing.HeaderSignature} {
		fmt.Println(name+":", header.Get(name))
	}
	// Output:
	// Webhook-Id: msg_p5jXN8AQM9LWM0D4loKWxJek
	// Webhook-Timestamp: 1614265330
	// Webhook-Signature: v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=
}

// While a secret rotates, a receiver accepts what either secret signed.
func ExampleVerify() {
	body, now := []byte(`{"id":"evt_1"}`), time.Unix(1700000000, 0)
	header, err := signing.Sign(signing.HMACSHA256, []string{"the old secret"}, signing.Message{ID: "evt_1", Timestamp: now, Body: body})
	if err != nil {
		fmt.Println(err)
		return
	}
	verify := func(header http.Header, secrets ...string) error {
		return signing.Verify(signing.HMACSHA256, secrets, header, body, now, signing.DefaultTolerance)
	}
	fmt.Println(verify(header, "the new secret", "the old secret"))
	fmt.Println(verify(header, "the new secret"))
	fmt.Println(verify(http.Header{}, "the new secret"))
	// Output:
	// <nil>
	// signing: signature does not match
	// signing: missing header: webhook-id
}
