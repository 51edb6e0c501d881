package api

import (
	"reflect"

	"github.com/danielgtaylor/huma/v2"
)

const (
	securityAPIKey = "apiKey"
	tagService     = "Service"
)

const apiDescription = `Postrider delivers webhooks and does not lose them: it keeps subscriptions, accepts events, and signs and POSTs every event to every webhook that matches, with retries.

- Ids are a prefix, an underscore and a time-ordered id. Times are RFC 3339 in UTC.
- Errors are ` + "`application/problem+json`" + ` (RFC 9457). A 422 names broken rules by their location, as ` + "`body.timeout_ms`" + `. An id of another workspace is a 404, like one that does not exist. A 503 carries ` + "`Retry-After`" + `.
- Unknown fields and unknown query parameters are refused with a 422, and so is null for a field that may not be null.
- Request bodies are JSON of up to 256 KiB; a batch may have 8 MiB.
- Lists are newest first. Pass ` + "`next_cursor`" + ` as ` + "`cursor`" + ` to go on; it is null on the last page.
- Every response carries ` + "`X-Request-Id`" + `: the caller's own where it sent one, else a new one.`

// openAPIConfig is huma's configuration: JSON only, and none of the routes and
// links that huma would add of its own accord.
func openAPIConfig(version string) huma.Config {
	return huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info:    &huma.Info{Title: "Postrider", Version: version, Description: apiDescription},
			Tags: []*huma.Tag{
				{Name: tagWebhooks, Description: "Subscriptions: where events go, which, and how."},
				{Name: tagSecrets, Description: "Signing secrets of webhooks."},
				{Name: tagEvents, Description: "Publishing events, and what was published."},
				{Name: tagDeliveries, Description: "One event on its way to one webhook."},
				{Name: tagAdmin, Description: "Workspaces and API keys, for the scope admin."},
				{Name: tagService, Description: "Health and this reference."},
			},
			Components: &huma.Components{
				Schemas: huma.NewMapRegistry("#/components/schemas/", schemaName),
				SecuritySchemes: map[string]*huma.SecurityScheme{
					securityAPIKey: {Type: "apiKey", In: "header", Name: headerAPIKey, Description: "A workspace's key. Each operation says which scope it needs."},
				},
			},
		},
		Formats:       map[string]huma.Format{"application/json": huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat},
		DefaultFormat: "application/json",
		Transformers:  []huma.Transformer{fromHuma},
	}
}

// schemaName names a type in the document; huma's own error types get the names
// that RFC 9457 has for them.
func schemaName(t reflect.Type, hint string) string {
	switch name := huma.DefaultSchemaNamer(t, hint); name {
	case "ErrorModel":
		return "Problem"
	case "ErrorDetail":
		return "ProblemDetail"
	default:
		return name
	}
}
