package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"postrider.dev/postrider"
	"postrider.dev/postrider/api/rest"
)

// replayStore has replay jobs. Every method but Replays returns [postrider.CodeNotFound] for an id that is unknown.
type replayStore interface {
	// CreateReplay stores a running job. Returns [postrider.CodeConflict] if the webhook, or the workspace, has as
	// many as it may.
	CreateReplay(ctx context.Context, spec postrider.ReplaySpec) (postrider.Replay, error)
	// CountReplay returns how many deliveries a job would make now. Returns [postrider.CodeInvalid] about the field
	// since for a period with too much to look at.
	CountReplay(ctx context.Context, spec postrider.ReplaySpec) (int, error)
	Replay(ctx context.Context, workspaceID, id string) (postrider.Replay, error)
	Replays(ctx context.Context, workspaceID string, f postrider.ReplayFilter, p postrider.Page) (postrider.List[postrider.Replay], error)
	// PauseReplay, ResumeReplay and CancelReplay return [postrider.CodeConflict] for a job whose state does not allow it.
	PauseReplay(ctx context.Context, workspaceID, id string) (postrider.Replay, error)
	ResumeReplay(ctx context.Context, workspaceID, id string) (postrider.Replay, error)
	CancelReplay(ctx context.Context, workspaceID, id string) (postrider.Replay, error)
}

const tagReplays = "Replays"

func (s *server) routeReplays() {
	rest.HandleBody(s.rest, rest.Route{
		Method: http.MethodPost, Path: "/api/v1/webhooks/{id}/replay", ID: "create-replay", Tag: tagReplays, Scope: postrider.ScopeManage,
		Summary: "Replay Deliveries", Status: http.StatusAccepted, Errors: []int{http.StatusNotFound, http.StatusConflict},
		Also: map[int]any{http.StatusOK: dryRun{}},
		Description: "Starts a job that sends again to a webhook what was accepted in a period and ended in one of the states, " +
			"or is missing: events that match the webhook's subscription and filter as they are now and have no delivery to it. " +
			"Each is sent by a new delivery, in the order of acceptance and under the webhook's settings as they are now, " +
			"with `replay_of` unless it was missing. What was sent again meanwhile is left out, " +
			"and so are events that have expired, are scheduled for later, or are past their retention. " +
			"A job survives every restart, and leaves at least half of the webhook's `max_in_flight` and `rate_limit` to other deliveries. " +
			"While the webhook is paused it waits; when the webhook is deleted it fails. " +
			"A webhook may have one job that is running or paused, a workspace ten; one more is a 409. " +
			"With `dry_run` nothing is sent, and the answer is a 200 with the number of deliveries that a job would make.",
	}, rest.JSONBody(s.rest, newReplay), s.createReplay)
	rest.Handle(s.rest, rest.Route{
		Method: http.MethodGet, Path: "/api/v1/replays", ID: "list-replays", Tag: tagReplays, Scope: postrider.ScopeRead,
		Summary: "List Replays", Description: "Jobs that have ended are kept as long as deliveries are.",
	}, s.listReplays)
	rest.Handle(s.rest, rest.Route{
		Method: http.MethodGet, Path: "/api/v1/replays/{id}", ID: "get-replay", Tag: tagReplays, Scope: postrider.ScopeRead,
		Summary: "Get Replay", Errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, in *replayPath) (*rest.Output[replay], error) {
		return showReplay(s.Store.Replay(ctx, rest.Workspace(ctx), in.ID))
	})
	s.routeReplayActions()
}

func (s *server) routeReplayActions() {
	for _, r := range []struct {
		verb, summary, description string
		act                        func(s replayStore, ctx context.Context, workspaceID, id string) (postrider.Replay, error)
	}{
		{"pause", "Pause Replay", "Makes no more deliveries until the job is resumed. " +
			"Those that it has made go on. May be repeated.", replayStore.PauseReplay},
		{"resume", "Resume Replay", "Goes on where the job was paused. May be repeated.", replayStore.ResumeReplay},
		{"cancel", "Cancel Replay", "Ends the job. Those of its deliveries that are not finished are cancelled; " +
			"a request that is under way ends as it ends. May be repeated.", replayStore.CancelReplay},
	} {
		rest.Handle(s.rest, rest.Route{
			Method: http.MethodPost, Path: "/api/v1/replays/{id}/" + r.verb, ID: r.verb + "-replay", Tag: tagReplays,
			Scope: postrider.ScopeManage, Summary: r.summary, Description: r.description,
			Errors: []int{http.StatusNotFound, http.StatusConflict},
		}, func(ctx context.Context, in *replayPath) (*rest.Output[replay], error) {
			return showReplay(r.act(s.Store, ctx, rest.Workspace(ctx), in.ID))
		})
	}
}

// replayPath is the path of a route on one job.
type replayPath struct {
	ID string `path:"id" doc:"Id of the replay."`
}

// createReplay is the body that starts a job.
type createReplay struct {
	Since      string               `json:"since" format:"date-time" doc:"Only what was accepted at or after this time (RFC 3339)." example:"2026-08-01T00:00:00Z"`
	Until      string               `json:"until" format:"date-time" doc:"Only what was accepted before this time (RFC 3339); a time in the future means now." example:"2026-08-02T00:00:00Z"`
	States     []postrider.ReplayOf `json:"states" nullable:"false" enum:"failed,cancelled,succeeded,missing" minItems:"1" doc:"How deliveries have ended that are sent again; missing: events without a delivery to the webhook."`
	EventTypes []string             `json:"event_types" required:"false" nullable:"false" maxItems:"100" doc:"Only events of exactly these types; all types when it is left out or empty." example:"[\"call.ended\"]"`
	Rate       int                  `json:"rate" required:"false" default:"50" minimum:"1" maximum:"10000" doc:"Deliveries a second, at most."`
	DryRun     bool                 `json:"dry_run" required:"false" default:"false" doc:"Count only."`
}

func newReplay() createReplay {
	return createReplay{EventTypes: []string{}, Rate: postrider.DefaultReplayRate}
}

// replay is a job as the API shows it.
type replay struct {
	ID         string                `json:"id" example:"rpl_019a8f3c5b7e7c3a9d2e4f6081a2b3c4"`
	WebhookID  string                `json:"webhook_id" example:"wh_019a8f3c5b7e7c3a9d2e4f6081a2b3c4"`
	State      postrider.ReplayState `json:"state" enum:"running,paused,cancelled,finished,failed" doc:"failed: the webhook was deleted."`
	Since      time.Time             `json:"since"`
	Until      time.Time             `json:"until"`
	States     []postrider.ReplayOf  `json:"states" nullable:"false" enum:"failed,cancelled,succeeded,missing"`
	EventTypes []string              `json:"event_types" nullable:"false" doc:"Empty for all."`
	Rate       int                   `json:"rate" doc:"Deliveries a second, at most."`
	Matched    *int                  `json:"matched" doc:"What is sent altogether; null while that is being counted. Less is sent of what changes meanwhile."`
	Sent       int                   `json:"sent" doc:"Deliveries made."`
	Succeeded  int                   `json:"succeeded" doc:"Of these."`
	Failed     int                   `json:"failed" doc:"Of these; cancelled ones count."`
	CreatedAt  time.Time             `json:"created_at"`
	FinishedAt *time.Time            `json:"finished_at" doc:"When it ended, in whatever way; null before."`
	ETA        *time.Time            `json:"eta" doc:"When all deliveries will have been made, at the rate so far; null while that is not known, and when they are."`
	WorkflowID string                `json:"workflow_id" doc:"The Temporal workflow that makes the deliveries; there is none while the job is paused." example:"replay/rpl_019a8f3c5b7e7c3a9d2e4f6081a2b3c4"`
}

func shownReplay(r postrider.Replay) replay {
	return replay{
		ID: r.ID, WebhookID: r.WebhookID, State: r.State, Since: r.Since, Until: r.Until, States: r.States, EventTypes: r.EventTypes,
		Rate: r.Rate, Matched: r.Matched, Sent: r.Sent, Succeeded: r.Succeeded, Failed: r.Failed,
		CreatedAt: r.CreatedAt, FinishedAt: r.FinishedAt, ETA: r.ETA, WorkflowID: r.WorkflowID(),
	}
}

func showReplay(r postrider.Replay, err error) (*rest.Output[replay], error) {
	if err != nil {
		return nil, err
	}
	return &rest.Output[replay]{Body: shownReplay(r)}, nil
}

// dryRun is the answer to a dry run.
type dryRun struct {
	Matched int `json:"matched" doc:"Deliveries that a replay would make."`
}

// replayOrCount is a job, or the count of a dry run.
type replayOrCount struct{ answer any }

// MarshalJSON implements [json.Marshaler].
func (r replayOrCount) MarshalJSON() ([]byte, error) { return json.Marshal(r.answer) }

// Schema implements [huma.SchemaProvider], for a job: the count is the answer of another status.
func (replayOrCount) Schema(r huma.Registry) *huma.Schema {
	return r.Schema(reflect.TypeFor[replay](), true, "Replay")
}

type createdReplay struct {
	Status int
	Body   replayOrCount
}

// maxDryRun is how long a dry run may take.
const maxDryRun = 4 * time.Second

func (s *server) createReplay(ctx context.Context, in *WebhookPath, body createReplay) (*createdReplay, error) {
	spec, err := body.spec(rest.Workspace(ctx), in.ID)
	if err != nil {
		return nil, err
	}
	if body.DryRun {
		ctx, cancel := context.WithTimeout(ctx, maxDryRun)
		defer cancel()
		matched, err := s.Store.CountReplay(ctx, spec)
		return &createdReplay{Status: http.StatusOK, Body: replayOrCount{dryRun{matched}}}, err
	}
	job, err := s.Store.CreateReplay(ctx, spec)
	return &createdReplay{Status: http.StatusAccepted, Body: replayOrCount{shownReplay(job)}}, err
}

// spec returns what the body asks for.
func (b createReplay) spec(workspaceID, webhookID string) (postrider.ReplaySpec, error) {
	spec := postrider.ReplaySpec{
		WorkspaceID: workspaceID, WebhookID: webhookID, Rate: b.Rate,
		States: slices.Compact(slices.Sorted(slices.Values(b.States))), EventTypes: slices.Compact(slices.Sorted(slices.Values(b.EventTypes))),
	}
	var err error
	if spec.Since, err = requiredTime("body.since", b.Since); err != nil {
		return spec, err
	}
	if spec.Until, err = requiredTime("body.until", b.Until); err != nil {
		return spec, err
	}
	if !spec.Since.Before(spec.Until) {
		return spec, rest.BrokenField("body.since", "must be before until", b.Since)
	}
	for i, eventType := range b.EventTypes {
		if !postrider.ValidEventType(eventType) {
			return spec, rest.BrokenField(fmt.Sprintf("body.event_types[%d]", i), "must be an event type", eventType)
		}
	}
	if spec.EventTypes == nil {
		spec.EventTypes = []string{}
	}
	return spec, nil
}

func requiredTime(location, text string) (time.Time, error) {
	at, err := rest.ParseTime(location, text)
	if err == nil && at.IsZero() {
		err = rest.BrokenField(location, "must be an RFC 3339 time", text)
	}
	return at, err
}

type listReplaysInput struct {
	rest.PageQuery
	WebhookID string                `query:"webhook_id" doc:"Only those of this webhook, which may be deleted."`
	State     postrider.ReplayState `query:"state" enum:"running,paused,cancelled,finished,failed"`
}

func (s *server) listReplays(ctx context.Context, in *listReplaysInput) (*rest.Output[rest.List[replay]], error) {
	page, err := in.Page(postrider.PrefixReplay)
	if err != nil {
		return nil, err
	}
	found, err := s.Store.Replays(ctx, rest.Workspace(ctx), postrider.ReplayFilter{WebhookID: in.WebhookID, State: in.State}, page)
	if err != nil {
		return nil, err
	}
	return rest.ListOf(found, shownReplay), nil
}
