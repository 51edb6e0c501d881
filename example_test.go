package postrider_test

import (
	"fmt"
	"time"

	"postrider.dev/postrider"
)

// Receivers of an event get these bytes, on every attempt the same ones.
func ExampleRenderBody() {
	body, err := postrider.RenderBody(postrider.Event{
		ID: "evt_1", Type: "call.ended", Timestamp: time.Date(2026, 3, 14, 9, 26, 53, 0, time.UTC),
	}, []byte(`{"call":1,"seconds":42}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(string(body))
	// Output: {"id":"evt_1","type":"call.ended","timestamp":"2026-03-14T09:26:53Z","persona_id":null,"data":{"call":1,"seconds":42}}
}

// A webhook that subscribes to one of these patterns gets the event.
func ExamplePatternsFor() {
	for _, pattern := range postrider.PatternsFor("call.leg.ended") {
		fmt.Println(pattern)
	}
	// Output:
	// *
	// call.*
	// call.leg.*
	// call.leg.ended
}

// A webhook's own waits double with every attempt, up to an hour.
func ExamplePolicy_Backoff() {
	policy := postrider.Policy{BackoffMS: 60_000}
	for _, attempt := range []int{1, 2, 3, 10} {
		fmt.Println(policy.Backoff(attempt))
	}
	// Output:
	// 1m0s
	// 2m0s
	// 4m0s
	// 1h0m0s
}

// Ids hold their time, so a range of times is a range of ids.
func ExampleIDFloor() {
	midnight := time.Date(2026, 3, 14, 0, 0, 0, 0, time.UTC)
	since := postrider.IDFloor(postrider.PrefixDelivery, midnight)
	at, err := postrider.IDTime(since)
	fmt.Println(since)
	fmt.Println(at, err)
	// Output:
	// dlv_019ce9a4880070008000000000000000
	// 2026-03-14 00:00:00 +0000 UTC <nil>
}
