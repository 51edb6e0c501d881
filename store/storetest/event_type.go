//nolint:thelper // these are the tests, not helpers of one
package storetest

import (
	"context"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
)

func eventTypeTests() map[string]func(*testing.T, *Bundle) {
	return map[string]func(*testing.T, *Bundle){
		"an event type is kept, changed and deleted":   eventTypeLife,
		"event types are a workspace's own":            eventTypesApart,
		"a workspace has a bounded catalogue":          eventTypesBounded,
		"a schema refuses events, and warns of others": schemaEnforced,
		"a changed schema holds at once":               schemaChanged,
		"a refused event takes its batch along":        schemaOfBatch,
		"a repeated publish is answered as before":     schemaRepeated,
		"a deprecated type is remarked":                typeDeprecated,
	}
}

// newEventType adds a type to the catalogue, changed by edit.
func (b *Bundle) newEventType(t *testing.T, name string, edit func(*postrider.EventType)) postrider.EventType {
	t.Helper()
	e := postrider.EventType{WorkspaceID: b.Workspace, Type: name}
	e.Enforcement = postrider.EnforceOff
	edit(&e)
	created, err := b.CreateEventType(t.Context(), e)
	require.NoError(t, err)
	return created
}

// withSchema is an edit that sets a schema.
func withSchema(schema string, enforcement postrider.Enforcement) func(*postrider.EventType) {
	return func(e *postrider.EventType) { e.Schema, e.Enforcement = []byte(schema), enforcement }
}

// publisher is a store that events are published to.
type publisher interface {
	Publish(ctx context.Context, p postrider.Publication) ([]postrider.Receipt, error)
}

// publishJSON publishes events of type call.ended with the data.
func (b *Bundle) publishJSON(t *testing.T, from publisher, data ...string) ([]postrider.Receipt, error) {
	t.Helper()
	p := b.Publication()
	for _, d := range data {
		p.Events = append(p.Events, b.eventWith(t, d))
	}
	return from.Publish(t.Context(), p)
}

// refusedAt checks that a publication was refused for an event, and returns the fields.
func refusedAt(t *testing.T, err error, index int) []postrider.FieldError {
	t.Helper()
	var refused *postrider.EventError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, index, refused.Index)
	var invalid *postrider.Error
	require.ErrorAs(t, err, &invalid)
	require.Equal(t, postrider.CodeInvalid, invalid.Code)
	return invalid.Fields
}

func eventTypeLife(t *testing.T, b *Bundle) {
	ctx := t.Context()
	text, other := "Somebody hung up.", "call.finished"
	created := b.newEventType(t, "call.ended", func(e *postrider.EventType) {
		e.EventTypeSettings = postrider.EventTypeSettings{
			Description: &text, Schema: []byte(`{"type":"object"}`), Example: []byte(`{"n":1.10}`),
			Enforcement: postrider.EnforceWarn, Deprecated: true, ReplacedBy: &other,
		}
	})
	read, err := b.EventType(ctx, b.Workspace, "call.ended")
	require.NoError(t, err)
	require.Equal(t, created, read)
	_, err = b.CreateEventType(ctx, created)
	require.Equal(t, postrider.CodeConflict, postrider.CodeOf(err))

	changed, err := b.UpdateEventType(ctx, b.Workspace, "call.ended", func(e *postrider.EventType) error {
		e.Schema, e.Enforcement, e.Description = nil, postrider.EnforceOff, nil
		return nil
	})
	require.NoError(t, err)
	read, err = b.EventType(ctx, b.Workspace, "call.ended")
	require.NoError(t, err)
	require.Equal(t, changed, read)
	list, err := b.EventTypes(ctx, b.Workspace, postrider.Page{})
	require.NoError(t, err)
	require.Len(t, list.Items, 1)
	require.Nil(t, list.Items[0].Example, "a list leaves out what may be long")

	require.NoError(t, b.DeleteEventType(ctx, b.Workspace, "call.ended"))
	require.Equal(t, postrider.CodeNotFound, postrider.CodeOf(b.DeleteEventType(ctx, b.Workspace, "call.ended")))
	_, err = b.EventType(ctx, b.Workspace, "call.ended")
	require.Equal(t, postrider.CodeNotFound, postrider.CodeOf(err))
	_, err = b.UpdateEventType(ctx, b.Workspace, "call.ended", func(*postrider.EventType) error { return nil })
	require.Equal(t, postrider.CodeNotFound, postrider.CodeOf(err))

	audit, err := b.Audit(ctx, b.Workspace, postrider.AuditFilter{ResourceID: "call.ended"}, postrider.Page{})
	require.NoError(t, err)
	require.Len(t, audit.Items, 3)
	for _, change := range audit.Items[2].Changes {
		require.Equal(t, change.Field == "example", change.Redacted, change.Field)
	}
}

func eventTypesApart(t *testing.T, b *Bundle) {
	b.newEventType(t, "call.ended", withSchema(`{"type":"null"}`, postrider.EnforceAll))
	other := b.NewWorkspace(t)
	_, err := b.EventType(t.Context(), other, "call.ended")
	require.Equal(t, postrider.CodeNotFound, postrider.CodeOf(err))
	e := b.eventWith(t, "1")
	e.WorkspaceID = other
	_, err = b.Publish(t.Context(), postrider.Publication{WorkspaceID: other, Events: []postrider.PublishedEvent{e}})
	require.NoError(t, err)
}

func eventTypesBounded(t *testing.T, b *Bundle) {
	for i := range postrider.MaxEventTypes {
		b.newEventType(t, "type_"+strconv.Itoa(i), func(*postrider.EventType) {})
	}
	one := postrider.EventType{WorkspaceID: b.Workspace, Type: "more"}
	one.Enforcement = postrider.EnforceOff
	_, err := b.CreateEventType(t.Context(), one)
	require.Equal(t, postrider.CodeConflict, postrider.CodeOf(err))
	require.NoError(t, b.DeleteEventType(t.Context(), b.Workspace, "type_7"))
	_, err = b.CreateEventType(t.Context(), one)
	require.NoError(t, err)
}

func schemaEnforced(t *testing.T, b *Bundle) {
	b.NewWebhook(t)
	b.newEventType(t, "call.ended", withSchema(`{"properties":{"amount":{"type":"number"}}}`, postrider.EnforceAll))
	for range 2 { // the second time from what is remembered
		_, err := b.publishJSON(t, b, `{"amount":"x"}`)
		require.Equal(t, []postrider.FieldError{{Field: "data.amount", Message: "must be of type number"}}, refusedAt(t, err, 0))
		receipts, err := b.publishJSON(t, b, `{"amount":1}`)
		require.NoError(t, err)
		require.Empty(t, receipts[0].Remarks)
	}
	require.Equal(t, 2, b.count(t.Context(), t, "SELECT COUNT(*) FROM events"))

	_, err := b.UpdateEventType(t.Context(), b.Workspace, "call.ended", func(e *postrider.EventType) error {
		e.Enforcement = postrider.EnforceWarn
		return nil
	})
	require.NoError(t, err)
	receipts, err := b.publishJSON(t, b, `{"amount":1}`, `{"amount":"x"}`)
	require.NoError(t, err)
	require.Nil(t, receipts[0].SchemaErrors)
	require.Equal(t, []string{"data.amount must be of type number"}, receipts[1].SchemaErrors)
	require.Equal(t, 1, receipts[1].Deliveries)
	for i, want := range []*bool{nil, new(bool)} {
		event, err := b.Event(t.Context(), b.Workspace, receipts[i].ID)
		require.NoError(t, err)
		require.Equal(t, want, event.SchemaValid)
	}
	list, err := b.Events(t.Context(), b.Workspace, postrider.EventFilter{}, postrider.Page{Limit: 1})
	require.NoError(t, err)
	require.Equal(t, new(bool), list.Items[0].SchemaValid)
}

func schemaChanged(t *testing.T, b *Bundle) {
	other := b.Open(t, b.Key) // another process, which remembers the schema as it was
	b.newEventType(t, "call.ended", withSchema(`{"const":1}`, postrider.EnforceAll))
	_, err := b.publishJSON(t, other, "1")
	require.NoError(t, err)
	_, err = b.publishJSON(t, other, "2")
	refusedAt(t, err, 0)
	_, err = b.UpdateEventType(t.Context(), b.Workspace, "call.ended", func(e *postrider.EventType) error {
		e.Schema = []byte(`{"const":2}`)
		return nil
	})
	require.NoError(t, err)
	_, err = b.publishJSON(t, other, "2")
	require.NoError(t, err)
	_, err = b.publishJSON(t, other, "1")
	refusedAt(t, err, 0)
	require.NoError(t, b.DeleteEventType(t.Context(), b.Workspace, "call.ended"))
	_, err = b.publishJSON(t, other, "1")
	require.NoError(t, err)
}

func schemaOfBatch(t *testing.T, b *Bundle) {
	b.newEventType(t, "call.ended", withSchema(`{"type":"integer"}`, postrider.EnforceAll))
	_, err := b.publishJSON(t, b, "1", "2", "2.5", "3")
	refusedAt(t, err, 2)
	require.Zero(t, b.count(t.Context(), t, "SELECT COUNT(*) FROM events"))
}

// Guards publishers that repeat: what was accepted once stays accepted, whatever the catalogue says by then.
func schemaRepeated(t *testing.T, b *Bundle) {
	b.newEventType(t, "call.ended", withSchema(`{"type":"null"}`, postrider.EnforceWarn))
	e := b.eventWith(t, "1")
	e.ID = "mine"
	p := b.Publication(e)
	receipts, err := b.Publish(t.Context(), p)
	require.NoError(t, err)
	require.NotEmpty(t, receipts[0].SchemaErrors)
	_, err = b.UpdateEventType(t.Context(), b.Workspace, "call.ended", func(e *postrider.EventType) error {
		e.Enforcement = postrider.EnforceAll
		return nil
	})
	require.NoError(t, err)
	again, err := b.Publish(t.Context(), p)
	require.NoError(t, err)
	require.True(t, again[0].Duplicate)
	require.Equal(t, receipts[0].Remarks, again[0].Remarks)
}

func typeDeprecated(t *testing.T, b *Bundle) {
	other := "call.finished"
	b.newEventType(t, "call.ended", func(e *postrider.EventType) { e.Deprecated, e.ReplacedBy = true, &other })
	receipts, err := b.publishJSON(t, b, "1")
	require.NoError(t, err)
	require.Equal(t, postrider.Remarks{Deprecated: true, ReplacedBy: &other}, receipts[0].Remarks)
}
