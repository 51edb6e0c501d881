//nolint:thelper // these are the tests, not helpers of one
package storetest

import (
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/egress/tlstest"
)

// EverySetting returns a value other than the default for every setting of a webhook, as
// JSON has them, made of the fields' types and tags: a new field has one without further
// ado. It fails for a field whose type it does not know.
func EverySetting(t *testing.T) map[string]any {
	t.Helper()
	settings := map[string]any{}
	for _, part := range []reflect.Type{reflect.TypeFor[postrider.WebhookSettings](), reflect.TypeFor[postrider.Policy]()} {
		for i := range part.NumField() {
			field := part.Field(i)
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			require.NotEmpty(t, name, "%s has no json tag", field.Name)
			require.NotEmpty(t, field.Tag.Get("db"), "%s has no db tag", field.Name)
			settings[name] = example(t, name, field)
		}
	}
	settings["scope_type"], settings["signing_method"] = postrider.ScopePersona, "hmac_sha1"
	settings["filter"], settings["transform"] = "event.data > 7", "event.data"
	return settings
}

func example(t *testing.T, name string, field reflect.StructField) any {
	t.Helper()
	kind := field.Type
	if kind.Kind() == reflect.Pointer {
		kind = kind.Elem()
	}
	switch {
	case field.Tag.Get("format") == "uri":
		return "https://receiver.example/" + name
	case kind.Kind() == reflect.String && field.Tag.Get("enum") != "":
		values := strings.Split(field.Tag.Get("enum"), ",")
		return values[len(values)-1]
	case kind == reflect.TypeFor[postrider.RetrySchedule]():
		return []int{1000, 86400000}
	case kind.Kind() == reflect.String:
		return "a " + name
	case kind.Kind() == reflect.Bool:
		return true
	case kind.Kind() == reflect.Int:
		least, err := strconv.Atoi(field.Tag.Get("minimum"))
		require.NoError(t, err, "%s has no minimum", name)
		return least + 7
	case kind == reflect.TypeFor[[]string]():
		return []string{"of." + name, "call.*"}
	case kind == reflect.TypeFor[map[string]string]():
		return map[string]string{"X-Of": name}
	case kind == reflect.TypeFor[postrider.WebhookTLS](): // a key would not be shown
		return map[string]any{"client_certificate": nil, "client_key": nil, "ca": tlstest.NewAuthority(t).PEM}
	}
	require.Fail(t, "no value for a setting", "%s: teach example() the type %s", name, field.Type)
	return nil
}

// webhookSettings guards against a setting that the store does not write, or does not read.
func webhookSettings(t *testing.T, b *Bundle) {
	text, err := json.Marshal(EverySetting(t))
	require.NoError(t, err)
	w := postrider.Webhook{WorkspaceID: b.Workspace}
	require.NoError(t, json.Unmarshal(text, &w.WebhookSettings))
	require.NoError(t, json.Unmarshal(text, &w.Policy))
	requireAllSet(t, w.WebhookSettings)
	requireAllSet(t, w.Policy)
	created, err := b.CreateWebhook(t.Context(), w, "")
	require.NoError(t, err)
	updated, err := b.UpdateWebhook(t.Context(), b.Workspace, created.ID, func(*postrider.WebhookEdit) error { return nil })
	require.NoError(t, err)
	read, err := b.Webhook(t.Context(), b.Workspace, created.ID)
	require.NoError(t, err)
	for _, got := range []postrider.Webhook{created, updated, read} {
		require.Equal(t, w.WebhookSettings, got.WebhookSettings)
		require.Equal(t, w.Policy, got.Policy)
	}

	other := b.NewWebhook(t)
	_, err = b.UpdateWebhook(t.Context(), b.Workspace, other.ID, func(e *postrider.WebhookEdit) error {
		e.Webhook.WebhookSettings, e.Webhook.Policy = w.WebhookSettings, w.Policy
		return nil
	})
	require.NoError(t, err)
	read, err = b.Webhook(t.Context(), b.Workspace, other.ID)
	require.NoError(t, err)
	require.Equal(t, w.WebhookSettings, read.WebhookSettings, "a change is written as well")
	require.Equal(t, w.Policy, read.Policy)
	targets, err := b.Targets(t.Context(), b.PublishTo(t, other.ID, 1))
	require.NoError(t, err)
	require.Equal(t, w.Policy, targets[0].Delivery.Policy)
}

func requireAllSet(t *testing.T, settings any) {
	value := reflect.ValueOf(settings)
	for i := range value.NumField() {
		require.False(t, value.Field(i).IsZero(), "%s has no value", value.Type().Field(i).Name)
	}
}
