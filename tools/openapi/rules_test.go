package openapi

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	operationID = regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`)
	snakeCase   = regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)
)

// findings are the places where a document is against a rule of the house.
type findings []string

func (f *findings) addf(format string, args ...any) { *f = append(*f, fmt.Sprintf(format, args...)) }

func TestDocumentKeepsTheRules(t *testing.T) {
	t.Parallel()
	require.Empty(t, check(read(t, document)))
}

func TestRulesFindWhatBreaksThem(t *testing.T) {
	t.Parallel()
	bad := object{
		"tags": []any{object{"name": "Good"}},
		"paths": object{"/api/v1/things": object{
			"get": object{
				"operationId": "ListThings", "tags": []any{"Bad"},
				"parameters": []any{object{"name": "pageSize", "in": "query", "schema": object{"type": "string"}}},
				"responses":  object{"200": object{}, "404": object{"content": object{"application/json": object{}}}},
			},
			"post": object{"operationId": "ListThings", "summary": "s", "description": "d", "tags": []any{"Good"}, "security": []any{object{}}},
		}},
		"components": object{"schemas": object{"Thing": object{"properties": object{
			"inner": object{"items": object{"properties": object{"camelCase": object{}}}},
		}}}},
	}
	require.Equal(t, findings{
		`GET /api/v1/things: the operationId "ListThings" is not in words-like-these`,
		"GET /api/v1/things: no summary",
		"GET /api/v1/things: no description",
		"GET /api/v1/things: its tags [Bad] are not one of the document's",
		"GET /api/v1/things: no security",
		`GET /api/v1/things: the parameter "pageSize" is not in snake_case`,
		`GET /api/v1/things: the parameter "pageSize" has neither a description nor an enum`,
		"GET /api/v1/things: 404 is not application/problem+json",
		`POST /api/v1/things: the operationId "ListThings" is not in words-like-these`,
		`POST /api/v1/things: the operationId "ListThings" is taken`,
		`Thing.inner[]: the field "camelCase" is not in snake_case`,
	}, check(bad))
}

// check returns what in a document is against the rules, in the order of paths and names.
func check(doc object) findings {
	var found findings
	var tags []any
	for _, tag := range doc["tags"].([]any) {
		tags = append(tags, tag.(map[string]any)["name"])
	}
	taken := map[string]bool{}
	for path, operations := range sorted(part(doc, "paths")) {
		for method, operation := range sorted(operations.(map[string]any)) {
			o, at := operation.(map[string]any), strings.ToUpper(method)+" "+path
			checkOperation(&found, at, o, tags, taken)
			if strings.HasPrefix(path, "/api/") && o["security"] == nil {
				found.addf("%s: no security", at)
			}
			checkParameters(&found, at, o)
			checkErrors(&found, at, o)
		}
	}
	for name, schema := range sorted(part(doc, "components", "schemas")) {
		checkFields(&found, name, schema.(map[string]any))
	}
	return found
}

// sorted yields the members of an object by name.
func sorted(o object) func(yield func(string, any) bool) {
	names := make([]string, 0, len(o))
	for name := range o {
		names = append(names, name)
	}
	slices.Sort(names)
	return func(yield func(string, any) bool) {
		for _, name := range names {
			if !yield(name, o[name]) {
				return
			}
		}
	}
}

func checkOperation(found *findings, at string, o object, tags []any, taken map[string]bool) {
	id, _ := o["operationId"].(string)
	if !operationID.MatchString(id) {
		found.addf("%s: the operationId %q is not in words-like-these", at, id)
	}
	if taken[id] {
		found.addf("%s: the operationId %q is taken", at, id)
	}
	taken[id] = true
	for _, text := range []string{"summary", "description"} {
		if o[text] == nil {
			found.addf("%s: no %s", at, text)
		}
	}
	if own, _ := o["tags"].([]any); len(own) != 1 || !slices.Contains(tags, own[0]) {
		found.addf("%s: its tags %v are not one of the document's", at, own)
	}
}

func checkParameters(found *findings, at string, o object) {
	parameters, _ := o["parameters"].([]any)
	for _, parameter := range parameters {
		p := parameter.(map[string]any)
		name := p["name"].(string)
		if p["in"] != "header" && !snakeCase.MatchString(name) {
			found.addf("%s: the parameter %q is not in snake_case", at, name)
		}
		if schema, _ := p["schema"].(map[string]any); p["description"] == nil && schema["enum"] == nil {
			found.addf("%s: the parameter %q has neither a description nor an enum", at, name)
		}
	}
}

// checkErrors wants problems (RFC 9457) for errors. The exception is /readyz, which lists its checks.
func checkErrors(found *findings, at string, o object) {
	responses, _ := o["responses"].(map[string]any)
	for status, response := range sorted(responses) {
		content, _ := response.(map[string]any)["content"].(map[string]any)
		_, problem := content["application/problem+json"]
		if (status[0] == '4' || status[0] == '5') && !problem && at != "GET /readyz" {
			found.addf("%s: %s is not application/problem+json", at, status)
		}
	}
}

func checkFields(found *findings, at string, schema object) {
	properties, _ := schema["properties"].(map[string]any)
	for name, property := range sorted(properties) {
		if !snakeCase.MatchString(name) {
			found.addf("%s: the field %q is not in snake_case", at, name)
		}
		checkFields(found, at+"."+name, property.(map[string]any))
	}
	if items, ok := schema["items"].(map[string]any); ok {
		checkFields(found, at+"[]", items)
	}
}
