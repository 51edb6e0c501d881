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

	verdicts     filterVerdicts
	conformities map[int]conformity // of events of types with a schema, by the events' places
	takes        []string           // the operational events that it publishes, see takeOperational
}

// filterVerdicts say by filter whether it lets each event of a publication through.
type filterVerdicts map[string][]bool

// unjudged is the error of a publication whose webhooks have filters that were not evaluated, or whose events
// have schemas that they were not checked against; rules are the catalogue by then.
type unjudged struct {
	filters []string
	rules   typeRules
}

func (*unjudged) Error() string { return "filters or schemas were not evaluated" }

// maxJudgements is how often a publication is tried while its webhooks' filters and its events' schemas change.
const maxJudgements = 5

// publishJudged publishes with the filters and schemas that are known, and as long as there are others,
// with those.
func (s *Store) publishJudged(ctx context.Context, judged publication) ([]postrider.Receipt, error) {
	if err := s.judge(ctx, &judged, s.matches.filtersOf(judged.Publication), s.rules.latest(judged.WorkspaceID).rules); err != nil {
		return nil, err
	}
	for range maxJudgements {
		receipts, err := s.publishing.Do(ctx, judged)
		var missing *unjudged
		if !errors.As(err, &missing) {
			return receipts, err
		}
		if err := s.judge(ctx, &judged, missing.filters, missing.rules); err != nil {
			return nil, err
		}
	}
	return nil, &postrider.Error{Code: postrider.CodeUnavailable, Message: "the webhooks' filters or the events' schemas keep changing"}
}

// maxJudging is how long the filters of one publication may take together, and its schemas.
const maxJudging = 2 * time.Second

// judge evaluates filters on the publication's events, and checks those against the schemas of their types.
func (s *Store) judge(ctx context.Context, p *publication, filters []string, rules typeRules) error {
	if err := s.conform(ctx, p, rules); err != nil || len(filters) == 0 {
		return err
	}
	return s.inTurn(ctx, tooSlowFilters, func(ctx context.Context) error { return s.filter(ctx, p, filters) })
}

const tooSlowFilters = "the webhooks' filters take longer than two seconds for these events; publish fewer at once, or try again later"

// inTurn runs what may take long, and ends it after maxJudging. A process judges one publication at a time for
// each two of its cores, so that costly filters and schemas leave it the others.
func (s *Store) inTurn(ctx context.Context, tooSlow string, work func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, maxJudging, &postrider.Error{Code: postrider.CodeUnavailable, Message: tooSlow})
	defer cancel()
	select {
	case s.judging <- struct{}{}:
		defer func() { <-s.judging }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return work(ctx)
}

// filter evaluates filters on the publication's events. A filter that fails on an event does not match it.
func (s *Store) filter(ctx context.Context, p *publication, filters []string) error {
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
