package store

import (
	"context"
	"errors"
	"slices"
	"time"

	"postrider.dev/postrider"
	"postrider.dev/postrider/shaping"
)

// Filters are evaluated outside the transaction that others' publications share: an expression may
// take milliseconds. The transaction says which filters there are by then, and a publication that
// comes with another answer, or with none, is evaluated and tried again.

// publication is a publication with what the filters say of its events.
type publication struct {
	postrider.Publication

	verdicts filterVerdicts
	takes    []string // the operational events that it publishes, see takeOperational
}

// filterVerdicts say by filter whether it lets each event of a publication through.
type filterVerdicts map[string][]bool

// unjudged is the error of a publication whose webhooks have filters that were not evaluated.
type unjudged struct{ filters []string }

func (*unjudged) Error() string { return "filters were not evaluated" }

// maxJudgements is how often a publication is tried while its webhooks' filters change.
const maxJudgements = 5

// publishJudged publishes with the filters that are known, and as long as there are others, with
// those.
func (s *Store) publishJudged(ctx context.Context, judged publication) ([]postrider.Receipt, error) {
	if err := s.judge(ctx, &judged, s.matches.filtersOf(judged.Publication)); err != nil {
		return nil, err
	}
	for range maxJudgements {
		receipts, err := s.publishing.Do(ctx, judged)
		var missing *unjudged
		if !errors.As(err, &missing) {
			return receipts, err
		}
		if err := s.judge(ctx, &judged, missing.filters); err != nil {
			return nil, err
		}
	}
	return nil, &postrider.Error{Code: postrider.CodeUnavailable, Message: "the webhooks' filters keep changing"}
}

// maxJudging is how long the filters of one publication may take together.
const maxJudging = 2 * time.Second

// judge evaluates filters on the publication's events. A filter that fails on an event does not
// match it. A process judges one publication at a time for each two of its cores, so that costly
// filters leave it the others.
func (s *Store) judge(ctx context.Context, p *publication, filters []string) error {
	if len(filters) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, maxJudging, &postrider.Error{
		Code:    postrider.CodeUnavailable,
		Message: "the webhooks' filters take longer than two seconds for these events; publish fewer at once, or try again later",
	})
	defer cancel()
	select {
	case s.judging <- struct{}{}:
		defer func() { <-s.judging }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	events := make([]*shaping.Event, len(p.Events))
	for i, e := range p.Events {
		event, err := shaping.NewEvent(e.Body)
		if err != nil {
			return err
		}
		events[i] = event
	}
	for _, filter := range filters {
		through := make([]bool, len(events))
		for i, event := range events {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			through[i], _ = s.shaper.Matches(filter, event) // it failed: no match
		}
		p.verdicts[filter] = through
	}
	return nil
}

// filtered returns the webhooks that get an event of the publication, of those that subscribe to
// it. It adds the filters that were not evaluated to missing.
func (p *publication) filtered(subscribed []subscriber, event int, missing *[]string) []subscriber {
	if !slices.ContainsFunc(subscribed, subscriber.filters) {
		return subscribed
	}
	through := make([]subscriber, 0, len(subscribed))
	for _, w := range subscribed {
		if !w.filters() {
			through = append(through, w)
			continue
		}
		verdicts, judged := p.verdicts[*w.Filter]
		switch {
		case !judged && !slices.Contains(*missing, *w.Filter):
			*missing = append(*missing, *w.Filter)
		case judged && verdicts[event]:
			through = append(through, w)
		}
	}
	return through
}

// filters reports whether the webhook has a filter.
func (w subscriber) filters() bool { return w.Filter != nil }
