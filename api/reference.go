package api

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

// referencePolicy lets the page load nothing from anywhere: its style stands in it.
const referencePolicy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

func (s *server) routeReference(engine *gin.Engine) {
	document := s.docs.OpenAPI()
	text := func(media string) map[string]*huma.MediaType {
		return map[string]*huma.MediaType{media: {}}
	}
	document.AddOperation(&huma.Operation{
		Method: http.MethodGet, Path: "/openapi.json", OperationID: "openapi", Tags: []string{tagService},
		Summary: "OpenAPI Document", Description: "This API in OpenAPI 3.1. Needs no key.", Security: []map[string][]string{},
		Responses: map[string]*huma.Response{"200": {Description: "The document.", Content: text("application/json")}},
	})
	document.AddOperation(&huma.Operation{
		Method: http.MethodGet, Path: "/docs", OperationID: "docs", Tags: []string{tagService},
		Summary: "Reference", Description: "The document as a page that loads nothing else. Needs no key.", Security: []map[string][]string{},
		Responses: map[string]*huma.Response{"200": {Description: "The page.", Content: text("text/html")}},
	})
	document.AddOperation(&huma.Operation{
		Method: http.MethodGet, Path: "/", OperationID: "front", Tags: []string{tagService},
		Summary: "Front Page", Description: "Leads to the reference. Needs no key.", Security: []map[string][]string{},
		Responses: map[string]*huma.Response{"302": {Description: "To /docs."}},
	})
	// Rendered when first asked for: every route is registered then.
	asJSON := sync.OnceValues(func() ([]byte, error) { return json.MarshalIndent(document, "", "  ") })
	asPage := sync.OnceValues(func() ([]byte, error) { return renderReference(document) })
	engine.GET("/openapi.json", s.static("application/json", asJSON))
	// Who opens the address that the server prints wants to read.
	engine.GET("/", func(c *gin.Context) { c.Redirect(http.StatusFound, "/docs") })
	engine.GET("/docs", func(c *gin.Context) {
		c.Header("Content-Security-Policy", referencePolicy)
		s.static("text/html; charset=utf-8", asPage)(c)
	})
}

// static serves what render returns.
func (s *server) static(contentType string, render func() ([]byte, error)) gin.HandlerFunc {
	return func(c *gin.Context) {
		content, err := render()
		if err != nil {
			s.fail(c, err)
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
