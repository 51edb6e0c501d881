package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"

	"postrider.dev/postrider/client"
)

// A publish is made again by itself when the API is away, and nothing is sent twice.
func ExampleClient_PublishEvent() {
	ctx := context.Background()
	api := exampleAPI(http.StatusAccepted, `{"id":"evt_1","type":"call.ended","deliveries":2,"parked":0,"duplicate":false}`)
	defer api.Close()

	c := client.New(client.Config{URL: api.URL, APIKey: os.Getenv("POSTRIDER_API_KEY")})
	receipt, err := c.PublishEvent(ctx, client.PublishEvent{Type: "call.ended", Data: map[string]any{"seconds": 42}})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(receipt.ID, "goes to", receipt.Deliveries, "webhooks")
	// Output: evt_1 goes to 2 webhooks
}

// A list is an iterator over all of its pages.
func ExampleClient_ListDeliveries() {
	ctx := context.Background()
	api := exampleAPI(http.StatusOK, `{"data":[{"id":"dlv_2"},{"id":"dlv_1"}],"next_cursor":null}`)
	defer api.Close()

	c := client.New(client.Config{URL: api.URL})
	for delivery, err := range c.ListDeliveries(ctx, client.ListDeliveriesParams{State: []string{"failed", "retrying"}}) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(delivery.ID)
	}
	// Output:
	// dlv_2
	// dlv_1
}

// What the API refuses is a Problem, with the fields that broke a rule.
func ExampleProblem() {
	ctx := context.Background()
	api := exampleAPI(http.StatusUnprocessableEntity,
		`{"title":"Unprocessable Entity","status":422,"detail":"validation failed","errors":[{"location":"body.url","message":"too long"}]}`)
	defer api.Close()

	c := client.New(client.Config{URL: api.URL})
	_, err := c.CreateWebhook(ctx, client.CreateWebhook{URL: "https://example.com/…", Events: []string{"*"}, MaxRetries: new(5)})
	var problem *client.Problem
	if errors.As(err, &problem) {
		for _, broken := range problem.Errors {
			fmt.Println(problem.Status, broken.Location, broken.Message)
		}
	}
	// Output: 422 body.url too long
}

// A PATCH tells a field that is set from one that becomes null and one that stays.
func ExampleClient_UpdateWebhook() {
	ctx := context.Background()
	api := exampleAPI(http.StatusOK, `{"id":"wh_1","rate_limit":10,"name":null}`)
	defer api.Close()

	c := client.New(client.Config{URL: api.URL})
	w, err := c.UpdateWebhook(ctx, "wh_1", client.UpdateWebhook{RateLimit: client.Set(10), Name: client.Null[string]()})
	fmt.Println(*w.RateLimit, w.Name == nil, err)
	// Output: 10 true <nil>
}

// exampleAPI is a server that answers the same to every request.
func exampleAPI(status int, body string) *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if status >= http.StatusBadRequest {
			w.Header().Set("Content-Type", "application/problem+json")
		}
		w.WriteHeader(status)
		_, _ = fmt.Fprint(w, body)
	}))
}
