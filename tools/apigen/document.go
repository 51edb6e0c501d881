package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// document is an OpenAPI 3.1 document, as far as Postrider's uses it.
type document struct {
	Paths map[string]map[string]*operation
	Tags  []struct{ Name, Description string }

	Components struct{ Schemas map[string]*schema }

	operations []*operation // by path and method, in order
	asked      map[string]bool
	patched    map[string]bool
}

// operation is what a path does for a method.
type operation struct {
	ID                   string `json:"operationId"` //nolint:tagliatelle // OpenAPI's own name
	Summary, Description string
	Tags                 []string
	Parameters           []parameter
	Responses            map[string]struct{ Content content }
	Security             []map[string][]string
	RequestBody          *struct{ Content content }

	method, path string
}

type content map[string]struct{ Schema *schema }

// parameter is a part of a path, of the query or of the header.
type parameter struct {
	Name, In, Description string
	Required              bool
	Schema                *schema
}

// readDocument reads a document and puts its operations in order.
func readDocument(path string) (document, error) {
	var d document
	text, err := os.ReadFile(path) //nolint:gosec // the path of the project's document
	if err != nil {
		return d, err
	}
	if err := json.Unmarshal(text, &d); err != nil {
		return d, fmt.Errorf("%s: %w", path, err)
	}
	for _, path := range slices.Sorted(maps.Keys(d.Paths)) {
		for _, method := range slices.Sorted(maps.Keys(d.Paths[path])) {
			o := d.Paths[path][method]
			o.method, o.path = strings.ToUpper(method), path
			if o.answersJSON() {
				d.operations = append(d.operations, o)
			}
		}
	}
	d.findRequests()
	return d, nil
}

// findRequests notes the schemas that are in bodies of requests, and those that a PATCH takes itself.
func (d *document) findRequests() {
	d.asked, d.patched = map[string]bool{}, map[string]bool{}
	for _, o := range d.operations {
		if body := o.body(); body != nil {
			d.ask(body)
			d.patched[body.name()] = d.patched[body.name()] || o.method == "PATCH"
		}
	}
}

func (d *document) ask(s *schema) {
	if name := s.name(); name != "" && !d.asked[name] {
		d.asked[name] = true
		for _, property := range d.Components.Schemas[name].Properties {
			d.ask(property)
		}
	}
	if s.Items != nil {
		d.ask(s.Items)
	}
}

// resolve returns the schema that s refers to, or s.
func (d *document) resolve(s *schema) *schema {
	if s != nil && s.Ref != "" {
		return d.Components.Schemas[s.name()]
	}
	return s
}

// answersJSON tells routes for programs from pages for browsers.
func (o *operation) answersJSON() bool {
	for status, response := range o.Responses {
		_, isJSON := response.Content["application/json"]
		if strings.HasPrefix(status, "2") && (isJSON || len(response.Content) == 0) {
			return true
		}
	}
	return false
}

// answer returns the schema of the answer, or nil: that of the highest status of success, because a lower
// one beside it says that nothing was done.
func (o *operation) answer() *schema {
	for _, status := range slices.Backward(slices.Sorted(maps.Keys(o.Responses))) {
		if strings.HasPrefix(status, "2") {
			return o.Responses[status].Content["application/json"].Schema
		}
	}
	return nil
}

// silent reports whether a success has no body.
func (o *operation) silent() bool {
	for status, response := range o.Responses {
		if strings.HasPrefix(status, "2") && len(response.Content) > 0 {
			return false
		}
	}
	return true
}

func (o *operation) body() *schema {
	if o.RequestBody == nil {
		return nil
	}
	return o.RequestBody.Content["application/json"].Schema
}

// in returns the parameters of a place: path, query or header.
func (o *operation) in(place string) []parameter {
	var found []parameter
	for _, p := range o.Parameters {
		if p.In == place {
			found = append(found, p)
		}
	}
	return found
}

// item returns the schema of the items of a list that is read in pages, or nil.
func (d *document) item(o *operation) *schema {
	answer := d.resolve(o.answer())
	if answer == nil || answer.Properties["next_cursor"] == nil || answer.Properties["data"] == nil {
		return nil
	}
	return answer.Properties["data"].Items
}
