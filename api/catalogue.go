package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"postrider.dev/postrider"
	"postrider.dev/postrider/api/rest"
	"postrider.dev/postrider/catalogue"
)

// catalogueStore keeps event types. Methods on one return [postrider.CodeNotFound] if it is not there.
type catalogueStore interface {
	// CreateEventType returns [postrider.CodeConflict] for a type that is there, or one too many.
	CreateEventType(ctx context.Context, e postrider.EventType) (postrider.EventType, error)
	EventType(ctx context.Context, workspaceID, name string) (postrider.EventType, error)
	// EventTypes leaves out schemas and examples.
	EventTypes(ctx context.Context, workspaceID string, p postrider.Page) (postrider.List[postrider.EventType], error)
	UpdateEventType(ctx context.Context, workspaceID, name string, edit func(*postrider.EventType) error) (postrider.EventType, error)
	DeleteEventType(ctx context.Context, workspaceID, name string) error
}

const tagCatalogue = "Event types"

func (s *server) routeCatalogue() {
	rest.HandleBody(s.rest, rest.Route{
		Method: http.MethodPost, Path: "/api/v1/event-types", ID: "create-event-type", Tag: tagCatalogue, Scope: postrider.ScopeManage,
		Summary: "Create Event Type", Status: http.StatusCreated, Errors: []int{http.StatusConflict},
		Description: "Adds a type to the catalogue of the workspace, which may have 1,000. " +
			"Events of types that are not there are accepted as well. " +
			"A `schema` is checked when events are published, as `enforcement` says.",
	}, rest.JSONBody(s.rest, newEventType), s.createEventType)
	rest.Handle(s.rest, rest.Route{
		Method: http.MethodGet, Path: "/api/v1/event-types", ID: "list-event-types", Tag: tagCatalogue, Scope: postrider.ScopeRead,
		Summary: "List Event Types", Description: "Event types without `schema` and `example`; read one for them.",
	}, s.listEventTypes)
	rest.Handle(s.rest, rest.Route{
		Method: http.MethodGet, Path: "/api/v1/event-types/{type}", ID: "get-event-type", Tag: tagCatalogue, Scope: postrider.ScopeRead,
		Summary: "Get Event Type", Errors: []int{http.StatusNotFound},
	}, s.getEventType)
	rest.HandleBody(s.rest, rest.Route{
		Method: http.MethodPatch, Path: "/api/v1/event-types/{type}", ID: "update-event-type", Tag: tagCatalogue, Scope: postrider.ScopeManage,
		Summary: "Update Event Type", Errors: []int{http.StatusNotFound, http.StatusConflict},
		Description: "Changes the fields that it has; null removes a schema, an example or a text. " +
			"It holds for what is published from then on. It is a 409 when somebody else changed the type meanwhile.",
	}, rest.PatchBody[updateEventType](s.rest), s.updateEventType)
	rest.Handle(s.rest, rest.Route{
		Method: http.MethodDelete, Path: "/api/v1/event-types/{type}", ID: "delete-event-type", Tag: tagCatalogue, Scope: postrider.ScopeManage,
		Summary: "Delete Event Type", Errors: []int{http.StatusNotFound},
		Description: "Takes a type out of the catalogue. Its events are accepted as before, and not checked.",
	}, s.deleteEventType)
}

// createEventType is the body of a create request.
type createEventType struct {
	Type string `json:"type" maxLength:"128" pattern:"^[A-Za-z0-9_]+(\\.[A-Za-z0-9_]+)*$" patternDescription:"an event type: words of letters, digits and underscores, joined by dots" doc:"It cannot be changed." example:"call.ended"`
	postrider.EventTypeSettings
}

// TransformSchema implements huma.SchemaTransformer.
func (createEventType) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	s.Required = []string{"type"}
	s.Properties["enforcement"].Default = string(postrider.EnforceOff)
	s.Properties["deprecated"].Default = false
	return s
}

// newEventType returns the defaults of a create request.
func newEventType() createEventType {
	return createEventType{EventTypeSettings: postrider.EventTypeSettings{Enforcement: postrider.EnforceOff}}
}

// updateEventType is the body of a PATCH request.
type updateEventType struct {
	postrider.EventTypeSettings
}

// TransformSchema implements huma.SchemaTransformer.
func (updateEventType) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	s.Required = nil
	return s
}

// ListedEventType is an event type in a list.
type ListedEventType struct {
	ID          string                `json:"id" doc:"Orders lists. Routes go by type." example:"ety_019a8f3c5b7e7c3a9d2e4f6081a2b3c4"`
	Type        string                `json:"type" example:"call.ended"`
	Description *string               `json:"description"`
	Enforcement postrider.Enforcement `json:"enforcement" enum:"off,warn,enforce"`
	Deprecated  bool                  `json:"deprecated"`
	ReplacedBy  *string               `json:"replaced_by" doc:"What to publish instead, of a deprecated type."`
	CreatedAt   time.Time             `json:"created_at"`
	UpdatedAt   time.Time             `json:"updated_at"`
}

// eventType is the answer about one event type.
type eventType struct {
	ListedEventType
	Schema  json.RawMessage `json:"schema" doc:"A JSON Schema (2020-12) of data; null for none."`
	Example json.RawMessage `json:"example" doc:"Data of such an event; null for none."`
}

func listEventType(e postrider.EventType) ListedEventType {
	return ListedEventType{
		ID: e.ID, Type: e.Type, Description: e.Description, Enforcement: e.Enforcement,
		Deprecated: e.Deprecated, ReplacedBy: e.ReplacedBy, CreatedAt: e.CreatedAt, UpdatedAt: e.UpdatedAt,
	}
}

func showEventType(e postrider.EventType) eventType {
	return eventType{ListedEventType: listEventType(e), Schema: e.Schema, Example: e.Example}
}

// createdEventType is the answer about a new event type.
type createdEventType struct {
	Location string `header:"Location" doc:"The path of the new event type."`
	Body     eventType
}

func (s *server) createEventType(ctx context.Context, _ *struct{}, in createEventType) (*createdEventType, error) {
	e := postrider.EventType{WorkspaceID: rest.Workspace(ctx), Type: in.Type, EventTypeSettings: in.EventTypeSettings}
	if err := checkEventType(ctx, &e); err != nil {
		return nil, err
	}
	e, err := s.Store.CreateEventType(ctx, e)
	return &createdEventType{Location: "/api/v1/event-types/" + e.Type, Body: showEventType(e)}, err
}

func (s *server) listEventTypes(ctx context.Context, in *struct{ rest.PageQuery }) (*rest.Output[rest.List[ListedEventType]], error) {
	page, err := in.Page(postrider.PrefixEventType)
	if err != nil {
		return nil, err
	}
	found, err := s.Store.EventTypes(ctx, rest.Workspace(ctx), page)
	if err != nil {
		return nil, err
	}
	return rest.ListOf(found, listEventType), nil
}

// EventTypePath is the path of a route on one event type.
type EventTypePath struct {
	Type string `path:"type" doc:"The event type." example:"call.ended"`
}

func (s *server) getEventType(ctx context.Context, in *EventTypePath) (*rest.Output[eventType], error) {
	e, err := s.Store.EventType(ctx, rest.Workspace(ctx), in.Type)
	return &rest.Output[eventType]{Body: showEventType(e)}, err
}

// updateEventType compiles and checks before the transaction, because that may take time, in which nobody could
// publish.
func (s *server) updateEventType(
	ctx context.Context, in *EventTypePath, patch rest.Patch[updateEventType],
) (*rest.Output[eventType], error) {
	before, err := s.Store.EventType(ctx, rest.Workspace(ctx), in.Type)
	if err != nil {
		return nil, err
	}
	after := before
	text, err := json.Marshal(before.EventTypeSettings)
	after.EventTypeSettings = postrider.EventTypeSettings{} // a copy, since the patch is decoded over it
	if err = errors.Join(err, json.Unmarshal(text, &after.EventTypeSettings)); err != nil {
		return nil, err
	}
	if err := patch.ApplyTo(&after.EventTypeSettings); err != nil {
		return nil, err
	}
	if err := checkEventType(ctx, &after); err != nil {
		return nil, err
	}
	e, err := s.Store.UpdateEventType(ctx, before.WorkspaceID, in.Type, func(e *postrider.EventType) error {
		if e.ID != before.ID || len(postrider.Changes(e.EventTypeSettings, before.EventTypeSettings)) > 0 {
			return &postrider.Error{Code: postrider.CodeConflict, Message: "the event type was changed meanwhile; read it and try again"}
		}
		e.EventTypeSettings = after.EventTypeSettings
		return nil
	})
	return &rest.Output[eventType]{Body: showEventType(e)}, err
}

func (s *server) deleteEventType(ctx context.Context, in *EventTypePath) (*struct{}, error) {
	return nil, s.Store.DeleteEventType(ctx, rest.Workspace(ctx), in.Type)
}

// maxChecking is how long it may take to check an example.
const maxChecking = 2 * time.Second

// checkEventType returns every rule that an event type breaks. It removes the white space from schema and example,
// and null.
func checkEventType(ctx context.Context, e *postrider.EventType) error {
	e.Schema, e.Example = compacted(e.Schema), compacted(e.Example)
	broken := e.Validate()
	if e.Schema == nil {
		return postrider.Invalid(broken)
	}
	if e.Schema[0] != '{' {
		return postrider.Invalid(append(broken, postrider.FieldError{Field: "schema", Message: "must be an object"}))
	}
	schema, err := catalogue.Compile(e.Schema)
	if err != nil {
		return postrider.Invalid(append(broken, postrider.FieldError{Field: "schema", Message: err.Error()}))
	}
	if e.Example == nil || slices.ContainsFunc(broken, func(f postrider.FieldError) bool { return f.Field == "example" }) {
		return postrider.Invalid(broken)
	}
	ctx, cancel := context.WithTimeout(ctx, maxChecking)
	defer cancel()
	against, err := schema.Check(ctx, "example", e.Example)
	if errors.Is(err, context.DeadlineExceeded) {
		against, err = []postrider.FieldError{{Field: "schema", Message: "takes longer than two seconds to check the example"}}, nil
	}
	if err != nil {
		return err
	}
	return postrider.Invalid(append(broken, against...))
}

// compacted returns valid JSON without its white space, and nil for null.
func compacted(raw json.RawMessage) json.RawMessage {
	var text bytes.Buffer
	if json.Compact(&text, raw) != nil || strings.TrimSpace(text.String()) == "null" {
		return nil
	}
	return text.Bytes()
}
