package egress_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"time"

	"postrider.dev/postrider/egress"
)

// A client that may deliver to the loopback network reaches a receiver under development. The
// attempt holds what the receiver answered, and the wait that it asked for.
func ExampleClient_Post_allowedNetwork() {
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "120")
		http.Error(w, "in maintenance", http.StatusServiceUnavailable)
	}))
	defer receiver.Close()
	client := egress.New(egress.Config{AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Now: time.Now})
	defer client.Close()

	attempt, retryAfter, err := client.Post(context.Background(), egress.Request{
		URL: receiver.URL, Body: []byte(`{"type":"call.ended"}`), Timeout: 10 * time.Second,
	})
	fmt.Println(err)
	fmt.Println(attempt.Result, *attempt.StatusCode, *attempt.RemoteIP)
	fmt.Print(*attempt.Error, ": ", *attempt.ResponseExcerpt)
	fmt.Println(retryAfter)
	// Output:
	// <nil>
	// server_error 503 127.0.0.1
	// answered 503 Service Unavailable: in maintenance
	// 2m0s
}
