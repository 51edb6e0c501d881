// Package openapi tests the API's document: it is valid, it keeps to the house's rules, and
// it breaks nothing that was promised.
//
// The document is api/testdata/openapi.json, which a test of package api holds to the code.
// The promise is baseline.json, the document of the last release; `make openapi-baseline`
// renews it, which is a step of each release and of a break that is meant.
package openapi

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	oasdiff  = "../../bin/tools/oasdiff" // where `make tools` puts it
	document = "../../api/testdata/openapi.json"
	baseline = "baseline.json"
)

// ask runs oasdiff and returns its output, and whether it found nothing to refuse.
func ask(t *testing.T, args ...string) (string, bool) {
	t.Helper()
	output, err := exec.CommandContext(t.Context(), oasdiff, args...).CombinedOutput()
	var failed *exec.ExitError
	if err != nil {
		require.ErrorAs(t, err, &failed)
		require.Equal(t, 1, failed.ExitCode(), string(output))
	}
	return string(output), err == nil
}

// breaks compares two documents.
func breaks(t *testing.T, before, after string) (string, bool) {
	t.Helper()
	output, ok := ask(t, "breaking", "--fail-on", "ERR", "--color", "never", before, after)
	return output, !ok
}

// TestDocumentIsValid allows one word that OpenAPI does not know: huma, which makes the
// document, puts the text of a pattern's rule beside the pattern.
func TestDocumentIsValid(t *testing.T) {
	t.Parallel()
	output, _ := ask(t, "validate", "--format", "json", document)
	var found []struct{ ID, Text, Path string }
	require.NoError(t, json.Unmarshal([]byte(output), &found), output)
	for _, f := range found {
		require.Equal(t, "extra sibling fields: [patternDescription]", f.Text, "%s %s", f.Path, f.ID)
	}
}

func TestNothingThatWasPromisedBreaks(t *testing.T) {
	t.Parallel()
	findings, broken := breaks(t, baseline, document)
	require.False(t, broken, "%s\nIf the break is meant: make openapi-baseline, and a line under Changed in CHANGELOG.md.", findings)
}

// object is a part of the document.
type object = map[string]any

// part follows names into the document, which has them all.
func part(doc object, names ...string) object {
	for _, name := range names {
		doc = doc[name].(map[string]any)
	}
	return doc
}

func TestBreaksAreFound(t *testing.T) {
	t.Parallel()
	schema := func(doc object, name string) object { return part(doc, "components", "schemas", name) }
	for name, c := range map[string]struct {
		change func(doc object)
		broken bool
	}{
		"nothing": {func(object) {}, false},
		"a route less": {func(doc object) {
			delete(part(doc, "paths"), "/api/v1/events/{id}")
		}, true},
		"a field less in an answer": {func(doc object) {
			delete(part(schema(doc, "Webhook"), "properties"), "url")
		}, true},
		"a field more in an answer": {func(doc object) {
			part(schema(doc, "Webhook"), "properties")["colour"] = object{"type": "string"}
		}, false},
		"a field more in a request": {func(doc object) {
			part(schema(doc, "CreateWebhook"), "properties")["colour"] = object{"type": "string"}
		}, false},
		"a required field more in a request": {func(doc object) {
			part(schema(doc, "CreateWebhook"), "properties")["colour"] = object{"type": "string"}
			schema(doc, "CreateWebhook")["required"] = []any{"url", "events", "colour"}
		}, true},
		"a stricter rule": {func(doc object) {
			part(schema(doc, "CreateWebhook"), "properties", "max_retries")["maximum"] = 5
		}, true},
		"a value less in a request's enum": {func(doc object) {
			part(schema(doc, "CreateWebhook"), "properties", "signing_method")["enum"] = []any{"hmac_sha256", "none"}
		}, true},
		"a value more in an answer's enum": {func(doc object) {
			state := part(schema(doc, "Delivery"), "properties", "state")
			state["enum"] = append(state["enum"].([]any), "postponed")
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			doc := read(t, baseline)
			c.change(doc)
			text, err := json.Marshal(doc)
			require.NoError(t, err)
			changed := filepath.Join(t.TempDir(), "changed.json")
			require.NoError(t, os.WriteFile(changed, text, 0o600))
			findings, broken := breaks(t, baseline, changed)
			require.Equal(t, c.broken, broken, findings)
		})
	}
}

func read(t *testing.T, path string) object {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	var doc object
	require.NoError(t, json.Unmarshal(text, &doc))
	return doc
}
