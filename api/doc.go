// Package api is Postrider's HTTP API: one file a resource, and the OpenAPI
// document and the reference page that are generated from them.
//
// The way of a request:
//
//	record    gives it an id, and logs one line when it is over
//	recover   turns a panic into a 500 that says nothing
//	admit     key (401), scope (403), text of the query (422), body (400, 413, 415, 422)
//	handler   speaks in the domain's types to the store; returns its errors as they are
//	problem   maps an error to a status, in one place
//
// Invariants:
//   - Every refusal is an application/problem+json document (RFC 9457).
//   - An id of another workspace is answered like one that does not exist, byte for
//     byte, so the X-Request-Id stays out of bodies and ids out of details.
//   - No secret, key or custom header value is logged or repeated in an error.
//   - What the OpenAPI document says about a body is what is enforced: the schema
//     that is published is the one that bodies are checked against. Rules that a
//     schema cannot state are the domain's.
//
// Types that others embed ([PageQuery], [Event], ...) are exported because huma sees
// exported fields only; nothing outside is meant to use them.
package api
