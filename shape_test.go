package postrider_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
)

func TestShapeOfAWebhook(t *testing.T) {
	t.Parallel()
	transform := "event.data"
	webhook := func(format postrider.Format, transform *string) *postrider.Webhook {
		return &postrider.Webhook{WorkspaceID: "ws_1", WebhookSettings: postrider.WebhookSettings{Format: format, Transform: transform}}
	}
	ids := map[string]bool{}
	for _, c := range []struct {
		webhook *postrider.Webhook
		shape   postrider.Shape
	}{
		{webhook(postrider.FormatEnvelope, nil), postrider.Shape{}},
		{webhook(postrider.FormatData, nil), postrider.Shape{Format: postrider.FormatData}},
		{webhook(postrider.FormatThin, nil), postrider.Shape{Format: postrider.FormatThin}},
		{webhook(postrider.FormatCloudEvents, nil), postrider.Shape{Format: postrider.FormatCloudEvents, Source: "urn:postrider:ws_1"}},
		{webhook(postrider.FormatEnvelope, &transform), postrider.Shape{Transform: "event.data"}},
	} {
		require.Equal(t, c.shape, c.webhook.Shape())
		require.Equal(t, c.shape == postrider.Shape{}, c.shape.ID() == "", "the envelope has no id, and nothing else has none")
		ids[c.shape.ID()] = true
	}
	require.Len(t, ids, len(postrider.Formats())+1, "each has another id")
}
