package api

import (
	"context"
	"net/http"
	"regexp"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"postrider.dev/postrider/api/rest"
	"postrider.dev/postrider/shaping"
)

// server has the state that all handlers share.
type server struct {
	Config
	rest   *rest.API
	shaper *shaping.Shaper
}

// Secure puts the headers on every answer of a handler that those of [New] have, too.
func Secure(handler http.Handler) http.Handler { return rest.Secure(handler) }

// New returns the API's handler. It serves everything under /api/v1, the health
// routes, the OpenAPI document and the reference page.
func New(config Config) http.Handler { return newServer(config).rest }

func newServer(config Config) *server {
	if config.OnAccepted == nil {
		config.OnAccepted = func(int, int) {}
	}
	if config.OnSchemaBroken == nil {
		config.OnSchemaBroken = func(int) {}
	}
	if config.OnAuthenticated == nil {
		config.OnAuthenticated = func(context.Context) {}
	}
	if config.Stopping == nil {
		config.Stopping = func() bool { return false }
	}
	s := &server{Config: config, shaper: shaping.New(), rest: rest.New(rest.Config{
		Document:     document(config.Version),
		Authorize:    newKeyring(config).authorize,
		Now:          config.Now,
		NewRequestID: func() string { return config.IDs.New("req") },
		Logger:       config.Logger,
		Sensitive:    sensitive,
		OnRequest:    config.OnRequest,
		Stopping:     config.Stopping,
		ReadTimeout:  config.ReadTimeout,
		Tracer:       config.Tracer,
	})}
	s.routeWebhooks()
	s.routeSecrets()
	s.routeAdmin()
	s.routeEvents()
	s.routeCatalogue()
	s.routeWebhookTest()
	s.routeDeliveries()
	s.routeExpressions()
	s.routeDeliveryActions()
	s.routeReplays()
	s.routeStats()
	s.routeAudit()
	s.routeHealth()
	s.describeOperational()
	s.rest.HandleReference()
	return s
}

const apiDescription = "Postrider delivers webhooks and does not lose them: it keeps subscriptions, accepts events, " +
	"and signs and POSTs every event to every webhook that matches, with retries.\n\n" +
	"- Ids are a prefix, an underscore and a time-ordered id. Times are RFC 3339 in UTC.\n" +
	"- Errors are `application/problem+json` (RFC 9457). A 422 names broken rules by their location, as `body.timeout_ms`. " +
	"An id of another workspace is a 404, like one that does not exist. " +
	"A 429 and a 503 carry `Retry-After`.\n" +
	"- Unknown fields and unknown query parameters are refused with a 422, and so is null for a field that may not be null.\n" +
	"- Request bodies are JSON of up to 256 KiB, without a Content-Encoding; a batch may have 8 MiB.\n" +
	"- HEAD is answered wherever GET is.\n" +
	"- Lists are newest first. Pass `next_cursor` as `cursor` to go on; it is null on the last page. " +
	"A page of a filtered list may have fewer items than its limit, or none, while there are more: go by `next_cursor` alone.\n" +
	"- Event types that begin with `postrider.` are the engine's own: what became of deliveries and webhooks. " +
	"They go to global webhooks that subscribe to them by name or by `postrider.*`, and cannot be published.\n" +
	"- Every response carries `X-Request-Id`: the caller's own where it sent one, else a new one."

// document describes the API as a whole.
func document(version string) rest.Document {
	return rest.Document{
		Title: "Postrider", Version: version, Description: apiDescription,
		Tags: []*huma.Tag{
			{Name: tagWebhooks, Description: "Subscriptions: where events go, which, and how."},
			{Name: tagSecrets, Description: "Signing secrets of webhooks."},
			{Name: tagEvents, Description: "Publishing events, and what was published."},
			{Name: tagCatalogue, Description: "The catalogue: what types of events there are, and what their data must look like."},
			{Name: tagExpressions, Description: "Filters and transforms, in CEL."},
			{Name: tagDeliveries, Description: "One event on its way to one webhook."},
			{Name: tagReplays, Description: "Jobs that send again what failed or was missed."},
			{Name: tagStats, Description: "What happened to deliveries over time."},
			{Name: tagAudit, Description: "Who did what to which resource, and when."},
			{Name: tagAdmin, Description: "Workspaces and API keys, for the scope admin."},
		},
	}
}

// headersRule is where in a body custom headers stand: a webhook's, an event's, or those of an
// event in a batch.
var headersRule = regexp.MustCompile(`^body\.(events\[\d+\]\.)?headers`)

// sensitive reports whether an error must not repeat a value: secrets, headers, what tls has, and a URL
// that may carry a password.
func sensitive(location string, value any) bool {
	if location == "body.secret" || strings.HasPrefix(location, "body.tls") || headersRule.MatchString(location) {
		return true
	}
	text, isText := value.(string)
	return isText && location == "body.url" && strings.Contains(text, "@")
}
