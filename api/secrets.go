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
	// RotateSecret replaces a webhook's secret, at once or later. The secrets before it go on signing
	// beside it until its grace period ends, or their own, if that is earlier.
	RotateSecret(ctx context.Context, workspaceID, webhookID string, r postrider.Rotation) (postrider.Secret, error)
}

const tagSecrets = "Secrets"

func (s *server) routeSecrets() {
	rest.Handle(s.rest, rest.Route{
		Method: http.MethodGet, Path: "/api/v1/webhooks/{id}/secret", ID: "get-webhook-secret", Tag: tagSecrets, Scope: postrider.ScopeSecrets,
		Summary: "Reveal Secret", Errors: []int{http.StatusNotFound},
		Description: "The current signing secret, the one that is to take its place, and where and until when replaced ones sign too. " +
			"404 when the webhook has none.",
	}, s.getSecret)
	rotation := rest.JSONBody(s.rest, func() rotateSecret { return rotateSecret{GraceSeconds: defaultGraceSeconds} })
	rotation.Optional = true
	rest.HandleBody(s.rest, rest.Route{
		Method: http.MethodPost, Path: "/api/v1/webhooks/{id}/secret/rotate", ID: "rotate-webhook-secret",
		Tag: tagSecrets, Scope: postrider.ScopeSecrets,
		Summary: "Rotate Secret", Status: http.StatusOK, Errors: []int{http.StatusNotFound},
		Description: "Replaces the signing secret, from the next attempts on or at `effective_at`. " +
			"`headers` in the answer says which header does what when. " +
			"`webhook-signature` has room for several values: from now on it has the new secret's, " +
			"and the old one's until `grace_seconds` after `effective_at`, so that a receiver can change over without losing a delivery. " +
			"Five secrets sign at once at most: with a sixth, the oldest ends. " +
			"`X-Hub-Signature-256`, `X-Hub-Signature` and `Authorization` have room for one value. They change at `effective_at`, " +
			"by the `webhook-timestamp` of the attempt, and a receiver that still expects the old one then refuses. " +
			"For the methods that have none but these (hmac_sha1, bearer, basic_auth) `grace_seconds` does nothing. " +
			"Until `effective_at` the old secret is the current one, and the new one is `next`. " +
			"Another rotation takes the place of one that is still to come. " +
			"Without a body a new secret is made; for bearer and basic_auth it must be given.",
	}, rotation, s.rotateSecret)
}

// rotateSecret is the body of a rotate request.
type rotateSecret struct {
	Secret       *string `json:"secret,omitempty" nullable:"true" minLength:"1" maxLength:"1024" writeOnly:"true" doc:"The new secret, with the rules of a new webhook's; one is made when it is left out or null."`
	GraceSeconds int     `json:"grace_seconds,omitempty" minimum:"0" maximum:"604800" default:"86400" doc:"How long after effective_at the old secret signs too, in webhook-signature alone."`
	EffectiveAt  *string `json:"effective_at,omitempty" nullable:"true" format:"date-time" doc:"When the new secret becomes the current one (RFC 3339), at most 7 days ahead; at once when it is left out or null."`
}

const defaultGraceSeconds = 86400

// webhookSecret is a revealed secret.
type webhookSecret struct {
	ID        string                     `json:"id" example:"sec_019a8f3c5b7e7c3a9d2e4f6081a2b3c4"`
	Secret    string                     `json:"secret"`
	CreatedAt time.Time                  `json:"created_at"`
	Next      *nextSecret                `json:"next" doc:"The secret that is to take the current one's place; null when none is to come."`
	Previous  []postrider.PreviousSecret `json:"previous" nullable:"false" doc:"Replaced secrets in their grace period, newest first; headers says where they sign."`
	Headers   []secretHeader             `json:"headers" nullable:"false" doc:"The request headers that the webhook's secret makes, and since when; empty when the webhook's requests are not signed."`
}

// nextSecret is a revealed secret that is to become the current one.
type nextSecret struct {
	_           struct{}  `nullable:"true"`
	Secret      string    `json:"secret"`
	CreatedAt   time.Time `json:"created_at"`
	EffectiveAt time.Time `json:"effective_at"`
}

// secretHeader says what a request header does in a rotation.
type secretHeader struct {
	Name          string     `json:"name" example:"Webhook-Signature"`
	CurrentSince  time.Time  `json:"current_since" doc:"From then on attempts have the current secret's value."`
	CurrentUntil  *time.Time `json:"current_until" doc:"Until then; null when no secret is to come."`
	PreviousUntil *time.Time `json:"previous_until" doc:"Until then the replaced secrets' values are beside it; null when they are not: the header changed at once."`
	NextSince     *time.Time `json:"next_since" doc:"From then on attempts have the value of the secret that is to come: beside the current one's where the header has room for it, and otherwise in its place; null when none is to come."`
}

// headersOf returns what the headers of a signing method do with a secret.
func headersOf(method postrider.SigningMethod, secret postrider.Secret) []secretHeader {
	headers := signing.Headers(method)
	shown := make([]secretHeader, 0, len(headers))
	for _, header := range headers {
		if header.Overlaps {
			shown = append(shown, overlapping(header.Name, secret))
			continue
		}
		h := secretHeader{Name: header.Name, CurrentSince: secret.EffectiveAt}
		if secret.Next != nil {
			h.CurrentUntil, h.NextSince = &secret.Next.EffectiveAt, &secret.Next.EffectiveAt
		}
		shown = append(shown, h)
	}
	return shown
}

// overlapping returns what a header does that has room for the values of several secrets.
func overlapping(name string, secret postrider.Secret) secretHeader {
	h := secretHeader{Name: name, CurrentSince: secret.CreatedAt, CurrentUntil: secret.ExpiresAt}
	for _, previous := range secret.Previous {
		if h.PreviousUntil == nil || previous.ExpiresAt.After(*h.PreviousUntil) {
			h.PreviousUntil = &previous.ExpiresAt
		}
	}
	if secret.Next != nil {
		h.NextSince = &secret.Next.CreatedAt
	}
	return h
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
	shown := webhookSecret{
		ID: secret.ID, Secret: secret.Value, CreatedAt: secret.CreatedAt, Previous: secret.Previous, Headers: headersOf(method, secret),
	}
	if next := secret.Next; next != nil {
		shown.Next = &nextSecret{Secret: next.Value, CreatedAt: next.CreatedAt, EffectiveAt: next.EffectiveAt}
	}
	if secret.Previous == nil || !overlaps(method) { // they sign nothing
		shown.Previous = []postrider.PreviousSecret{}
	}
	return &secretOutput{CacheControl: "no-store", Body: shown}
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
	rotated := postrider.Rotation{Value: value}
	if rotated.EffectiveAt, err = effectiveAt(request, w, postrider.Timestamp(s.Now())); err != nil {
		return nil, err
	}
	if overlaps(w.SigningMethod) { // else the old secret would be kept, and sign nothing
		rotated.Grace = time.Duration(request.GraceSeconds) * time.Second
	}
	secret, err := s.Store.RotateSecret(ctx, w.WorkspaceID, w.ID, rotated)
	return showSecret(w.SigningMethod, secret), err
}

// effectiveAt returns when a rotation takes effect; zero for at once.
func effectiveAt(request rotateSecret, w postrider.Webhook, now time.Time) (time.Time, error) {
	if request.EffectiveAt == nil {
		return time.Time{}, nil
	}
	const field = "body.effective_at"
	text := *request.EffectiveAt
	at, err := rest.ParseTime(field, text)
	switch {
	case err != nil:
		return at, err
	case w.SecretID == nil:
		return at, rest.BrokenField(field, "must be left out for a webhook's first secret, because none signs until then", text)
	case at.Before(now):
		return at, rest.BrokenField(field, "must not be past", text)
	case at.After(now.Add(postrider.MaxRotateAhead)):
		return at, rest.BrokenField(field, "must be at most 7 days ahead", text)
	}
	return at, nil
}
