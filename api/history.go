package api

import (
	"context"
	"net/url"
	"time"

	"postrider.dev/postrider"
	"postrider.dev/postrider/api/rest"
)

// historyTimeout is the time that a workflow has to answer. After it the database does, which
// knows the same.
const historyTimeout = 2 * time.Second

// deliveryHistory is the answer about a delivery's history.
type deliveryHistory struct {
	DeliveryID    string                  `json:"delivery_id"`
	State         postrider.DeliveryState `json:"state" enum:"pending,delivering,retrying,parked,succeeded,failed,cancelled"`
	Policy        postrider.Policy        `json:"policy"`
	Attempts      []postrider.Attempt     `json:"attempts" nullable:"false"`
	NextAttemptAt *time.Time              `json:"next_attempt_at"`
	WorkflowID    *string                 `json:"workflow_id" doc:"Null while no workflow was started."`
	RunID         *string                 `json:"run_id" doc:"Null when the database answered."`
	TemporalUIURL *string                 `json:"temporal_ui_url" doc:"The workflow in Temporal's web UI; null when there is none."`
	Source        string                  `json:"source" enum:"workflow,database"`
	Actions       []postrider.Action      `json:"actions" nullable:"false" doc:"What operators did, in the order in which it happened; the latest 1000."`
}

func (s *server) getHistory(ctx context.Context, in *deliveryInput) (*rest.Output[deliveryHistory], error) {
	d, err := s.Store.Delivery(ctx, rest.Workspace(ctx), in.ID)
	if err != nil {
		return nil, err
	}
	shown := deliveryHistory{DeliveryID: d.ID, State: d.State, Policy: d.Policy, NextAttemptAt: d.NextAttemptAt}
	if told, answered := s.askWorkflow(ctx, d); answered {
		shown.Source, shown.RunID = "workflow", &told.RunID
		shown.State, shown.NextAttemptAt, shown.Attempts = told.State, told.NextAttemptAt, told.Attempts
		if told.Policy != (postrider.Policy{}) { // a batch does not know its deliveries' policies before it ends
			shown.Policy = told.Policy
		}
	} else {
		shown.Source = "database"
		if shown.Attempts, err = s.Store.Attempts(ctx, d.ID); err != nil {
			return nil, err
		}
	}
	if shown.Attempts == nil {
		shown.Attempts = []postrider.Attempt{}
	}
	if shown.Actions, err = s.Store.Actions(ctx, d.ID); err != nil {
		return nil, err
	}
	if d.WorkflowID != "" {
		shown.WorkflowID = &d.WorkflowID
		shown.TemporalUIURL = s.temporalUIURL(d.WorkflowID, shown.RunID)
	}
	return &rest.Output[deliveryHistory]{Body: shown}, nil
}

// askWorkflow returns the history that the delivery's workflow has. It returns false if the
// delivery has no workflow, if that does not answer, and if it knows less than the database, which
// is right about a delivery that is finished. The reason does not matter: the database answers then.
func (s *server) askWorkflow(ctx context.Context, d postrider.Delivery) (postrider.History, bool) {
	if s.Histories == nil || d.WorkflowID == "" {
		return postrider.History{}, false
	}
	ctx, cancel := context.WithTimeout(ctx, historyTimeout)
	defer cancel()
	history, err := s.Histories.History(ctx, d.WorkflowID, d.ID)
	return history, err == nil && !isBehind(history, d)
}

// isBehind reports whether the workflow that made the latest attempt has not heard what became of
// the delivery since: it was cancelled, or an operator changed it. One that is cancelled between an
// attempt's record and its report does not hear how that ended.
func isBehind(told postrider.History, d postrider.Delivery) bool {
	switch {
	case d.State.Finished():
		return told.State != d.State
	case told.State.Finished(), len(told.Attempts) > d.AttemptCount:
		return false
	case told.Policy != d.Policy && told.Policy != (postrider.Policy{}):
		return true
	}
	next := told.NextAttemptAt
	return next != nil && d.NextAttemptAt != nil && !next.Equal(*d.NextAttemptAt)
}

// temporalUIURL returns the address at which Temporal's web UI shows a workflow, nil if the
// UI's own address is not configured.
func (s *server) temporalUIURL(workflowID string, runID *string) *string {
	if s.TemporalUIURL == "" {
		return nil
	}
	parts := []string{"namespaces", url.PathEscape(s.TemporalNamespace), "workflows", url.PathEscape(workflowID)}
	if runID != nil {
		parts = append(parts, url.PathEscape(*runID))
	}
	link, err := url.JoinPath(s.TemporalUIURL, parts...)
	if err != nil {
		return nil
	}
	return &link
}
