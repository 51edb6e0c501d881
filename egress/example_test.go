package egress_test

import (
	"context"
	"fmt"
	"time"

	"postrider.dev/postrider/egress"
)

// Unless its network is allowed, no loopback or private address gets a request.
func ExampleClient_Post() {
	client := egress.New(egress.Config{Now: time.Now})
	defer client.Close()
	attempt, _, err := client.Post(context.Background(), egress.Request{
		URL: "http://127.0.0.1:9000/hook", Body: []byte(`{}`), Timeout: time.Second,
	})
	fmt.Println(attempt.Result, err)
	fmt.Println(*attempt.Error)
	// Output:
	// blocked <nil>
	// not sent: the URL must not point to a loopback, private or otherwise special address
}

// An operator names the networks that may get requests all the same.
func ExampleParseNetworks() {
	networks, err := egress.ParseNetworks("10.1.0.0/16, ::1/128")
	fmt.Println(networks, err)
	_, err = egress.ParseNetworks("10.1.0.0/33")
	fmt.Println(err != nil)
	// Output:
	// [10.1.0.0/16 ::1/128] <nil>
	// true
}
