package rest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// reference is the OpenAPI document in the order in which people read it.
type reference struct {
	Title, Version string
	Intro          []block
	Sections       []referenceSection
	Schemas        []referenceObject
}

type referenceSection struct {
	Name, Description string
	Operations        []referenceOperation
}

type referenceOperation struct {
	ID, Method, Path, Summary string
	Text                      []block
	Parameters                []referenceField
	Body                      *referenceObject
	Responses                 []referenceResponse
}

type referenceObject struct {
	Name   string
	Fields []referenceField
}

type referenceField struct {
	Name, In, Type, Rule, Text string
	Object                     string // name of the schema to link to; "" for no link
	Required                   bool
}

type referenceResponse struct {
	Status, Text, Object string
}

// block is a paragraph, or a list when it has items.
type block struct {
	Text  string
	Items []string
}

// newReference arranges the document by tag, then by path and method.
func newReference(document *huma.OpenAPI) reference {
	page := reference{Title: document.Info.Title, Version: document.Info.Version, Intro: blocks(document.Info.Description)}
	byTag := map[string][]referenceOperation{}
	for _, path := range slices.Sorted(maps.Keys(document.Paths)) {
		for _, operation := range operationsOf(document.Paths[path]) {
			byTag[operation.Tags[0]] = append(byTag[operation.Tags[0]], newReferenceOperation(operation, document.Components.Schemas))
		}
	}
	for _, tag := range document.Tags {
		page.Sections = append(page.Sections, referenceSection{Name: tag.Name, Description: tag.Description, Operations: byTag[tag.Name]})
	}
	schemas := document.Components.Schemas.Map()
	for _, name := range slices.Sorted(maps.Keys(schemas)) {
		page.Schemas = append(page.Schemas, referenceObject{Name: name, Fields: fieldsOf(schemas[name])})
	}
	return page
}

func operationsOf(item *huma.PathItem) []*huma.Operation {
	all := []*huma.Operation{item.Get, item.Post, item.Patch, item.Put, item.Delete}
	return slices.DeleteFunc(all, func(o *huma.Operation) bool { return o == nil })
}

func newReferenceOperation(o *huma.Operation, registry huma.Registry) referenceOperation {
	shown := referenceOperation{ID: o.OperationID, Method: o.Method, Path: o.Path, Summary: o.Summary, Text: blocks(o.Description)}
	for _, p := range o.Parameters {
		field := newReferenceField(p.Name, p.Schema)
		field.In, field.Required, field.Text = p.In, p.Required, p.Description
		shown.Parameters = append(shown.Parameters, field)
	}
	if o.RequestBody != nil {
		name := refName(o.RequestBody.Content["application/json"].Schema)
		shown.Body = &referenceObject{Name: name, Fields: fieldsOf(registry.Map()[name])}
	}
	for _, status := range slices.Sorted(maps.Keys(o.Responses)) {
		response := referenceResponse{Status: status, Text: o.Responses[status].Description}
		if code, err := strconv.Atoi(status); err == nil && response.Text == "" {
			response.Text = http.StatusText(code)
		}
		for _, media := range o.Responses[status].Content {
			response.Object = refName(media.Schema)
		}
		shown.Responses = append(shown.Responses, response)
	}
	return shown
}

// fieldsOf returns an object's fields, required ones first.
func fieldsOf(s *huma.Schema) []referenceField {
	fields := make([]referenceField, 0, len(s.Properties))
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		field := newReferenceField(name, s.Properties[name])
		field.Required = slices.Contains(s.Required, name)
		fields = append(fields, field)
	}
	slices.SortStableFunc(fields, func(a, b referenceField) int { return cmp.Compare(order(a), order(b)) })
	return fields
}

func order(f referenceField) int {
	if f.Required {
		return 0
	}
	return 1
}

func newReferenceField(name string, s *huma.Schema) referenceField {
	field := referenceField{Name: name, Type: s.Type, Text: s.Description, Object: refName(s)}
	bounds := s
	switch {
	case field.Object != "":
		field.Type = field.Object
	case s.Type == huma.TypeArray:
		field.Object = refName(s.Items)
		field.Type = cmp.Or(field.Object, s.Items.Type) + "[]"
		bounds = s.Items
	case s.Type == "":
		field.Type = "any JSON"
	case s.Format == "date-time" || s.Format == "uri":
		field.Type = s.Format
	}
	if s.Nullable {
		field.Type += " or null"
	}
	field.Rule = ruleOf(s, bounds)
	return field
}

// ruleOf says the rules of a value in words.
func ruleOf(s, item *huma.Schema) string {
	var rules []string
	add := func(format string, arguments ...any) { rules = append(rules, fmt.Sprintf(format, arguments...)) }
	if len(item.Enum) > 0 {
		names := make([]string, len(item.Enum))
		for i, value := range item.Enum {
			names[i] = fmt.Sprint(value)
		}
		add("one of %s", strings.Join(names, ", "))
	}
	if item.Minimum != nil && item.Maximum != nil {
		add("%v to %v", int64(*item.Minimum), int64(*item.Maximum))
	}
	switch {
	case item.MinLength != nil && item.MaxLength != nil:
		add("%d to %d characters", *item.MinLength, *item.MaxLength)
	case item.MaxLength != nil:
		add("at most %d characters", *item.MaxLength)
	}
	if s.MinItems != nil && s.MaxItems != nil {
		add("%d to %d entries", *s.MinItems, *s.MaxItems)
	}
	if item.PatternDescription != "" {
		add("%s", item.PatternDescription)
	}
	if s.Default != nil {
		if value, err := json.Marshal(s.Default); err == nil {
			add("default %s", value)
		}
	}
	return strings.Join(rules, "; ")
}

func refName(s *huma.Schema) string {
	if s == nil {
		return ""
	}
	return s.Ref[strings.LastIndex(s.Ref, "/")+1:]
}

// blocks splits a description into paragraphs and lists, and drops the backquotes of inline
// code. The descriptions of routes use no other Markdown.
func blocks(description string) []block {
	var split []block
	for _, paragraph := range strings.Split(strings.ReplaceAll(description, "`", ""), "\n\n") {
		if paragraph == "" {
			continue
		}
		if !strings.HasPrefix(paragraph, "- ") {
			split = append(split, block{Text: paragraph})
			continue
		}
		split = append(split, block{Items: strings.Split(strings.TrimPrefix(paragraph, "- "), "\n- ")})
	}
	return split
}
