package api

import (
	"context"
	"net/http"
	"time"

	"postrider.dev/postrider"
	"postrider.dev/postrider/api/rest"
)

// adminStore keeps workspaces and their keys.
type adminStore interface {
	CreateWorkspace(ctx context.Context, w postrider.Workspace) error
	// Workspace returns a workspace, or [postrider.CodeNotFound] if the id is unknown.
	Workspace(ctx context.Context, id string) (postrider.Workspace, error)
	Workspaces(ctx context.Context, p postrider.Page) (postrider.List[postrider.Workspace], error)
	CreateAPIKey(ctx context.Context, k postrider.APIKey) error
	APIKeys(ctx context.Context, workspaceID string, p postrider.Page) (postrider.List[postrider.APIKey], error)
	// RevokeAPIKey revokes a key; one that is revoked already stays so. Returns
	// [postrider.CodeNotFound] if the id is unknown.
	RevokeAPIKey(ctx context.Context, id string) error
}

const tagAdmin = "Administration"

func (s *server) routeAdmin() {
	const scope = postrider.ScopeAdmin
	rest.HandleBody(s.rest, rest.Route{
		Method: http.MethodPost, Path: "/api/v1/admin/workspaces", ID: "create-workspace", Tag: tagAdmin, Scope: scope,
		Summary: "Create Workspace", Status: http.StatusCreated,
	}, rest.JSONBody[newWorkspace](s.rest, nil), s.createWorkspace)
	rest.Handle(s.rest, rest.Route{
		Method: http.MethodGet, Path: "/api/v1/admin/workspaces", ID: "list-workspaces", Tag: tagAdmin, Scope: scope,
		Summary: "List Workspaces",
	}, s.listWorkspaces)
	rest.Handle(s.rest, rest.Route{
		Method: http.MethodGet, Path: "/api/v1/admin/workspaces/{id}", ID: "get-workspace", Tag: tagAdmin, Scope: scope,
		Summary: "Get Workspace", Errors: []int{http.StatusNotFound},
	}, s.getWorkspace)
	rest.HandleBody(s.rest, rest.Route{
		Method: http.MethodPost, Path: "/api/v1/admin/workspaces/{id}/keys", ID: "create-key", Tag: tagAdmin, Scope: scope,
		Summary: "Create API Key", Status: http.StatusCreated, Errors: []int{http.StatusNotFound},
		Description: "The key itself is in this answer and never shown again: it is stored hashed.",
	}, rest.JSONBody[newAPIKey](s.rest, nil), s.createKey)
	rest.Handle(s.rest, rest.Route{
		Method: http.MethodGet, Path: "/api/v1/admin/workspaces/{id}/keys", ID: "list-keys", Tag: tagAdmin, Scope: scope,
		Summary: "List API Keys", Errors: []int{http.StatusNotFound},
		Description: "Expired and revoked ones too.",
	}, s.listKeys)
	rest.Handle(s.rest, rest.Route{
		Method: http.MethodDelete, Path: "/api/v1/admin/keys/{id}", ID: "revoke-key", Tag: tagAdmin, Scope: scope,
		Summary: "Revoke API Key", Status: http.StatusNoContent, Errors: []int{http.StatusNotFound},
		Description: "Every process refuses the key within five seconds. Also the key that asks may be revoked.",
	}, s.revokeKey)
}

// newWorkspace is the body of a create request.
type newWorkspace struct {
	Name string `json:"name" minLength:"1" maxLength:"255" example:"acme"`
}

// shownWorkspace is the answer about a workspace.
type shownWorkspace struct {
	ID        string    `json:"id" example:"ws_019a8f3c5b7e7c3a9d2e4f6081a2b3c4"`
	Name      string    `json:"name"`
	CreatedAt time.Time `json:"created_at"`
}

func showWorkspace(w postrider.Workspace) shownWorkspace { return shownWorkspace(w) }

type createdWorkspace struct {
	Location string `header:"Location" doc:"Path of the new workspace."`
	Body     shownWorkspace
}

func (s *server) createWorkspace(ctx context.Context, _ *struct{}, asked newWorkspace) (*createdWorkspace, error) {
	w := postrider.Workspace{ID: s.IDs.New(postrider.PrefixWorkspace), Name: asked.Name, CreatedAt: postrider.Timestamp(s.Now())}
	if err := postrider.Invalid(w.Validate()); err != nil {
		return nil, err
	}
	if err := s.Store.CreateWorkspace(ctx, w); err != nil {
		return nil, err
	}
	return &createdWorkspace{Location: "/api/v1/admin/workspaces/" + w.ID, Body: showWorkspace(w)}, nil
}

func (s *server) listWorkspaces(ctx context.Context, in *rest.PageQuery) (*rest.Output[rest.List[shownWorkspace]], error) {
	page, err := in.Page(postrider.PrefixWorkspace)
	if err != nil {
		return nil, err
	}
	found, err := s.Store.Workspaces(ctx, page)
	if err != nil {
		return nil, err
	}
	return rest.ListOf(found, showWorkspace), nil
}

// WorkspacePath is the path of a route on one workspace.
type WorkspacePath struct {
	ID string `path:"id" doc:"Id of the workspace."`
}

func (s *server) getWorkspace(ctx context.Context, in *WorkspacePath) (*rest.Output[shownWorkspace], error) {
	w, err := s.Store.Workspace(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return &rest.Output[shownWorkspace]{Body: showWorkspace(w)}, nil
}

// newAPIKey is the body of a create request.
type newAPIKey struct {
	Name      string            `json:"name" minLength:"1" maxLength:"255" example:"publisher"`
	Scopes    []postrider.Scope `json:"scopes" nullable:"false" minItems:"1" enum:"publish,manage,read,secrets,admin" doc:"What the key may do. A key with the scope admin manages every workspace."`
	ExpiresAt *string           `json:"expires_at,omitempty" nullable:"true" format:"date-time" doc:"When the key ends by itself (RFC 3339); null: never."`
}

// apiKey is the answer about a key. It never has the key itself.
type apiKey struct {
	ID          string            `json:"id" example:"key_019a8f3c5b7e7c3a9d2e4f6081a2b3c4"`
	WorkspaceID string            `json:"workspace_id"`
	Name        string            `json:"name"`
	Scopes      []postrider.Scope `json:"scopes" nullable:"false"`
	CreatedAt   time.Time         `json:"created_at"`
	ExpiresAt   *time.Time        `json:"expires_at"`
	RevokedAt   *time.Time        `json:"revoked_at"`
	LastUsedAt  *time.Time        `json:"last_used_at" doc:"To about a minute; null: never."`
}

func showKey(k postrider.APIKey) apiKey {
	return apiKey{
		ID: k.ID, WorkspaceID: k.WorkspaceID, Name: k.Name, Scopes: k.Scopes,
		CreatedAt: k.CreatedAt, ExpiresAt: k.ExpiresAt, RevokedAt: k.RevokedAt, LastUsedAt: k.LastUsedAt,
	}
}

// ShownKey is what createdKey embeds: huma describes exported fields only, and the document
// calls the type after apiKey.
type ShownKey = apiKey

type createdKey struct {
	CacheControl string `header:"Cache-Control"`
	Body         struct {
		ShownKey

		Key string `json:"key" doc:"What to send as X-API-Key. It is not shown again."`
	}
}

func (s *server) createKey(ctx context.Context, in *WorkspacePath, asked newAPIKey) (*createdKey, error) {
	w, err := s.Store.Workspace(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	key := postrider.APIKey{WorkspaceID: w.ID, Name: asked.Name, Scopes: asked.Scopes}
	if asked.ExpiresAt != nil {
		expires, err := rest.ParseTime("body.expires_at", *asked.ExpiresAt)
		if err != nil {
			return nil, err
		}
		key.ExpiresAt = &expires
	}
	key, secret, err := key.Issue(s.IDs, s.Entropy, s.Now())
	if err != nil {
		return nil, err
	}
	if err := s.Store.CreateAPIKey(ctx, key); err != nil {
		return nil, err
	}
	created := &createdKey{CacheControl: "no-store"}
	created.Body.ShownKey, created.Body.Key = showKey(key), secret
	return created, nil
}

type listKeysInput struct {
	WorkspacePath
	rest.PageQuery
}

func (s *server) listKeys(ctx context.Context, in *listKeysInput) (*rest.Output[rest.List[apiKey]], error) {
	page, err := in.Page(postrider.PrefixAPIKey)
	if err != nil {
		return nil, err
	}
	if _, err := s.Store.Workspace(ctx, in.ID); err != nil {
		return nil, err
	}
	found, err := s.Store.APIKeys(ctx, in.ID, page)
	if err != nil {
		return nil, err
	}
	return rest.ListOf(found, showKey), nil
}

// KeyPath is the path of a route on one key.
type KeyPath struct {
	ID string `path:"id" doc:"Id of the key."`
}

func (s *server) revokeKey(ctx context.Context, in *KeyPath) (*struct{}, error) {
	return nil, s.Store.RevokeAPIKey(ctx, in.ID)
}
