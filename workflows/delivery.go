package workflows

import (
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"postrider.dev/postrider"
	"postrider.dev/postrider/activities"
)

// attemptGrace is what first attempts may take beyond their POST's own deadline, to
// load what they need and to record what came of them.
const attemptGrace = 10 * time.Second

// longestPause caps the waits between rounds of an activity that fails for
// reasons of ours, such as a database that is away. A round is about a dozen
// events, so Temporal's limit of 51,200 a workflow is two weeks away.
const longestPause = 5 * time.Minute

// DeliveryInput starts a Delivery workflow: ids, policy and results, nothing else. It
// carries one delivery from its first attempt on (DeliveryID), or the first attempts of
// those that its process claims (Batch), or the retries of some of one webhook (Retries).
type DeliveryInput struct {
	DeliveryID string           `json:"delivery_id,omitempty"`
	WebhookID  string           `json:"webhook_id,omitempty"` // "" where there may be several
	EventType  string           `json:"event_type,omitempty"` // "" where there may be several
	Policy     postrider.Policy `json:"policy"`
	Batch      *BatchOfFirsts   `json:"batch,omitempty"`
	Retries    []Retried        `json:"retries,omitempty"`
}

// BatchOfFirsts says how long the first attempts of a workflow may take in all.
type BatchOfFirsts struct {
	LongestMS int `json:"longest_ms"` // from the start to the end of the last
}

// Retried is a delivery whose retries a workflow carries, with the attempts before.
type Retried struct {
	DeliveryID    string              `json:"delivery_id"`
	Attempts      []postrider.Attempt `json:"attempts"`
	NextAttemptAt *time.Time          `json:"next_attempt_at,omitempty"`
}

// Delivery carries events to webhooks. It ends as completed when it has nothing more to
// do, as failed with a typed error when a delivery failed for good, and as cancelled when
// its deliveries were cancelled.
func Delivery(ctx workflow.Context, in DeliveryInput) error {
	return newCarrier(in, workflow.GetInfo(ctx).WorkflowExecution.RunID).run(ctx)
}

// carrier is the state of a Delivery workflow.
type carrier struct {
	in      DeliveryInput
	runID   string
	members []*member
	byID    map[string]*member
	// firsts are the reports on a batch's first attempts, decoded when somebody asks, or
	// one of them failed for good: there are hundreds.
	firsts firstReports
}

func newCarrier(in DeliveryInput, runID string) *carrier {
	c := &carrier{in: in, runID: runID, byID: map[string]*member{}}
	if in.DeliveryID != "" {
		c.add(in.DeliveryID, postrider.History{State: postrider.StateDelivering})
	}
	for _, r := range in.Retries {
		c.add(r.DeliveryID, postrider.History{State: postrider.StateRetrying, Attempts: r.Attempts, NextAttemptAt: r.NextAttemptAt})
	}
	return c
}

func (c *carrier) add(deliveryID string, history postrider.History) {
	history.Policy, history.RunID = c.in.Policy, c.runID
	m := &member{id: deliveryID, history: history}
	c.members = append(c.members, m)
	c.byID[deliveryID] = m
}

func (c *carrier) run(ctx workflow.Context) error {
	if err := workflow.SetQueryHandler(ctx, queryHistory, c.answer); err != nil {
		return err
	}
	c.listen(ctx)
	err := c.first(ctx)
	for round := 1; err == nil && len(c.unfinished()) > 0; round++ {
		if err = c.pause(ctx, round); err == nil {
			err = c.retry(ctx)
		}
	}
	if ctx.Err() != nil {
		return errors.Join(c.recordCancel(ctx), ctx.Err())
	}
	if err != nil {
		return err
	}
	return c.verdict()
}

// answer is the query: whatever the workflow waits for, it tells all it knows. It names
// one of the deliveries, which it need not where there is only one.
func (c *carrier) answer(deliveryID string) (postrider.History, error) {
	if deliveryID == "" && len(c.members) == 1 {
		deliveryID = c.members[0].id
	}
	if m, found := c.byID[deliveryID]; found {
		return m.answer(), nil
	}
	if c.in.Batch != nil {
		return c.firsts.answer(deliveryID, c.runID)
	}
	return postrider.History{}, notCarried(deliveryID)
}

func notCarried(deliveryID string) error {
	return fmt.Errorf("%q is none of this workflow's deliveries: give the id of one", deliveryID)
}

// listen takes in the reports of tries that failed while their activity goes on.
func (c *carrier) listen(ctx workflow.Context) {
	reports := workflow.GetSignalChannel(ctx, signalReport)
	workflow.Go(ctx, func(ctx workflow.Context) {
		for {
			var news activities.Reports
			reports.Receive(ctx, &news)
			c.learn(news)
		}
	})
}

func (c *carrier) learn(reports activities.Reports) {
	for _, report := range reports {
		if m, found := c.byID[report.DeliveryID]; found {
			m.learn(report)
		}
	}
}

// unfinished returns those of the deliveries that the workflow has still to attempt.
func (c *carrier) unfinished() []*member {
	var open []*member
	for _, m := range c.members {
		if !m.left && !m.history.State.Finished() {
			open = append(open, m)
		}
	}
	return open
}

// first makes first attempts, where these are the workflow's. When that of a workflow of
// one fails for reasons of ours, the attempt is left to the ordinary activity, which
// outlives this worker; those of a batch are left to their leases.
func (c *carrier) first(ctx workflow.Context) error {
	if len(c.in.Retries) > 0 {
		return nil
	}
	err := c.firstAttempts(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil { // also a cancelled one: its worker was stopped, not the delivery
		workflow.GetLogger(ctx).Warn("first attempts not made by the worker that began them", "error", err)
	}
	return nil
}

// firstAttempts makes them as one local activity: started eagerly, a workflow whose
// deliveries succeed is a single workflow task.
func (c *carrier) firstAttempts(ctx workflow.Context) error {
	in := activities.DeliverInput{WorkflowID: workflow.GetInfo(ctx).WorkflowExecution.ID}
	longest := c.in.Policy.Timeout() + attemptGrace
	if c.in.Batch != nil {
		longest = time.Duration(c.in.Batch.LongestMS) * time.Millisecond
	} else {
		in.DeliveryIDs = []string{c.in.DeliveryID}
	}
	ctx = workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{
		StartToCloseTimeout: longest, RetryPolicy: once(),
	})
	var acts *activities.Activities
	made := workflow.ExecuteLocalActivity(ctx, acts.Deliver, in)
	if c.in.Batch != nil {
		return made.Get(ctx, &c.firsts.raw)
	}
	var reports activities.Reports
	err := made.Get(ctx, &reports)
	c.learn(reports)
	return err
}

// once is the retry policy of what is not tried again.
func once() *temporal.RetryPolicy { return &temporal.RetryPolicy{MaximumAttempts: 1} }

// pause waits for the next attempt's time, on a durable timer. Where no attempt
// was made since the last round it is we who are in trouble: wait longer each time.
func (c *carrier) pause(ctx workflow.Context, round int) error {
	wait := min(time.Duration(round)*time.Second, longestPause)
	if next := earliest(c.unfinished()); next != nil {
		wait = next.Sub(workflow.Now(ctx))
	}
	return workflow.Sleep(ctx, wait)
}

// earliest returns when the first of the members is due; nil when that is not known of any.
func earliest(members []*member) *time.Time {
	var first *time.Time
	for _, m := range members {
		if next := m.history.NextAttemptAt; next != nil && (first == nil || next.Before(*first)) {
			first = next
		}
	}
	return first
}

// retry runs the ordinary activity under a retry policy of what attempts are left:
// Temporal counts, spaces and times them. It returns nil both when the deliveries are
// finished and when Temporal's tries were used up by failures of ours, so that
// attempts are still left.
func (c *carrier) retry(ctx workflow.Context) error {
	open, policy := c.unfinished(), c.in.Policy
	made := open[0].attempts()
	in := activities.RetryInput{}
	for _, m := range open {
		made = min(made, m.attempts())
		in.Members = append(in.Members, activities.RetryMember{DeliveryID: m.id, Known: m.attempts()})
		m.history.NextAttemptAt = nil
	}
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: activities.RetryTimeout(policy.Timeout()),
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval:    policy.Backoff(made + 1),
			BackoffCoefficient: 2,
			MaximumInterval:    postrider.MaxBackoff,
			MaximumAttempts:    int32(max(1+policy.MaxRetries-made, 1)),
		},
	})
	var acts *activities.Activities
	var reports activities.Reports
	err := workflow.ExecuteActivity(ctx, acts.Retry, in).Get(ctx, &reports)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var refused *temporal.ApplicationError
	if errors.As(err, &refused) {
		switch refused.Type() {
		case activities.ErrorAttemptFailed, activities.ErrorNoPlace:
			err = refused.Details(&reports)
		case activities.ErrorUnknownDelivery:
			return failure(activities.ErrorUnknownDelivery, "the database has no such delivery", c.details(open))
		}
	}
	if err != nil {
		workflow.GetLogger(ctx).Warn("activity ended without an attempt", "error", err)
		return nil
	}
	c.learn(reports)
	return nil
}

// recordCancel makes the database agree with a cancelled workflow. It outlives
// the cancellation, and does not give up.
func (c *carrier) recordCancel(ctx workflow.Context) error {
	open := c.unfinished()
	if len(open) == 0 {
		return nil
	}
	ids := make([]string, len(open))
	for i, m := range open {
		m.history.State, m.history.NextAttemptAt = postrider.StateCancelled, nil
		ids[i] = m.id
	}
	ctx, cancel := workflow.NewDisconnectedContext(ctx)
	defer cancel()
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: cancelTimeout})
	var acts *activities.Activities
	if len(ids) == 1 {
		return workflow.ExecuteActivity(ctx, acts.Cancel, ids[0]).Get(ctx, nil)
	}
	return workflow.ExecuteActivity(ctx, acts.CancelAll, ids).Get(ctx, nil)
}

// cancelTimeout bounds one try of recording cancellations.
const cancelTimeout = 30 * time.Second
