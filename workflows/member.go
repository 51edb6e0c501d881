package workflows

import (
	"fmt"

	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	"postrider.dev/postrider"
	"postrider.dev/postrider/activities"
)

// member is a delivery that a workflow carries.
type member struct {
	id      string
	history postrider.History // the answer to the query
	left    bool              // this workflow does not carry it any more
	expired bool              // it failed because it expired
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
	return ErrorExhausted, fmt.Sprintf("attempt %d of %d failed: %s", m.attempts(), 1+m.history.Policy.MaxRetries, reason)
}

// Failure describes a delivery that failed for good. The first detail of a Delivery workflow's
// error is a Failure, or a list of them if the workflow may carry several deliveries.
type Failure struct {
	DeliveryID string           `json:"delivery_id"`
	WebhookID  string           `json:"webhook_id,omitempty"`
	Attempts   int              `json:"attempts"`
	LastResult postrider.Result `json:"last_result"`
}

// details returns the first detail of the workflow's error.
func (c *carrier) details(members []*member) any {
	failures := make([]Failure, len(members))
	for i, m := range members {
		failures[i] = Failure{DeliveryID: m.id, WebhookID: c.in.WebhookID, Attempts: m.attempts(), LastResult: m.last().Result}
	}
	if c.in.DeliveryID != "" {
		return failures[0]
	}
	return failures
}

func failure(kind, message string, details any) error {
	return temporal.NewNonRetryableApplicationError(message, kind, nil, details)
}

// conclude returns the error with which the workflow ends after its last attempt; nil when no
// delivery failed for good and not all were cancelled.
func (c *carrier) conclude() error {
	all := c.members
	if c.in.Batch != nil {
		all = c.firsts.failed(c.runID)
	}
	var failed []*member
	cancelled := 0
	for _, m := range all {
		m.history.NextAttemptAt = nil
		switch {
		case m.left:
		case m.history.State == postrider.StateFailed:
			failed = append(failed, m)
		case m.history.State == postrider.StateCancelled:
			cancelled++
		}
	}
	switch {
	case len(failed) > 0:
		kind, message := failed[0].cause()
		if c.in.DeliveryID == "" {
			message = fmt.Sprintf("%d deliveries failed for good, among them %s: %s", len(failed), failed[0].id, message)
		}
		return failure(kind, message, c.details(failed))
	case cancelled > 0 && cancelled == len(all):
		return temporal.NewCanceledError("cancelled in the database")
	}
	return nil
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
	m := &member{id: report.DeliveryID, expired: report.Expired, history: postrider.History{
		State: report.State, Attempts: report.Attempts, NextAttemptAt: report.NextAttemptAt, RunID: runID,
	}}
	if report.Policy != nil {
		m.history.Policy = *report.Policy
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

// failed returns the deliveries that failed for good at their first attempt.
func (f *firstReports) failed(runID string) []*member {
	reports, err := f.decode()
	if err != nil {
		return nil
	}
	var failed []*member
	for _, report := range reports {
		if report.State == postrider.StateFailed {
			failed = append(failed, memberOf(report, runID))
		}
	}
	return failed
}
