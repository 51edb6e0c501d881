package workflows

import (
	"cmp"
	"fmt"

	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"postrider.dev/postrider"
	"postrider.dev/postrider/activities"
)

// member is a delivery that a workflow carries.
type member struct {
	id      string
	history postrider.History // the answer to the query
	left    bool              // this workflow does not carry it any more
	expired bool              // it failed because it expired
	subject activities.Subject
}

func (m *member) answer() postrider.History {
	answer := m.history
	if answer.Attempts == nil {
		answer.Attempts = []postrider.Attempt{}
	}
	return answer
}

// apply updates the history by a report. Reports may come late or twice: an older one adds
// missing attempts and changes nothing else.
func (m *member) apply(report activities.Report) {
	before := m.attempts()
	m.history.Attempts = postrider.MergeAttempts(m.history.Attempts, report.Attempts...)
	m.left = m.left || report.Left
	m.expired = m.expired || report.Expired
	if report.Subject != nil {
		m.subject = *report.Subject
	}
	if m.history.State.Finished() || (m.attempts() == before && !report.State.Finished()) {
		return
	}
	m.history.State = report.State
	m.history.NextAttemptAt = report.NextAttemptAt
}

// act applies an operator's action. What an attempt made of it meanwhile comes as a report.
func (m *member) act(acted postrider.Acted) {
	m.left = m.left || acted.Left
	if acted.Kind == postrider.ActionCancel && !m.history.State.Finished() {
		m.left, m.history.State, m.history.NextAttemptAt = false, postrider.StateCancelled, nil
	}
}

// last returns the last known attempt; the zero attempt before the first one.
func (m *member) last() postrider.Attempt {
	if n := len(m.history.Attempts); n > 0 {
		return m.history.Attempts[n-1]
	}
	return postrider.Attempt{}
}

// attempts returns how many attempts are known.
func (m *member) attempts() int { return m.last().Number }

// cause returns the type and the message of the error for a delivery that failed for good.
func (m *member) cause() (kind, message string) {
	last := m.last()
	reason := "unknown"
	if last.Error != nil {
		reason = *last.Error
	}
	switch {
	case m.expired:
		return ErrorExpired, fmt.Sprintf("it expired after %d attempts", m.attempts())
	case last.Gone():
		return ErrorGone, "the receiver answered 410 Gone"
	case last.Result == postrider.ResultCancelled:
		return ErrorCalledOff, reason
	}
	return ErrorExhausted, fmt.Sprintf("attempt %d of %d failed (%s): %s", m.attempts(), 1+m.history.Policy.MaxRetries, last.Result, reason)
}

// Failure describes a delivery that failed for good. The first detail of a Delivery workflow's
// error is a Failure, or a list of them if the workflow may carry several deliveries.
type Failure struct {
	DeliveryID string           `json:"delivery_id"`
	WebhookID  string           `json:"webhook_id,omitempty"`
	EventID    string           `json:"event_id,omitempty"`
	EventType  string           `json:"event_type,omitempty"`
	Attempts   int              `json:"attempts"`
	LastResult postrider.Result `json:"last_result"`
	StatusCode *int             `json:"status_code,omitempty"` // of the last attempt, if it was answered
}

// details returns the first detail of the workflow's error.
func (c *carrier) details(members []*member) any {
	failures := make([]Failure, len(members))
	for i, m := range members {
		failures[i] = Failure{
			DeliveryID: m.id, WebhookID: cmp.Or(c.in.WebhookID, m.subject.WebhookID),
			EventID: m.subject.EventID, EventType: cmp.Or(c.in.EventType, m.subject.EventType),
			Attempts: m.attempts(), LastResult: m.last().Result, StatusCode: m.last().StatusCode,
		}
	}
	if c.in.DeliveryID != "" {
		return failures[0]
	}
	return failures
}

// named returns what the workflow's error says of a delivery beside the cause.
func (m *member) named() string {
	if m.subject.EventID == "" {
		return m.id
	}
	return fmt.Sprintf("%s of event %s (%s)", m.id, m.subject.EventID, m.subject.EventType)
}

func failure(kind, message string, details any) error {
	return temporal.NewNonRetryableApplicationError(message, kind, nil, details)
}

// conclude returns how the workflow ends after its last attempt: with an error when a delivery
// failed for good, or when all were cancelled.
func (c *carrier) conclude(ctx workflow.Context) (*Result, error) {
	all := c.members
	if c.in.Batch != nil {
		all = c.firsts.members(c.runID)
	}
	var failed []*member
	for _, m := range all {
		m.history.NextAttemptAt = nil
		if !m.left && m.history.State == postrider.StateFailed {
			failed = append(failed, m)
		}
	}
	result := resultOf(all)
	workflow.SetCurrentDetails(ctx, result.describe())
	switch {
	case len(failed) > 0:
		if err := c.listFailed(ctx, failed); err != nil {
			return nil, err
		}
		return nil, c.failed(failed)
	case c.in.Batch == nil && result.Cancelled > 0 && result.Cancelled == len(all):
		return nil, temporal.NewCanceledError("cancelled in the database")
	}
	return result, nil
}

// failed returns the error of a workflow with deliveries that failed for good.
func (c *carrier) failed(members []*member) error {
	kind, message := members[0].cause()
	message = members[0].named() + ": " + message
	if len(members) > 1 {
		message = fmt.Sprintf("%s failed for good, among them %s", count(len(members), "delivery"), message)
	}
	return failure(kind, message, c.details(members))
}

// firstReports are the encoded result of the activity of first attempts.
type firstReports struct{ raw converter.RawValue }

func (f *firstReports) decode() (activities.Reports, error) {
	var reports activities.Reports
	payload := f.raw.Payload()
	if payload == nil {
		return nil, nil
	}
	return reports, converter.GetDefaultDataConverter().FromPayload(payload, &reports)
}

// memberOf returns the member that a report describes.
func memberOf(report activities.Report, runID string) *member {
	m := &member{id: report.DeliveryID, left: report.Left, expired: report.Expired, history: postrider.History{
		State: report.State, Attempts: report.Attempts, NextAttemptAt: report.NextAttemptAt, RunID: runID,
	}}
	if report.Policy != nil {
		m.history.Policy = *report.Policy
	}
	if report.Subject != nil {
		m.subject = *report.Subject
	}
	return m
}

// answer answers the query of a batch, which does not know its deliveries before its end.
func (f *firstReports) answer(deliveryID, runID string) (postrider.History, error) {
	reports, err := f.decode()
	if err != nil {
		return postrider.History{}, err
	}
	for _, report := range reports {
		if report.DeliveryID == deliveryID {
			return memberOf(report, runID).answer(), nil
		}
	}
	if f.raw.Payload() == nil {
		return postrider.History{State: postrider.StateDelivering, RunID: runID, Attempts: []postrider.Attempt{}}, nil
	}
	return postrider.History{}, notCarried(deliveryID)
}

// members returns the deliveries of a batch whose first attempts have ended.
func (f *firstReports) members(runID string) []*member {
	reports, err := f.decode()
	if err != nil {
		return nil
	}
	all := make([]*member, len(reports))
	for i, report := range reports {
		all[i] = memberOf(report, runID)
	}
	return all
}
