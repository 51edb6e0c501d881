package receiver_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"postrider.dev/postrider/receiver"
	"postrider.dev/postrider/signing"
)

// A receiver is a handler: it verifies what comes, and refuses the first requests if asked.
func Example() {
	now := func() time.Time { return time.Date(2026, 3, 14, 9, 26, 53, 0, time.UTC) }
	handler := receiver.New(receiver.Options{
		Method: signing.Bearer, Secrets: []string{"token"}, Fail: 1, Now: now,
		OnReceived: func(r receiver.Received) { fmt.Println(receiver.Line(r)) },
	})
	body := []byte(`{"id": "evt_1", "type": "call.ended"}`)
	for range 2 {
		header, err := signing.Sign(signing.Bearer, []string{"token"}, signing.Message{ID: "evt_1", Timestamp: now(), Body: body})
		if err != nil {
			fmt.Println(err)
			return
		}
		request := httptest.NewRequest(http.MethodPost, "/hook", bytes.NewReader(body))
		request.Header = header
		handler.ServeHTTP(httptest.NewRecorder(), request)
	}
	// Output:
	// 09:26:53.000 call.ended evt_1 attempt 0 ✓ verified → 500 {"id":"evt_1","type":"call.ended"}
	// 09:26:53.000 call.ended evt_1 attempt 0 ✓ verified → 204 {"id":"evt_1","type":"call.ended"}
}
