// Package client calls Postrider's HTTP API.
//
//	c := client.New(client.Config{URL: "http://127.0.0.1:8080", APIKey: os.Getenv("POSTRIDER_API_KEY")})
//	receipt, err := c.PublishEvent(ctx, client.PublishEvent{Type: "call.ended", Data: map[string]any{"seconds": 42}})
//
// There is a method for each route, named by its operation in the API's document, and a type for each
// body. Both are generated: `make generate` writes them again after a change of the document.
//
//   - A list is an iterator over all of its pages, which are read as the loop goes on. The method with
//     Page at the end reads one page.
//   - An error that the API answered is a [*Problem] with the status, the broken fields and the request's
//     id; errors.As finds it.
//   - What may be left out is a pointer: new(5), new("name"). In a PATCH, what may be null is a [Nullable]:
//     [Set] gives a value, [Null] takes it away, and the zero value leaves it as it is.
//   - JSON of others, such as an event's data, is kept as bytes, so that no number changes.
//
// # Repeating
//
// A request that was answered 429 or 503, or not at all, is made again, up to [Config].Retries times, after
// the answer's Retry-After or a wait that doubles. So that nothing is done twice, a publish carries an
// Idempotency-Key, the caller's ([WithIdempotencyKey]) or one that is made for the call, and other POSTs are
// made again only when it is sure that the first one did nothing: it was answered 429, or no connection
// was made. A DELETE that is made again may find its own work done, and be answered 404.
//
// # Receiving
//
// Package postrider.dev/postrider/signing verifies the signatures of webhooks that come in: signing.Verify.
package client
