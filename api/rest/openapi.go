package rest

import (
	"net/http"
	"reflect"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"postrider.dev/postrider"
)

// TagService is the tag of the routes that need no key.
const TagService = "Service"

const securityAPIKey = "apiKey"

// Document is the general part of the OpenAPI document.
type Document struct {
	Title, Version string
	Description    string      // Markdown: paragraphs, lists and inline code
	Tags           []*huma.Tag // in the order of the page; [TagService] comes after them
}

// openAPIConfig is huma's configuration: JSON only, without the routes and links that huma
// adds by default.
func (a *API) openAPIConfig() huma.Config {
	about := a.Document
	schemas := huma.NewMapRegistry("#/components/schemas/", schemaName)
	schemas.RegisterTypeAlias(reflect.TypeFor[postrider.RetrySchedule](), reflect.TypeFor[[]int]()) // as its JSON is
	return huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info:    &huma.Info{Title: about.Title, Version: about.Version, Description: about.Description},
			// So that documents show times by their usual name.
			OnAddOperation: []huma.AddOpFunc{showTimes},
			Tags:           append(about.Tags, &huma.Tag{Name: TagService, Description: "Health and this reference."}),
			Components: &huma.Components{
				Schemas: schemas,
				SecuritySchemes: map[string]*huma.SecurityScheme{
					securityAPIKey: {
						Type: "apiKey", In: "header", Name: HeaderAPIKey,
						Description: "A workspace's key. Each operation says which scope it needs.",
					},
				},
			},
		},
		Formats:       map[string]huma.Format{"application/json": huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat},
		DefaultFormat: "application/json",
		Transformers:  []huma.Transformer{a.fromHuma},
	}
}

// DescribeWebhook adds to the document a request that receivers get, with a body of type T. Each type
// of event is described once.
func DescribeWebhook[T any](a *API, eventType, summary, description string) {
	document := a.docs.OpenAPI()
	if document.Webhooks == nil {
		document.Webhooks = map[string]*huma.PathItem{}
	}
	document.Webhooks[eventType] = &huma.PathItem{Post: &huma.Operation{
		Summary: summary, Description: description,
		RequestBody: &huma.RequestBody{
			Required: true, Content: map[string]*huma.MediaType{"application/json": {Schema: SchemaOf[T](a)}},
		},
		Responses: map[string]*huma.Response{strconv.Itoa(http.StatusOK): {Description: "Any 2xx says that it was received."}},
	}}
}

// schemaName names a type in the document. huma's own error types get the names that RFC
// 9457 has for them.
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
