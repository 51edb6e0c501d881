package api

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"postrider.dev/postrider"
	"postrider.dev/postrider/api/rest"
	"postrider.dev/postrider/signing"
)

// webhookStore keeps webhooks.
type webhookStore interface {
	// CreateWebhook stores a webhook and its secret, unless that is "", and returns the
	// webhook with its SecretID. Returns [postrider.CodeConflict] if the workspace has as
	// many as it may.
	CreateWebhook(ctx context.Context, w postrider.Webhook, secret string) (postrider.Webhook, error)
	// Webhook returns a webhook, or [postrider.CodeNotFound] if the id is unknown or the
	// webhook was deleted.
	Webhook(ctx context.Context, workspaceID, id string) (postrider.Webhook, error)
	Webhooks(ctx context.Context, workspaceID string, f postrider.WebhookFilter, p postrider.Page) (postrider.List[postrider.Webhook], error)
	// UpdateWebhook calls edit with a webhook and stores its changes, in one transaction. An
	// error of edit is returned, and the webhook stays as it was.
	UpdateWebhook(ctx context.Context, workspaceID, id string, edit func(*postrider.WebhookEdit) error) (postrider.Webhook, error)
	// PauseWebhook makes an active webhook paused; a disabled one stays disabled.
	PauseWebhook(ctx context.Context, workspaceID, id string) (postrider.Webhook, error)
	// ResumeWebhook makes a paused or disabled webhook active.
	ResumeWebhook(ctx context.Context, workspaceID, id string) (postrider.Webhook, error)
	DeleteWebhook(ctx context.Context, workspaceID, id string) error
	// Blockers returns some of the deliveries that hold others of the webhook up by its ordering.
	Blockers(ctx context.Context, webhookID string) ([]postrider.Blocker, error)
}

const tagWebhooks = "Webhooks"

func (s *server) routeWebhooks() {
	rest.HandleBody(s.rest, rest.Route{
		Method: http.MethodPost, Path: "/api/v1/webhooks", ID: "create-webhook", Tag: tagWebhooks, Scope: postrider.ScopeManage,
		Summary: "Create Webhook", Status: http.StatusCreated, Errors: []int{http.StatusConflict},
		Description: "Subscribes a URL to events. " +
			"A secret that is given, or made for an HMAC method, is kept as a workspace secret; read it with `GET /api/v1/webhooks/{id}/secret`. " +
			"A workspace may have a number of webhooks that the server's operator sets; one more is a 409.",
	}, createWebhookBody(s.rest), s.createWebhook)
	rest.Handle(s.rest, rest.Route{
		Method: http.MethodGet, Path: "/api/v1/webhooks", ID: "list-webhooks", Tag: tagWebhooks, Scope: postrider.ScopeRead,
		Summary: "List Webhooks",
	}, s.listWebhooks)
	rest.Handle(s.rest, rest.Route{
		Method: http.MethodGet, Path: "/api/v1/webhooks/{id}", ID: "get-webhook", Tag: tagWebhooks, Scope: postrider.ScopeRead,
		Summary: "Get Webhook", Errors: []int{http.StatusNotFound},
	}, s.getWebhook)
	rest.HandleBody(s.rest, rest.Route{
		Method: http.MethodPatch, Path: "/api/v1/webhooks/{id}", ID: "update-webhook", Tag: tagWebhooks, Scope: postrider.ScopeManage,
		Summary: "Update Webhook", Errors: []int{http.StatusNotFound},
		Description: "Changes the fields that are sent; null clears those that may be null. " +
			"`events`, `headers` and `tls` are replaced as a whole, `tls` with its `client_key`, which is not shown. " +
			"A `secret` replaces the current one at once, without a grace period, and one that is to come; " +
			"it cannot be removed, so null is refused. " +
			"Changing `signing_method` to an HMAC method makes a secret when there is none, " +
			"or when the one that there is was sent with each request. " +
			"Changing it to `bearer` or `basic_auth` needs a `secret`, since a key that signed must not be sent. " +
			"Where requests have the secret itself, moving `url` to another origin, or another `ca` in `tls`, " +
			"needs a `secret` or a key with the scope `secrets`. " +
			"With a client certificate, moving `url` to another origin needs `tls` or a key with the scope `secrets`. " +
			"Setting `scope_type` to global clears `persona_id`. " +
			"Deliveries already accepted keep the timeout and retries they were accepted with.",
	}, rest.PatchBody[updateWebhook](s.rest), s.updateWebhook)
	rest.Handle(s.rest, rest.Route{
		Method: http.MethodDelete, Path: "/api/v1/webhooks/{id}", ID: "delete-webhook", Tag: tagWebhooks, Scope: postrider.ScopeManage,
		Summary: "Delete Webhook", Status: http.StatusNoContent, Errors: []int{http.StatusNotFound},
		Description: "Unfinished deliveries are cancelled, within moments where there are many; the history of deliveries stays.",
	}, s.deleteWebhook)
	rest.Handle(s.rest, rest.Route{
		Method: http.MethodPost, Path: "/api/v1/webhooks/{id}/pause", ID: "pause-webhook", Tag: tagWebhooks, Scope: postrider.ScopeManage,
		Summary: "Pause Webhook", Errors: []int{http.StatusNotFound},
		Description: "Parks the webhook's events instead of sending them: new ones, those that wait, and those that are being retried. " +
			"Requests on their way end as they end. Parked events are kept for `park_seconds`. " +
			"A webhook that is paused or disabled stays as it is, so this may be repeated.",
	}, s.pauseWebhook)
	rest.Handle(s.rest, rest.Route{
		Method: http.MethodPost, Path: "/api/v1/webhooks/{id}/resume", ID: "resume-webhook", Tag: tagWebhooks, Scope: postrider.ScopeManage,
		Summary: "Resume Webhook", Errors: []int{http.StatusNotFound},
		Description: "Makes a paused or disabled webhook active again, and sends what was parked, in the order in which it was accepted: " +
			"one probe first, and after it has succeeded at a rate that grows while attempts succeed. " +
			"An active webhook stays as it is, so this may be repeated.",
	}, s.resumeWebhook)
}

type createdWebhook struct {
	Location string `header:"Location" doc:"Path of the new webhook."`
	Body     Webhook
}

func (s *server) createWebhook(ctx context.Context, _ *struct{}, settings CreateWebhook) (*createdWebhook, error) {
	now := postrider.Timestamp(s.Now())
	w := postrider.Webhook{
		ID: s.IDs.New(postrider.PrefixWebhook), WorkspaceID: rest.Workspace(ctx),
		Status: postrider.WebhookActive, CreatedAt: now, UpdatedAt: now,
	}
	settings.apply(&w)
	secret := ""
	if settings.Secret != nil {
		secret = *settings.Secret
	}
	if err := s.checkWebhook(&w, signing.CheckSecret(w.SigningMethod, secret), s.CheckURL(w.URL)); err != nil {
		return nil, err
	}
	secret, err := s.secretFor(w.SigningMethod, secret)
	if err != nil {
		return nil, err
	}
	if w, err = s.Store.CreateWebhook(ctx, w, secret); err != nil {
		return nil, err
	}
	return &createdWebhook{Location: "/api/v1/webhooks/" + w.ID, Body: showWebhook(ctx, w)}, nil
}

// checkWebhook returns every rule that the webhook, its secret or its URL breaks. secretRule is
// what [signing.CheckSecret] says, and refusal is the error of [Config.CheckURL] about the URL.
func (s *server) checkWebhook(w *postrider.Webhook, secretRule string, refusal error) error {
	broken := w.Validate(signing.Methods())
	if refusal != nil && !slices.ContainsFunc(broken, func(f postrider.FieldError) bool { return f.Field == "url" }) {
		broken = append(broken, postrider.FieldError{Field: "url", Message: messageOf(refusal), Value: w.URL})
	}
	broken = append(broken, s.checkExpression("filter", w.Filter, s.shaper.CheckFilter)...)
	broken = append(broken, s.checkExpression("transform", w.Transform, s.shaper.CheckTransform)...)
	if secretRule != "" {
		broken = append(broken, postrider.FieldError{Field: "secret", Message: secretRule})
	}
	return postrider.Invalid(broken)
}

// messageOf returns the text of an error for people.
func messageOf(err error) string {
	var e *postrider.Error
	if errors.As(err, &e) {
		return e.Message
	}
	return err.Error()
}

// secretFor returns the secret, or a new one if it is "" and the method needs one.
func (s *server) secretFor(method postrider.SigningMethod, secret string) (string, error) {
	if secret == "" && signing.NeedsSecret(method) {
		return signing.NewSecret(method, s.Entropy)
	}
	return secret, nil
}

type listWebhooksInput struct {
	rest.PageQuery
	Event     string                  `query:"event" maxLength:"128" doc:"Only those that get events of this type, directly or by a wildcard; given a pattern such as call.* or *, those that have it." example:"call.ended"`
	Status    postrider.WebhookStatus `query:"status" enum:"active,paused,disabled"`
	PersonaID string                  `query:"persona_id" doc:"Only those of this persona."`
}

func (s *server) listWebhooks(ctx context.Context, in *listWebhooksInput) (*rest.Output[rest.List[Webhook]], error) {
	page, err := in.Page(postrider.PrefixWebhook)
	if err != nil {
		return nil, err
	}
	if exact := strings.TrimSuffix(in.Event, ".*"); in.Event != "" && in.Event != "*" && !postrider.ValidEventType(exact) {
		return nil, rest.BrokenField("query.event", "must be an event type or a pattern", in.Event)
	}
	filter := postrider.WebhookFilter{Event: in.Event, Status: in.Status, PersonaID: in.PersonaID}
	found, err := s.Store.Webhooks(ctx, rest.Workspace(ctx), filter, page)
	if err != nil {
		return nil, err
	}
	return rest.ListOf(found, func(w postrider.Webhook) Webhook { return showWebhook(ctx, w) }), nil
}

// WebhookPath is the path of a route on one webhook.
type WebhookPath struct {
	ID string `path:"id" doc:"Id of the webhook."`
}

func (s *server) getWebhook(ctx context.Context, in *WebhookPath) (*rest.Output[webhookWithOrder], error) {
	w, err := s.Store.Webhook(ctx, rest.Workspace(ctx), in.ID)
	if err != nil {
		return nil, err
	}
	blockers, err := s.Store.Blockers(ctx, w.ID)
	return &rest.Output[webhookWithOrder]{Body: webhookWithOrder{Webhook: showWebhook(ctx, w), BlockedBy: showBlockers(blockers)}}, err
}

func (s *server) updateWebhook(ctx context.Context, in *WebhookPath, patch rest.Patch[updateWebhook]) (*rest.Output[Webhook], error) {
	if patch.IsNull("secret") {
		return nil, rest.BrokenField("body.secret", "cannot be removed; set signing_method to none to stop signing", nil)
	}
	var refusal error
	if patch.Has("url") {
		refusal = s.CheckURL(patch.Values.URL) // before the transaction, because it may take time
	}
	w, err := s.Store.UpdateWebhook(ctx, rest.Workspace(ctx), in.ID, func(edit *postrider.WebhookEdit) error {
		return s.editWebhook(ctx, edit, patch, refusal)
	})
	return &rest.Output[Webhook]{Body: showWebhook(ctx, w)}, err
}

// patched returns a webhook's settings as the patch says, as the body of a request.
func patched(w *postrider.Webhook, patch rest.Patch[updateWebhook]) (CreateWebhook, error) {
	settings, err := settingsOf(w)
	if err != nil {
		return settings, err
	}
	if patch.Has("headers") {
		settings.Headers = nil // else the patch's headers would be added to them
	}
	if patch.Has("tls") {
		settings.TLS = nil // likewise
	}
	if err := patch.ApplyTo(&settings); err != nil {
		return settings, err
	}
	if settings.ScopeType == postrider.ScopeGlobal && !patch.Has("persona_id") {
		settings.PersonaID = nil
	}
	return settings, patchSchedule(&settings.Policy, w.Policy, patch.Has)
}

// editWebhook changes a stored webhook as the patch says.
func (s *server) editWebhook(ctx context.Context, edit *postrider.WebhookEdit, patch rest.Patch[updateWebhook], refusal error) error {
	w := edit.Webhook
	settings, err := patched(w, patch)
	if err != nil {
		return err
	}
	before := *w
	settings.apply(w)
	w.UpdatedAt = postrider.Timestamp(s.Now())
	if movesClientKey(before, *w) && !patch.Has("tls") && !rest.Allows(ctx, postrider.ScopeSecrets) {
		return rest.BrokenField("body.tls", "must be given when url moves to another origin, which is then shown the client certificate; "+
			"a key with the scope secrets may leave it out", nil)
	}
	var secret string
	switch {
	case settings.Secret != nil:
		secret = *settings.Secret
	case before.SigningMethod == w.SigningMethod && movesSecret(before, *w) && !rest.Allows(ctx, postrider.ScopeSecrets):
		return rest.BrokenField("body.secret", "must be given when url moves to another origin or tls trusts others, "+
			"who get the secret with each request; a key with the scope secrets may leave it out", nil)
	case mayServe(before.SigningMethod, w.SigningMethod):
		secret = edit.Secret
	}
	inUse := secret != "" && secret == edit.Secret && before.SigningMethod == w.SigningMethod
	if err := s.checkWebhook(w, ruleForSecret(w.SigningMethod, secret, inUse), refusal); err != nil {
		return err
	}
	if err := checkNext(*edit, before.SigningMethod, secret); err != nil {
		return err
	}
	secret, err = s.secretFor(w.SigningMethod, secret)
	if err == nil && secret == "" && edit.Secret != "" { // a credential must not be left to sign later
		secret, err = signing.NewSecret(w.SigningMethod, s.Entropy)
	}
	if err == nil && secret != edit.Secret {
		edit.NewSecret = secret
	}
	return err
}

// ruleForSecret returns the rule that a secret breaks, or "". One that is in use may be older than a
// rule, and goes on.
func ruleForSecret(method postrider.SigningMethod, secret string, inUse bool) string {
	if inUse {
		return ""
	}
	return signing.CheckSecret(method, secret)
}

// checkNext returns an error when the secret that is to come, which stays if the current one does, does
// not suit another signing method.
func checkNext(edit postrider.WebhookEdit, before postrider.SigningMethod, secret string) error {
	method := edit.Webhook.SigningMethod
	if edit.NextSecret == "" || secret != edit.Secret || method == before {
		return nil
	}
	if rule := signing.CheckSecret(method, edit.NextSecret); rule != "" {
		return rest.BrokenField("body.signing_method", "does not suit the secret that is to come, which "+rule, method)
	}
	return nil
}

// mayServe reports whether a secret of one signing method may serve another. Where requests have
// the secret itself, receivers would learn a key that signs, or know one that was sent to them.
func mayServe(before, after postrider.SigningMethod) bool {
	return before == after || !signing.RevealsSecret(before) && !signing.RevealsSecret(after)
}

// movesSecret reports whether another receiver than before would be sent the webhook's secret: at another
// origin, or one for which other authorities vouch.
func movesSecret(before, after postrider.Webhook) bool {
	return signing.RevealsSecret(after.SigningMethod) &&
		(originOf(before.URL) != originOf(after.URL) || authoritiesOf(before) != authoritiesOf(after))
}

// movesClientKey reports whether the webhook's client certificate would be shown at another origin.
func movesClientKey(before, after postrider.Webhook) bool {
	return after.TLS != nil && after.TLS.ClientKey != nil && originOf(before.URL) != originOf(after.URL)
}

// authoritiesOf returns the authorities that a webhook trusts in place of the system's, or "".
func authoritiesOf(w postrider.Webhook) string {
	if w.TLS == nil || w.TLS.CA == nil {
		return ""
	}
	return *w.TLS.CA
}

// originOf returns the scheme, host and port of a URL, without the scheme's own port; the URL itself
// when it does not parse.
func originOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	port := u.Port()
	if port == "80" && u.Scheme == "http" || port == "443" && u.Scheme == "https" {
		port = ""
	}
	return strings.ToLower(u.Scheme + "://" + strings.TrimSuffix(u.Hostname(), ".") + ":" + port)
}

func (s *server) pauseWebhook(ctx context.Context, in *WebhookPath) (*rest.Output[Webhook], error) {
	w, err := s.Store.PauseWebhook(ctx, rest.Workspace(ctx), in.ID)
	return &rest.Output[Webhook]{Body: showWebhook(ctx, w)}, err
}

func (s *server) resumeWebhook(ctx context.Context, in *WebhookPath) (*rest.Output[Webhook], error) {
	w, err := s.Store.ResumeWebhook(ctx, rest.Workspace(ctx), in.ID)
	return &rest.Output[Webhook]{Body: showWebhook(ctx, w)}, err
}

func (s *server) deleteWebhook(ctx context.Context, in *WebhookPath) (*struct{}, error) {
	return nil, s.Store.DeleteWebhook(ctx, rest.Workspace(ctx), in.ID)
}
