package workflows

import (
	"fmt"

	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	"postrider.dev/postrider"
	"postrider.dev/postrider/activities"
)

// member is what a workflow knows of a delivery that it carries.
type member struct {
	id      string
	history postrider.History // what the query answers
	left    bool              // another workflow goes on with it, or none
}

func (m *member) answer() postrider.History {
	answer := m.history
	if answer.Attempts == nil {
		answer.Attempts = []postrider.Attempt{}
	}
	return answer
}

// learn brings the history up to a report. Reports can come late and twice: an
// older one adds what was missing and changes nothing else.
func (m *member) learn(report activities.Report) {
	before := m.attempts()
	m.history.Attempts = postrider.MergeAttempts(m.history.Attempts, report.Attempts...)
	m.left = m.left || report.Left
	if m.history.State.Finished() || (m.attempts() == before && !report.State.Finished()) {
		return
	}
	m.history.State = report.State
	m.history.NextAttemptAt = report.NextAttemptAt
}

// last returns the last attempt known, and the zero attempt when there is none.
func (m *member) last() postrider.Attempt {
	if n := len(m.history.Attempts); n > 0 {
		return m.history.Attempts[n-1]
	}
	return postrider.Attempt{}
}

// attempts returns how many attempts were made, as far as is known.
func (m *member) attempts() int { return m.last().Number }

// cause returns the type of the error of a delivery that failed for good, and why.
func (m *member) cause() (kind, message string) {
	last := m.last()
	reason := "unknown"
	if last.Error != nil {
		reason = *last.Error
	}
	switch {
	case last.Gone():
		return ErrorGone, "the receiver answered 410 Gone"
	case last.Result == postrider.ResultCancelled:
		return ErrorCalledOff, reason
	}
	return ErrorExhausted, fmt.Sprintf("attempt %d of %d failed: %s", m.attempts(), 1+m.history.Policy.MaxRetries, reason)
}

// Failure is one delivery in the details of the error that a Delivery workflow fails with:
// its first detail, or one of the list that is the first detail, where it carried several.
type Failure struct {
	DeliveryID string           `json:"delivery_id"`
	WebhookID  string           `json:"webhook_id,omitempty"`
	Attempts   int              `json:"attempts"`
	LastResult postrider.Result `json:"last_result"`
}

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

// verdict is how the workflow ends once it has nothing more to do.
func (c *carrier) verdict() error {
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

// firstReports are what the activity of first attempts brought.
type firstReports struct{ raw converter.RawValue }

func (f *firstReports) decode() (activities.Reports, error) {
	var reports activities.Reports
	payload := f.raw.Payload()
	if payload == nil {
		return nil, nil
	}
	return reports, converter.GetDefaultDataConverter().FromPayload(payload, &reports)
}

func memberOf(report activities.Report, runID string) *member {
	m := &member{id: report.DeliveryID, history: postrider.History{
		State: report.State, Attempts: report.Attempts, NextAttemptAt: report.NextAttemptAt, RunID: runID,
	}}
	if report.Policy != nil {
		m.history.Policy = *report.Policy
	}
	return m
}

// answer is the query of a batch, which cannot know its deliveries before it has ended.
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
