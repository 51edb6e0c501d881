package api

import (
	"context"
	"net/http"
	"slices"
	"time"

	"postrider.dev/postrider"
	"postrider.dev/postrider/api/rest"
	"postrider.dev/postrider/signing"
)

// secretStore keeps signing secrets.
type secretStore interface {
	// Secret reveals a webhook's secret. Returns [postrider.CodeNotFound] if the webhook is
	// unknown or has no secret.
	Secret(ctx context.Context, workspaceID, webhookID string) (postrider.Secret, error)
	// RotateSecret replaces a webhook's secret. The secrets before it go on signing beside it for
	// grace, or until their own grace ends, if that is earlier.
	RotateSecret(ctx context.Context, workspaceID, webhookID, secret string, grace time.Duration) (postrider.Secret, error)
}

const tagSecrets = "Secrets"

func (s *server) routeSecrets() {
	rest.Handle(s.rest, rest.Route{
		Method: http.MethodGet, Path: "/api/v1/webhooks/{id}/secret", ID: "get-webhook-secret", Tag: tagSecrets, Scope: postrider.ScopeSecrets,
		Summary: "Reveal Secret", Errors: []int{http.StatusNotFound},
		Description: "The current signing secret, and where and until when replaced ones sign too. 404 when the webhook has none.",
	}, s.getSecret)
	rotation := rest.JSONBody(s.rest, func() rotateSecret { return rotateSecret{GraceSeconds: defaultGraceSeconds} })
	rotation.Optional = true
	rest.HandleBody(s.rest, rest.Route{
		Method: http.MethodPost, Path: "/api/v1/webhooks/{id}/secret/rotate", ID: "rotate-webhook-secret",
		Tag: tagSecrets, Scope: postrider.ScopeSecrets,
		Summary: "Rotate Secret", Status: http.StatusOK, Errors: []int{http.StatusNotFound},
		Description: "Replaces the signing secret, from the next attempts on. `headers` in the answer says which header does what when. " +
			"`webhook-signature` has a signature by the old secret too during the grace period, " +
			"so that a receiver can change over without losing a delivery. " +
			"Five secrets sign at once at most: with a sixth, the oldest ends. " +
			"`X-Hub-Signature-256`, `X-Hub-Signature` and `Authorization` have room for one value: they change at once, " +
			"and a receiver that still expects the old one refuses. " +
			"For the methods that have none but these (hmac_sha1, bearer, basic_auth) `grace_seconds` does nothing. " +
			"Without a body a new secret is made; for bearer and basic_auth it must be given.",
	}, rotation, s.rotateSecret)
}

// rotateSecret is the body of a rotate request.
type rotateSecret struct {
	Secret       *string `json:"secret,omitempty" nullable:"true" minLength:"1" maxLength:"1024" writeOnly:"true" doc:"The new secret, with the rules of a new webhook's; one is made when it is left out or null."`
	GraceSeconds int     `json:"grace_seconds,omitempty" minimum:"0" maximum:"604800" default:"86400" doc:"How long the old secret signs too, in webhook-signature alone."`
}

const defaultGraceSeconds = 86400

// webhookSecret is a revealed secret.
type webhookSecret struct {
	ID        string                     `json:"id" example:"sec_019a8f3c5b7e7c3a9d2e4f6081a2b3c4"`
	Secret    string                     `json:"secret"`
	CreatedAt time.Time                  `json:"created_at"`
	Previous  []postrider.PreviousSecret `json:"previous" nullable:"false" doc:"Replaced secrets in their grace period, newest first; headers says where they sign."`
	Headers   []secretHeader             `json:"headers" nullable:"false" doc:"The request headers that the webhook's secret makes, and since when; empty when the webhook's requests are not signed."`
}

// secretHeader says what a request header does in a rotation.
type secretHeader struct {
	Name          string     `json:"name" example:"Webhook-Signature"`
	CurrentSince  time.Time  `json:"current_since" doc:"From then on attempts have the current secret's value."`
	PreviousUntil *time.Time `json:"previous_until" doc:"Until then the replaced secrets' values are beside it; null when they are not: the header changed at once."`
}

// headersOf returns what the headers of a signing method do with a secret.
func headersOf(method postrider.SigningMethod, secret postrider.Secret) []secretHeader {
	headers := signing.Headers(method)
	shown := make([]secretHeader, 0, len(headers))
	for _, header := range headers {
		h := secretHeader{Name: header.Name, CurrentSince: secret.CreatedAt}
		for _, previous := range secret.Previous {
			if header.Overlaps && (h.PreviousUntil == nil || previous.ExpiresAt.After(*h.PreviousUntil)) {
				h.PreviousUntil = &previous.ExpiresAt
			}
		}
		shown = append(shown, h)
	}
	return shown
}

// overlaps reports whether any header of the signing method has room for a replaced secret's value.
func overlaps(method postrider.SigningMethod) bool {
	return slices.ContainsFunc(signing.Headers(method), func(h signing.Header) bool { return h.Overlaps })
}

type secretOutput struct {
	CacheControl string `header:"Cache-Control"`
	Body         webhookSecret
}

func showSecret(method postrider.SigningMethod, secret postrider.Secret) *secretOutput {
	previous := secret.Previous
	if previous == nil {
		previous = []postrider.PreviousSecret{}
	}
	return &secretOutput{
		CacheControl: "no-store",
		Body: webhookSecret{
			ID: secret.ID, Secret: secret.Value, CreatedAt: secret.CreatedAt, Previous: previous, Headers: headersOf(method, secret),
		},
	}
}

func (s *server) getSecret(ctx context.Context, in *WebhookPath) (*secretOutput, error) {
	w, err := s.Store.Webhook(ctx, rest.Workspace(ctx), in.ID)
	if err != nil {
		return nil, err
	}
	secret, err := s.Store.Secret(ctx, w.WorkspaceID, w.ID)
	return showSecret(w.SigningMethod, secret), err
}

func (s *server) rotateSecret(ctx context.Context, in *WebhookPath, request rotateSecret) (*secretOutput, error) {
	w, err := s.Store.Webhook(ctx, rest.Workspace(ctx), in.ID)
	if err != nil {
		return nil, err
	}
	var value string
	if request.Secret != nil {
		value = *request.Secret
	} else if value, err = signing.NewSecret(w.SigningMethod, s.Entropy); err != nil {
		return nil, err
	}
	if message := signing.CheckSecret(w.SigningMethod, value); message != "" {
		return nil, rest.BrokenField("body.secret", message, nil)
	}
	var grace time.Duration
	if overlaps(w.SigningMethod) { // else the old secret would be kept, and sign nothing
		grace = time.Duration(request.GraceSeconds) * time.Second
	}
	secret, err := s.Store.RotateSecret(ctx, w.WorkspaceID, w.ID, value, grace)
	return showSecret(w.SigningMethod, secret), err
}
