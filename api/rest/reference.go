package rest

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"html/template"
	"net/http"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gin-gonic/gin"
)

//go:embed reference.html
var referencePage string

// referencePolicy forbids the page to load or run anything. Its style sheet is inside it.
const referencePolicy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// HandleReference adds the OpenAPI document, the page made from it, and a redirect from /
// to that page.
func (a *API) HandleReference() {
	document := a.docs.OpenAPI()
	answer := func(status, description, media string) map[string]*huma.Response {
		response := &huma.Response{Description: description}
		if media != "" {
			response.Content = map[string]*huma.MediaType{media: {}}
		}
		return map[string]*huma.Response{status: response}
	}
	// Rendered when first asked for, because every route is registered then.
	asJSON := sync.OnceValues(func() ([]byte, error) { return json.MarshalIndent(document, "", "  ") })
	asPage := sync.OnceValues(func() ([]byte, error) { return renderReference(document) })
	a.handleOpen(&huma.Operation{
		Path: "/openapi.json", OperationID: "openapi", Tags: []string{TagService},
		Summary: "OpenAPI Document", Description: "This API in OpenAPI 3.1. Needs no key.",
		Responses: answer("200", "The document.", "application/json"),
	}, a.static("application/json", asJSON))
	a.handleOpen(&huma.Operation{
		Path: "/docs", OperationID: "docs", Tags: []string{TagService},
		Summary: "Reference", Description: "The document as a page that loads nothing else. Needs no key.",
		Responses: answer("200", "The page.", "text/html"),
	}, func(c *gin.Context) {
		c.Header("Content-Security-Policy", referencePolicy)
		a.static("text/html; charset=utf-8", asPage)(c)
	})
	a.handleOpen(&huma.Operation{
		Path: "/", OperationID: "front", Tags: []string{TagService},
		Summary: "Front Page", Description: "Leads to the reference. Needs no key.",
		Responses: answer("302", "To /docs.", ""),
	}, func(c *gin.Context) { c.Redirect(http.StatusFound, "/docs") })
}

// static answers with what render returns.
func (a *API) static(contentType string, render func() ([]byte, error)) gin.HandlerFunc {
	return func(c *gin.Context) {
		content, err := render()
		if err != nil {
			a.fail(c, err)
			return
		}
		c.Data(http.StatusOK, contentType, content)
	}
}

func renderReference(document *huma.OpenAPI) ([]byte, error) {
	page, err := template.New("reference").Parse(referencePage)
	if err != nil {
		return nil, err
	}
	var rendered bytes.Buffer
	err = page.Execute(&rendered, newReference(document))
	return rendered.Bytes(), err
}
