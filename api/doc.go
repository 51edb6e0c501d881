// Package api is Postrider's HTTP API, one file a resource. Package rest, below it, wraps
// huma and gin, and has the parts that all routes share.
//
//	api.go            New: the routes, and the general part of the OpenAPI document
//	config.go         the parameters of New: the store, the clock, the logger, the hooks
//	auth.go           authentication by API key, and its cache
//	webhooks.go       webhooks; webhook_types.go has their bodies and answers
//	secrets.go        signing secrets: reveal and rotate
//	events.go         publish and read events; event_types.go has their bodies and answers
//	event_decoder.go  the bodies of a publish, decoded the quick way or the thorough way
//	deliveries.go     deliveries and their attempts, from the database
//	history.go        a delivery's life, asked of its workflow
//	stats.go          what happened over time, from rollups
//	audit.go          the audit log; what it tells is written by the store, with what it tells of
//	admin.go          workspaces and API keys
//	health.go         /healthz and /readyz
//
// # The way of a request
//
//	rest: log      gives the request an id, and logs one line when it is over
//	rest: recover  turns a panic into a 500 without details
//	authorize      the key (401) and its scope (403)
//	rest: text     bytes in the path or the query that no stored text can equal (404, 422)
//	rest: body     its length (413), type and encoding (415), memory (503), syntax (400) and schema (422)
//	rest: query    the other parameters (422)
//	handler        speaks in the domain's types to the store, and returns its errors unchanged
//	rest: problem  maps an error to a status, in one place
//
// # Where to add a route
//
// Call [rest.Handle], or [rest.HandleBody] if it takes a body, in the route… function of
// its resource's file. A new resource is a new file with a store interface, which [Store]
// embeds, a tag in the document function, and a call of its route… function in newServer
// (all in api.go). Update the golden document with `go test ./api -update`, and read the
// diff: clients rely on it. A webhook's field goes into [postrider.WebhookSettings] alone.
//
// # Invariants
//
//   - Every refusal is an application/problem+json document (RFC 9457).
//   - An id of another workspace is answered like one that does not exist, byte for byte.
//     Therefore no body contains the X-Request-Id, and no detail contains an id.
//   - No secret, key or custom header value is logged or repeated in an error.
//   - The schema in the OpenAPI document is the one that bodies are checked against. The
//     domain checks the rules that a schema cannot state.
//
// Types that other types embed ([WebhookPath], [Event], …) are exported because huma sees
// exported fields only. No other package is meant to use them.
package api
