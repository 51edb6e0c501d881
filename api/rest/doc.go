// Package rest wraps huma and gin for Postrider's HTTP API. It has the parts that all routes
// share, and knows no resource.
//
//	api.go        Config, New, and routes without a key
//	route.go      Route, Handle, HandleBody, and the checks before a handler
//	body.go       Body: type, syntax, decoding; JSONBody and PatchBody
//	intake.go     how bodies are read, and the bound of their memory
//	schema.go     the check of a body against its schema
//	problem.go    errors as RFC 9457 documents, with their statuses
//	request.go    the request id, the log line, panics
//	trace.go      a span for each request
//	page.go       queries and answers of lists
//	time.go       RFC 3339
//	secure.go     the headers that are on every answer
//	openapi.go    the OpenAPI document
//	reference.go  the document as JSON and as a page; reference_view.go arranges the page
//
// [New] makes an API, [Handle] and [HandleBody] add routes to it, and it serves them as an
// [http.Handler]:
//
//	a := rest.New(rest.Config{…, Authorize: keys.authorize})
//	rest.HandleBody(a, rest.Route{Method: "POST", Path: "/notes", …}, rest.JSONBody[note](a, nil), s.createNote)
//
// A handler gets its parameters and its body as values of the types that the document
// describes: the rules of those types' struct tags have been checked. An error that it
// returns becomes a problem document: a [postrider.Error] by its code, a [BrokenField] or
// [TooLarge] as they are, and any other a 500 without its text.
//
// Routes are added before the first request. After that an API is safe for concurrent use.
package rest
