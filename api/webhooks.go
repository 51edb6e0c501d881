package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"

	"postrider.dev/postrider"
	"postrider.dev/postrider/signing"
)

// webhookStore keeps webhooks.
type webhookStore interface {
	// CreateWebhook stores w with a secret, "" for none, and returns it with its
	// SecretID.
	CreateWebhook(ctx context.Context, w postrider.Webhook, secret string) (postrider.Webhook, error)
	// Webhook returns a webhook that is not deleted. Returns
	// [postrider.CodeNotFound] if there is none.
	Webhook(ctx context.Context, workspaceID, id string) (postrider.Webhook, error)
	Webhooks(ctx context.Context, workspaceID string, f postrider.WebhookFilter, p postrider.Page) (postrider.List[postrider.Webhook], error)
	// UpdateWebhook stores what edit makes of a webhook, in one transaction. An
	// error of edit changes nothing and is returned as it is.
	UpdateWebhook(ctx context.Context, workspaceID, id string, edit func(*postrider.WebhookEdit) error) (postrider.Webhook, error)
	DeleteWebhook(ctx context.Context, workspaceID, id string) error
}

const tagWebhooks = "Webhooks"

func (s *server) routeWebhooks() {
	handle(s, route{
		method: http.MethodPost, path: "/api/v1/webhooks", id: "create-webhook", tag: tagWebhooks, scope: postrider.ScopeManage,
		summary: "Create Webhook", status: http.StatusCreated, body: reads[CreateWebhook](s),
		description: "Subscribes a URL to events. A secret that is given, or made for an HMAC method, is kept as a workspace secret; read it with `GET /api/v1/webhooks/{id}/secret`.",
	}, s.createWebhook)
	handle(s, route{
		method: http.MethodGet, path: "/api/v1/webhooks", id: "list-webhooks", tag: tagWebhooks, scope: postrider.ScopeRead,
		summary: "List Webhooks",
	}, s.listWebhooks)
	handle(s, route{
		method: http.MethodGet, path: "/api/v1/webhooks/{id}", id: "get-webhook", tag: tagWebhooks, scope: postrider.ScopeRead,
		summary: "Get Webhook", errors: []int{http.StatusNotFound},
	}, s.getWebhook)
	handle(s, route{
		method: http.MethodPatch, path: "/api/v1/webhooks/{id}", id: "update-webhook", tag: tagWebhooks, scope: postrider.ScopeManage,
		summary: "Update Webhook", errors: []int{http.StatusNotFound}, body: reads[updateWebhook](s),
		description: "Changes the fields that are sent; null clears those that may be null. `events` and `headers` are replaced as a whole. " +
			"A `secret` replaces the current one at once, without a grace period; it cannot be removed, so null is refused. " +
			"Changing `signing_method` to an HMAC method makes a secret when there is none. Setting `scope_type` to global clears `persona_id`. " +
			"Deliveries already accepted keep the timeout and retries they were accepted with.",
	}, s.updateWebhook)
	handle(s, route{
		method: http.MethodDelete, path: "/api/v1/webhooks/{id}", id: "delete-webhook", tag: tagWebhooks, scope: postrider.ScopeManage,
		summary: "Delete Webhook", status: http.StatusNoContent, errors: []int{http.StatusNotFound},
		description: "Unfinished deliveries are cancelled; the history of deliveries stays.",
	}, s.deleteWebhook)
}

type createdWebhook struct {
	Location string `header:"Location" doc:"Path of the new webhook."`
	Body     webhook
}

func (s *server) createWebhook(ctx context.Context, _ *struct{}) (*createdWebhook, error) {
	settings := newWebhookSettings()
	if err := current(ctx).body.into(&settings); err != nil {
		return nil, err
	}
	now := postrider.Timestamp(s.Now())
	w := postrider.Webhook{
		ID: s.IDs.New(postrider.PrefixWebhook), WorkspaceID: workspace(ctx),
		Status: postrider.WebhookActive, CreatedAt: now, UpdatedAt: now,
	}
	settings.apply(&w)
	secret := ""
	if settings.Secret != nil {
		secret = *settings.Secret
	}
	if err := checkWebhook(&w, secret, s.CheckURL(w.URL)); err != nil {
		return nil, err
	}
	secret, err := s.secretFor(w.SigningMethod, secret)
	if err != nil {
		return nil, err
	}
	if w, err = s.Store.CreateWebhook(ctx, w, secret); err != nil {
		return nil, err
	}
	return &createdWebhook{Location: "/api/v1/webhooks/" + w.ID, Body: showWebhook(w)}, nil
}

// checkWebhook returns every rule that the webhook, its secret or its URL breaks.
// refusal is why the URL may not be delivered to, nil if it may.
func checkWebhook(w *postrider.Webhook, secret string, refusal error) error {
	broken := w.Validate()
	if refusal != nil && !slices.ContainsFunc(broken, func(f postrider.FieldError) bool { return f.Field == "url" }) {
		broken = append(broken, postrider.FieldError{Field: "url", Message: messageOf(refusal), Value: w.URL})
	}
	if message := postrider.CheckSecret(w.SigningMethod, secret); message != "" {
		broken = append(broken, postrider.FieldError{Field: "secret", Message: message})
	}
	return postrider.Invalid(broken)
}

// messageOf returns what an error says to people.
func messageOf(err error) string {
	var e *postrider.Error
	if errors.As(err, &e) {
		return e.Message
	}
	return err.Error()
}

// secretFor returns the secret, or a new one when the method needs one made.
func (s *server) secretFor(method postrider.SigningMethod, secret string) (string, error) {
	if secret == "" && (method == postrider.SigningHMACSHA256 || method == postrider.SigningHMACSHA1) {
		return signing.NewSecret(s.Entropy)
	}
	return secret, nil
}

type listWebhooksInput struct {
	PageQuery
	Event     string                  `query:"event" maxLength:"128" doc:"Only those that get events of this type, directly or by a wildcard; given a pattern such as call.* or *, those that have it." example:"call.ended"`
	Status    postrider.WebhookStatus `query:"status" enum:"active,paused,disabled"`
	PersonaID string                  `query:"persona_id" doc:"Only those of this persona."`
}

func (s *server) listWebhooks(ctx context.Context, in *listWebhooksInput) (*output[list[webhook]], error) {
	page, err := in.page(postrider.PrefixWebhook)
	if err != nil {
		return nil, err
	}
	if exact := strings.TrimSuffix(in.Event, ".*"); in.Event != "" && in.Event != "*" && !postrider.ValidEventType(exact) {
		return nil, brokenField("query.event", "must be an event type or a pattern", in.Event)
	}
	filter := postrider.WebhookFilter{Event: in.Event, Status: in.Status, PersonaID: in.PersonaID}
	found, err := s.Store.Webhooks(ctx, workspace(ctx), filter, page)
	if err != nil {
		return nil, err
	}
	return listOf(found, showWebhook), nil
}

// WebhookPath is the path of a route on one webhook.
type WebhookPath struct {
	ID string `path:"id" doc:"Id of the webhook."`
}

func (s *server) getWebhook(ctx context.Context, in *WebhookPath) (*output[webhook], error) {
	w, err := s.Store.Webhook(ctx, workspace(ctx), in.ID)
	return &output[webhook]{Body: showWebhook(w)}, err
}

func (s *server) updateWebhook(ctx context.Context, in *WebhookPath) (*output[webhook], error) {
	patch := current(ctx).body
	if patch.has("secret") && string(patch.fields["secret"]) == "null" {
		return nil, brokenField("body.secret", "cannot be removed; set signing_method to none to stop signing", nil)
	}
	var refusal error
	if patch.has("url") {
		var url string
		if err := json.Unmarshal(patch.fields["url"], &url); err != nil {
			return nil, err
		}
		refusal = s.CheckURL(url) // here, because it may take time and a transaction is open below
	}
	w, err := s.Store.UpdateWebhook(ctx, workspace(ctx), in.ID, func(edit *postrider.WebhookEdit) error {
		return s.editWebhook(edit, patch, refusal)
	})
	return &output[webhook]{Body: showWebhook(w)}, err
}

// editWebhook makes of a stored webhook what the patch says.
func (s *server) editWebhook(edit *postrider.WebhookEdit, patch body, refusal error) error {
	w := edit.Webhook
	settings := settingsOf(w)
	if patch.has("headers") {
		settings.Headers = nil // decoding would add to a map
	}
	if err := patch.into(&settings); err != nil {
		return err
	}
	if settings.ScopeType == postrider.ScopeGlobal && !patch.has("persona_id") {
		settings.PersonaID = nil
	}
	settings.apply(w)
	w.UpdatedAt = postrider.Timestamp(s.Now())
	secret := edit.Secret
	if settings.Secret != nil {
		secret = *settings.Secret
	}
	if err := checkWebhook(w, secret, refusal); err != nil {
		return err
	}
	secret, err := s.secretFor(w.SigningMethod, secret)
	if err == nil && secret != edit.Secret {
		edit.NewSecret = secret
	}
	return err
}

func (s *server) deleteWebhook(ctx context.Context, in *WebhookPath) (*struct{}, error) {
	return nil, s.Store.DeleteWebhook(ctx, workspace(ctx), in.ID)
}
