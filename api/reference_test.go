package api_test

import (
	"encoding/json"
	"flag"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/api"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestOpenAPIDocument(t *testing.T) {
	t.Parallel()
	b := setup(t)
	served := b.getDocument(t)
	golden := filepath.Join("testdata", "openapi.json")
	if *update {
		require.NoError(t, os.WriteFile(golden, append(served, '\n'), 0o644))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.JSONEq(t, string(want), string(served), "run the tests with -update if the change is meant")

	var document struct {
		OpenAPI    string
		Paths      map[string]map[string]any
		Components struct{ Schemas map[string]any }
	}
	require.NoError(t, json.Unmarshal(served, &document))
	require.Regexp(t, `^3\.1\.`, document.OpenAPI)

	documented := 0
	for _, operations := range document.Paths {
		documented += len(operations)
	}
	routes := api.Routes()
	require.Len(t, routes, documented)
	for _, route := range routes {
		require.Contains(t, document.Paths[route.Path], strings.ToLower(route.Method), route.Path)
	}
	for _, ref := range regexp.MustCompile(`#/components/schemas/(\w+)`).FindAllStringSubmatch(string(served), -1) {
		require.Contains(t, document.Components.Schemas, ref[1])
	}
}

// getDocument is not [bundle.do]: the document may mention anything.
func (b *bundle) getDocument(t *testing.T) []byte {
	t.Helper()
	return b.do(http.MethodGet, "/openapi.json", "", "X-API-Key", "").Body
}

func TestDocumentStatesTheContractsRules(t *testing.T) {
	t.Parallel()
	type schema struct {
		Type       any
		Default    any
		Minimum    *float64
		Maximum    *float64
		MaxLength  *int
		MinLength  *int
		Enum       []any
		Required   []string
		Properties map[string]schema
	}
	var document struct {
		Components struct{ Schemas map[string]schema }
	}
	require.NoError(t, json.Unmarshal(setup(t).getDocument(t), &document))
	create := document.Components.Schemas["CreateWebhook"]
	require.ElementsMatch(t, []string{"url", "events"}, create.Required)
	require.Empty(t, document.Components.Schemas["UpdateWebhook"].Required)
	for name, rule := range map[string][3]float64{
		"timeout_ms": {1000, 30000, 5000}, "max_retries": {0, 10, 3}, "backoff_ms": {100, 3600000, 1000}, "max_in_flight": {1, 1000, 32},
	} {
		p := create.Properties[name]
		stated := [3]float64{*p.Minimum, *p.Maximum, p.Default.(float64)}
		require.Equal(t, rule, stated, name)
		require.Equal(t, "integer", p.Type)
		require.Nil(t, document.Components.Schemas["UpdateWebhook"].Properties[name].Default)
	}
	require.Equal(t, []int{1, 2083}, []int{*create.Properties["url"].MinLength, *create.Properties["url"].MaxLength})
	require.Subset(t, create.Properties["signing_method"].Enum, []any{"hmac_sha256", "hmac_sha1", "bearer", "basic_auth", "none"})
	require.Equal(t, "hmac_sha256", create.Properties["signing_method"].Default)
	require.Equal(t, []any{"global", "persona"}, create.Properties["scope_type"].Enum)
	require.Equal(t, "global", create.Properties["scope_type"].Default)
	for _, nullable := range []string{"name", "secret", "persona_id", "description"} {
		require.Equal(t, []any{"string", "null"}, create.Properties[nullable].Type, nullable)
	}
	require.Equal(t, []any{"integer", "null"}, create.Properties["rate_limit"].Type)
	shown := document.Components.Schemas["Webhook"]
	for _, nullable := range []string{"name", "persona_id", "last_delivery_at", "last_error", "created_at", "updated_at"} {
		require.Equal(t, []any{"string", "null"}, shown.Properties[nullable].Type, nullable)
		require.Contains(t, shown.Required, nullable, "always present")
	}
	require.NotContains(t, shown.Properties, "secret")
}

func TestFrontPageLeadsToTheReference(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.Equal(t, b.do(http.MethodGet, "/docs", "").Body, b.do(http.MethodGet, "/", "").Body)
}

func TestReferencePageNeedsNoInternet(t *testing.T) {
	t.Parallel()
	b := setup(t)
	page := b.do(http.MethodGet, "/docs", "", "X-API-Key", "")
	require.Equal(t, http.StatusOK, page.Status)
	require.Contains(t, page.Header.Get("Content-Type"), "text/html")
	require.Contains(t, page.Header.Get("Content-Security-Policy"), "default-src 'none'")
	html := string(page.Body)
	for _, link := range regexp.MustCompile(`(?:src|href|action)\s*=\s*["']?([^"'\s>]+)`).FindAllStringSubmatch(html, -1) {
		require.Regexp(t, `^(#|/)[^/]`, link[1])
	}
	require.NotRegexp(t, `<script|@import|url\(`, html)
	for _, target := range regexp.MustCompile(`href="#([^"]+)"`).FindAllStringSubmatch(html, -1) {
		require.Contains(t, html, `id="`+target[1]+`"`)
	}
	for _, route := range api.Routes() {
		require.Contains(t, html, `<b>`+route.Method+`</b> `+route.Path)
	}
	require.Contains(t, html, "1000 to 30000; default 5000")
}

// Guards against a state that the API answers and its document does not have.
func TestDocumentHasEveryState(t *testing.T) {
	t.Parallel()
	var document any
	require.NoError(t, json.Unmarshal(setup(t).getDocument(t), &document))
	states := []any{}
	for _, state := range postrider.DeliveryStates() {
		states = append(states, string(state))
	}
	found := 0
	var walk func(any)
	walk = func(node any) {
		switch node := node.(type) {
		case []any:
			for _, item := range node {
				walk(item)
			}
		case map[string]any:
			if enum, is := node["enum"].([]any); is && slices.Contains(enum, any(string(postrider.StateRetrying))) {
				require.ElementsMatch(t, states, enum)
				found++
			}
			for _, item := range node {
				walk(item)
			}
		}
	}
	walk(document)
	require.GreaterOrEqual(t, found, 3, "a delivery's, a history's and the filter of a list")
}
