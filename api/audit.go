package api

import (
	"context"
	"net/http"
	"slices"
	"time"

	"postrider.dev/postrider"
	"postrider.dev/postrider/api/rest"
)

// auditStore reads the audit log.
type auditStore interface {
	Audit(
		ctx context.Context, workspaceID string, f postrider.AuditFilter, p postrider.Page,
	) (postrider.List[postrider.AuditEntry], error)
}

const tagAudit = "Audit"

func (s *server) routeAudit() {
	rest.Handle(s.rest, rest.Route{
		Method: http.MethodGet, Path: "/api/v1/audit", ID: "list-audit", Tag: tagAudit, Scope: postrider.ScopeManage,
		Summary: "List Audit Log",
		Description: "Who did what to the workspace and its resources: every call that changed something, and every secret that was revealed. " +
			"An entry is stored with its change or not at all. Publishes and reads are not in it, nor calls that were refused. " +
			"Entries are kept for 90 days, unless the operator says otherwise.",
	}, s.listAudit)
}

// auditEntry is an entry of the audit log.
type auditEntry struct {
	ID         string                  `json:"id" example:"aud_019a8f3c5b7e7c3a9d2e4f6081a2b3c4"`
	At         time.Time               `json:"at"`
	Actor      string                  `json:"actor" doc:"Id of the API key; system for what the operator did with a command." example:"key_019a8f3c5b7e7c3a9d2e4f6081a2b3c4"`
	Action     postrider.AuditAction   `json:"action" doc:"A kind of resource and a verb. Later versions have more." example:"webhook.update"`
	Route      *string                 `json:"route" doc:"Method and path of the request; null for what was not done over the API." example:"PATCH /api/v1/webhooks/{id}"`
	ResourceID string                  `json:"resource_id" doc:"Of the webhook, delivery, event, replay, key or workspace; a secret has its webhook's." example:"wh_019a8f3c5b7e7c3a9d2e4f6081a2b3c4"`
	RequestID  *string                 `json:"request_id" doc:"X-Request-Id of the request; null for what was not done over the API."`
	Changes    []postrider.FieldChange `json:"changes" nullable:"false" doc:"The fields that changed. Empty where nothing did, or nothing is to be said: a repeated pause, a deletion."`
}

func showAuditEntry(e postrider.AuditEntry) auditEntry {
	return auditEntry{
		ID: e.ID, At: e.At, Actor: e.Actor, Action: e.Action, Route: optional(e.Route), ResourceID: e.ResourceID,
		RequestID: optional(e.RequestID), Changes: e.Changes,
	}
}

// optional returns nil for "".
func optional(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

type listAuditInput struct {
	rest.PageQuery
	Since    string                `query:"since" format:"rfc3339" doc:"Only what was done at or after this time (RFC 3339)." example:"2026-08-01T00:00:00Z"`
	Until    string                `query:"until" format:"rfc3339" doc:"Only what was done before this time (RFC 3339)." example:"2026-08-02T00:00:00Z"`
	Actor    string                `query:"actor" doc:"Only what was done with this API key, by its id; system for what the operator did with a command."`
	Resource string                `query:"resource" doc:"Only what was done to the resource with this id."`
	Action   postrider.AuditAction `query:"action" doc:"Only this action." example:"webhook.update"`
}

func (s *server) listAudit(ctx context.Context, in *listAuditInput) (*rest.Output[rest.List[auditEntry]], error) {
	page, err := in.Page(postrider.PrefixAudit)
	if err != nil {
		return nil, err
	}
	filter := postrider.AuditFilter{Actor: in.Actor, ResourceID: in.Resource, Action: in.Action}
	if filter.Since, filter.Until, err = (rest.PeriodQuery{Since: in.Since, Until: in.Until}).Period(); err != nil {
		return nil, err
	}
	if in.Action != "" && !slices.Contains(postrider.AuditActions(), in.Action) {
		return nil, rest.BrokenField("query.action", "must be an action, such as webhook.update or secret.reveal", string(in.Action))
	}
	found, err := s.Store.Audit(ctx, rest.Workspace(ctx), filter, page)
	if err != nil {
		return nil, err
	}
	return rest.ListOf(found, showAuditEntry), nil
}
