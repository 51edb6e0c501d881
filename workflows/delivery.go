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

// attemptGrace is how much longer than its POST a first attempt may take, to read its target
// and to record its outcome.
const attemptGrace = 10 * time.Second

// longestPause caps the waits between activities that end in internal failures, such as a
// database that is away. Each adds about a dozen events to the history, so Temporal's limit of
// 51,200 events is two weeks away.
const longestPause = 5 * time.Minute

// DeliveryInput is the input of a Delivery workflow: ids, policy and attempts, and nothing else.
// The workflow carries one delivery from its first attempt to its end (DeliveryID), or the first
// attempts of deliveries that its process claims (Batch), or retries of one webhook (Retries).
type DeliveryInput struct {
	DeliveryID string           `json:"delivery_id,omitempty"`
	WebhookID  string           `json:"webhook_id,omitempty"` // "" for deliveries of several webhooks
	EventType  string           `json:"event_type,omitempty"` // "" for deliveries of several event types
	Policy     postrider.Policy `json:"policy,omitzero"`
	Batch      *BatchOfFirsts   `json:"batch,omitempty"`
	Retries    []Retried        `json:"retries,omitempty"`
}

// BatchOfFirsts bounds how long the first attempts of a workflow may take together.
type BatchOfFirsts struct {
	LongestMS int `json:"longest_ms"` // from the start to the end of the last attempt
}

// Retried is a delivery whose retries a workflow carries, with its earlier attempts.
type Retried struct {
	DeliveryID    string              `json:"delivery_id"`
	Attempts      []postrider.Attempt `json:"attempts"`
	NextAttemptAt *time.Time          `json:"next_attempt_at,omitempty"`
}

// Delivery delivers events to webhooks. It fails with a typed error when a delivery failed for
// good, it ends as cancelled when its deliveries were cancelled, and it completes otherwise.
func Delivery(ctx workflow.Context, in DeliveryInput) (*Result, error) {
	return newCarrier(in, workflow.GetInfo(ctx).WorkflowExecution.RunID).run(ctx)
}

// carrier is the state of a Delivery workflow.
type carrier struct {
	in      DeliveryInput
	runID   string
	members []*member
	byID    map[string]*member
	// firsts are the reports of a batch. There are hundreds, so they are decoded only for a
	// query, or when a delivery failed for good.
	firsts firstReports
	told   bool // of an operator's action
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

func (c *carrier) run(ctx workflow.Context) (*Result, error) {
	described := workflow.QueryHandlerOptions{
		Description: "The attempts of a delivery, by its id; without one, all deliveries of this workflow.",
	}
	if err := workflow.SetQueryHandlerWithOptions(ctx, queryHistory, c.answer, described); err != nil {
		return nil, err
	}
	c.receiveReports(ctx)
	c.receiveActions(ctx)
	err := c.makeFirstAttempts(ctx)
	for round := 1; err == nil && len(c.unfinished()) > 0; round++ {
		if err = c.pause(ctx, round); err == nil && len(c.unfinished()) > 0 {
			err = c.retry(ctx)
		}
	}
	if ctx.Err() != nil {
		return nil, errors.Join(c.recordCancel(ctx), ctx.Err())
	}
	if err != nil {
		return nil, err
	}
	return c.conclude(ctx)
}

// answer answers the query with all that the workflow knows of a delivery, or without an id with
// what there is to ask for. A workflow of one delivery needs no id.
func (c *carrier) answer(deliveryID string) (any, error) {
	if deliveryID == "" && len(c.members) == 1 {
		deliveryID = c.members[0].id
	}
	if m, found := c.byID[deliveryID]; found {
		return m.answer(), nil
	}
	if deliveryID == "" {
		return c.overview(), nil
	}
	if c.in.Batch != nil {
		return c.firsts.answer(deliveryID, c.runID)
	}
	return nil, notCarried(deliveryID)
}

func notCarried(deliveryID string) error {
	return fmt.Errorf("this workflow does not carry delivery %q: give the id of one that it carries", deliveryID)
}

// receiveReports applies the reports that come as signals while an activity goes on.
func (c *carrier) receiveReports(ctx workflow.Context) {
	reports := workflow.GetSignalChannelWithOptions(ctx, signalReport, workflow.SignalChannelOptions{
		Description: "Attempts that the activity has made; it goes on with others. Not for operators.",
	})
	workflow.Go(ctx, func(ctx workflow.Context) {
		for {
			var received activities.Reports
			reports.Receive(ctx, &received)
			c.apply(received)
			c.tell(ctx)
		}
	})
}

// receiveActions applies what operators did to deliveries. The database goes by it already: this is
// for whoever looks at the workflow, and lets it end when none of its deliveries is left. A workflow
// that was first signalled under a version that did not listen, as in a rolling upgrade, stays deaf:
// it waits for its time, and its activity finds what it carries no more.
func (c *carrier) receiveActions(ctx workflow.Context) {
	actions := workflow.GetSignalChannelWithOptions(ctx, signalActed, workflow.SignalChannelOptions{
		Description: "What operators did to deliveries over the API. Not for operators: the database goes by it already.",
	})
	workflow.Go(ctx, func(ctx workflow.Context) {
		for {
			var received []postrider.Acted
			actions.Receive(ctx, &received)
			if workflow.GetVersion(ctx, changeActed, workflow.DefaultVersion, 1) == workflow.DefaultVersion {
				continue
			}
			for _, acted := range received {
				if m, found := c.byID[acted.DeliveryID]; found {
					m.act(acted)
				}
			}
			c.told = true
			c.tell(ctx)
		}
	})
}

// wait is the workflow's single wait: for its timer, or for its activity, whose cancel function it
// calls when operators have taken the last delivery out of the workflow meanwhile. Unless it was
// told, it makes the commands that waiting for the future alone made in earlier versions.
func (c *carrier) wait(ctx workflow.Context, future workflow.Future, cancel workflow.CancelFunc) (interrupted bool) {
	err := workflow.Await(ctx, func() bool { return future.IsReady() || c.told && len(c.unfinished()) == 0 })
	if interrupted = err == nil && !future.IsReady(); interrupted {
		cancel()
	}
	return interrupted
}

func (c *carrier) apply(reports activities.Reports) {
	for _, report := range reports {
		if m, found := c.byID[report.DeliveryID]; found {
			m.apply(report)
		}
	}
}

// unfinished returns the deliveries that the workflow has still to attempt.
func (c *carrier) unfinished() []*member {
	var open []*member
	for _, m := range c.members {
		if !m.left && !m.history.State.Finished() {
			open = append(open, m)
		}
	}
	return open
}

// makeFirstAttempts makes first attempts, unless the workflow carries retries. After an internal
// failure, the ordinary activity makes the attempt of a single delivery; it outlives this
// worker. Deliveries of a batch are claimed again when their leases expire.
func (c *carrier) makeFirstAttempts(ctx workflow.Context) error {
	if len(c.in.Retries) > 0 {
		return nil
	}
	err := c.runDeliver(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil { // also a cancellation, when only the worker was stopped
		workflow.GetLogger(ctx).Warn("could not finish the first attempts in their first worker; they will be made again", "error", err)
	}
	return nil
}

// runDeliver makes first attempts in one local activity. If the workflow is started eagerly and
// its deliveries succeed, it is a single workflow task.
func (c *carrier) runDeliver(ctx workflow.Context) error {
	in := activities.DeliverInput{WorkflowID: workflow.GetInfo(ctx).WorkflowExecution.ID}
	longest, summary := c.in.Policy.Timeout()+attemptGrace, "First attempt"
	if c.in.Batch != nil {
		summary = "First attempts, of what is claimed within a second"
		longest = time.Duration(c.in.Batch.LongestMS) * time.Millisecond
	} else {
		in.DeliveryIDs = []string{c.in.DeliveryID}
	}
	ctx = workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{
		StartToCloseTimeout: longest, RetryPolicy: noRetry(), Summary: summary,
	})
	var acts *activities.Activities
	made := workflow.ExecuteLocalActivity(ctx, acts.Deliver, in)
	if c.in.Batch != nil {
		return made.Get(ctx, &c.firsts.raw)
	}
	var reports activities.Reports
	err := made.Get(ctx, &reports)
	c.apply(reports)
	return err
}

// noRetry returns the retry policy of an activity that Temporal does not try again.
func noRetry() *temporal.RetryPolicy { return &temporal.RetryPolicy{MaximumAttempts: 1} }

// pause waits for the next attempt's time, on a durable timer. The time is unknown after an
// internal failure; then the wait grows with each round.
func (c *carrier) pause(ctx workflow.Context, round int) error {
	wait := min(time.Duration(round)*time.Second, longestPause)
	if next := earliest(c.unfinished()); next != nil {
		wait = next.Sub(workflow.Now(ctx))
	}
	c.tell(ctx)
	timing, cancel := workflow.WithCancel(ctx)
	timer := workflow.NewTimerWithOptions(timing, wait, workflow.TimerOptions{Summary: c.upcoming()})
	if c.wait(ctx, timer, cancel) {
		return nil
	}
	return timer.Get(ctx, nil)
}

// earliest returns the earliest time at which a member is due; nil when no time is known.
func earliest(members []*member) *time.Time {
	var first *time.Time
	for _, m := range members {
		if next := m.history.NextAttemptAt; next != nil && (first == nil || next.Before(*first)) {
			first = next
		}
	}
	return first
}

// retry runs the ordinary activity under a retry policy of the remaining attempts: Temporal
// counts, spaces and times them. It returns nil when the deliveries are finished, and also when
// internal failures have used up Temporal's tries and attempts remain.
func (c *carrier) retry(ctx workflow.Context) error {
	open, policy := c.unfinished(), c.in.Policy
	fewest := least(open)
	in := activities.RetryInput{Policy: &policy}
	for _, m := range open {
		in.Members = append(in.Members, activities.RetryMember{DeliveryID: m.id, Known: m.attempts()})
		m.history.NextAttemptAt = nil
	}
	c.tell(ctx)
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		Summary:             c.remaining(),
		StartToCloseTimeout: activities.RetryTimeout(policy.Timeout()),
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval:    policy.Backoff(fewest + 1), // rounds that fail say themselves when the next one is due
			BackoffCoefficient: 2,
			MaximumInterval:    max(policy.Backoff(fewest+1), postrider.MaxBackoff),
			MaximumAttempts:    int32(max(1+policy.MaxRetries-fewest, 1)),
		},
	})
	var acts *activities.Activities
	attempts, cancel := workflow.WithCancel(ctx)
	made := workflow.ExecuteActivity(attempts, acts.Retry, in)
	if c.wait(ctx, made, cancel) {
		return nil
	}
	var reports activities.Reports
	err := made.Get(ctx, &reports)
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
		workflow.GetLogger(ctx).Warn("the retry activity ended without an attempt; another one will be scheduled", "error", err)
		return nil
	}
	c.apply(reports)
	return nil
}

// recordCancel records the cancellation of the unfinished deliveries. It goes on after the
// workflow's cancellation, and is tried until it succeeds.
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
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: cancelTimeout, Summary: "Record that " + count(len(ids), "delivery") + " are cancelled",
	})
	var acts *activities.Activities
	if len(ids) == 1 {
		return workflow.ExecuteActivity(ctx, acts.Cancel, ids[0]).Get(ctx, nil)
	}
	return workflow.ExecuteActivity(ctx, acts.CancelAll, ids).Get(ctx, nil)
}

// cancelTimeout bounds one try of recordCancel.
const cancelTimeout = 30 * time.Second
