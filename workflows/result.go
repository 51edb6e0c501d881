package workflows

import (
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"postrider.dev/postrider"
)

// Result is the result of a Delivery workflow that completed: what became of its deliveries.
type Result struct {
	Deliveries int `json:"deliveries"`
	Succeeded  int `json:"succeeded"`
	Cancelled  int `json:"cancelled,omitempty"`
	Failed     int `json:"failed,omitempty"`
	// HandedOver are deliveries that the workflow does not carry any more: another one retries them,
	// or they are parked.
	HandedOver   int                      `json:"handed_over,omitempty"`
	LastAttempts map[postrider.Result]int `json:"last_attempts,omitempty"` // by how they ended
}

func resultOf(members []*member) *Result {
	r := &Result{Deliveries: len(members), LastAttempts: map[postrider.Result]int{}}
	for _, m := range members {
		switch {
		case m.left:
			r.HandedOver++
		case m.history.State == postrider.StateSucceeded:
			r.Succeeded++
		case m.history.State == postrider.StateCancelled:
			r.Cancelled++
		case m.history.State == postrider.StateFailed:
			r.Failed++
		}
		if m.attempts() > 0 {
			r.LastAttempts[m.last().Result]++
		}
	}
	return r
}

// describe returns the result as a table in Markdown.
func (r *Result) describe() string {
	lines := []string{
		"| deliveries | succeeded | failed | cancelled | handed over |", "|--:|--:|--:|--:|--:|",
		fmt.Sprintf("| %d | %d | %d | %d | %d |", r.Deliveries, r.Succeeded, r.Failed, r.Cancelled, r.HandedOver), "",
		"| last attempt | deliveries |", "|:--|--:|",
	}
	for _, result := range postrider.Results() {
		if n := r.LastAttempts[result]; n > 0 {
			lines = append(lines, fmt.Sprintf("| %s | %d |", result, n))
		}
	}
	return strings.Join(lines, "\n")
}

// Overview is the answer to the query of a workflow of many deliveries that names none.
type Overview struct {
	Hint       string        `json:"hint"`
	Deliveries []OverviewRow `json:"deliveries"`
}

// OverviewRow is one delivery of an [Overview].
type OverviewRow struct {
	DeliveryID    string                  `json:"delivery_id"`
	State         postrider.DeliveryState `json:"state"`
	Elsewhere     bool                    `json:"elsewhere,omitempty"` // the workflow does not carry it any more
	Attempts      int                     `json:"attempts"`
	LastResult    postrider.Result        `json:"last_result,omitempty"`
	StatusCode    *int                    `json:"status_code,omitempty"`
	NextAttemptAt *time.Time              `json:"next_attempt_at,omitempty"`
}

func (m *member) row() OverviewRow {
	return OverviewRow{
		DeliveryID: m.id, State: m.history.State, Elsewhere: m.left, Attempts: m.attempts(), LastResult: m.last().Result,
		StatusCode: m.last().StatusCode, NextAttemptAt: m.history.NextAttemptAt,
	}
}

// overview returns the deliveries that the workflow knows.
func (c *carrier) overview() Overview {
	answer := Overview{Hint: "Give the id of a delivery as the query's argument, for its attempts.", Deliveries: []OverviewRow{}}
	members := c.members
	if c.in.Batch != nil {
		members = c.firsts.members(c.runID)
		if c.firsts.raw.Payload() == nil {
			answer.Hint = "The first attempts go on; this workflow knows its deliveries when they have ended, seconds after it began."
		}
	}
	for _, m := range members {
		answer.Deliveries = append(answer.Deliveries, m.row())
	}
	return answer
}

// tell sets what Temporal's web interface shows of a workflow that goes on. It makes no event: the
// interface asks for it by a query.
func (c *carrier) tell(ctx workflow.Context) {
	open := c.unfinished()
	lines := []string{
		fmt.Sprintf("%d of %s left to be made.\n", len(open), count(len(c.members), "delivery")),
		"| delivery | state | attempts | last | next attempt |", "|:--|:--|--:|:--|:--|",
	}
	for _, m := range open[:min(len(open), maxListed)] {
		last, next := string(m.last().Result), "under way"
		if code := m.last().StatusCode; code != nil {
			last += fmt.Sprintf(" (%d)", *code)
		}
		if at := m.history.NextAttemptAt; at != nil {
			next = at.UTC().Format(time.RFC3339)
		}
		lines = append(lines, fmt.Sprintf("| %s | %s | %d of %d | %s | %s |",
			m.id, m.history.State, m.attempts(), 1+m.history.Policy.MaxRetries, last, next))
	}
	if others := len(open) - maxListed; others > 0 {
		lines = append(lines, fmt.Sprintf("\nAnd %d more: the query `%s` lists all.", others, queryHistory))
	}
	workflow.SetCurrentDetails(ctx, strings.Join(lines, "\n"))
}

// upcoming says what a timer waits for.
func (c *carrier) upcoming() string {
	open := c.unfinished()
	if earliest(open) == nil {
		return "Pause after a failure of our own"
	}
	return fmt.Sprintf("Until attempt %d of %d, of %s", 1+least(open), 1+c.in.Policy.MaxRetries, count(len(open), "delivery"))
}

// remaining says which attempts the activity makes: Temporal numbers its tries from 1.
func (c *carrier) remaining() string {
	open := c.unfinished()
	return fmt.Sprintf("Attempts %d to %d of %s; Temporal's try 1 is attempt %[1]d",
		1+least(open), 1+c.in.Policy.MaxRetries, count(len(open), "delivery"))
}

// least returns the fewest attempts that one of the members had.
func least(members []*member) int {
	fewest := members[0].attempts()
	for _, m := range members {
		fewest = min(fewest, m.attempts())
	}
	return fewest
}
