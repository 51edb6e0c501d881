package signing_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"time"

	"postrider.dev/postrider/signing"
)

// A receiver written in Go verifies each request before it reads the event.
func ExampleVerify_handler() {
	const secret = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
	handler := func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err == nil {
			err = signing.Verify(signing.HMACSHA256, []string{secret}, r.Header, body, time.Now(), signing.DefaultTolerance)
		}
		if err != nil {
			http.Error(w, "not verified", http.StatusUnauthorized)
			return
		}
		// webhook-id is the same in every attempt: remember it, and ignore repeated requests.
		fmt.Println("received", r.Header.Get(signing.HeaderID))
		w.WriteHeader(http.StatusNoContent)
	}

	body := []byte(`{"id":"evt_1","type":"call.ended"}`)
	for _, sender := range []string{secret, "another secret"} {
		header, err := signing.Sign(signing.HMACSHA256, []string{sender}, signing.Message{ID: "evt_1", Timestamp: time.Now(), Body: body})
		if err != nil {
			fmt.Println(err)
			return
		}
		request := httptest.NewRequest(http.MethodPost, "/hook", bytes.NewReader(body))
		request.Header = header
		answer := httptest.NewRecorder()
		handler(answer, request)
		fmt.Println(answer.Code)
	}
	// Output:
	// received evt_1
	// 204
	// 401
}
