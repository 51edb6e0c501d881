package api

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"

	"postrider.dev/postrider"
	"postrider.dev/postrider/api/rest"
	"postrider.dev/postrider/shaping"
)

const tagExpressions = "Expressions"

func (s *server) routeExpressions() {
	rest.HandleBody(s.rest, rest.Route{
		Method: http.MethodPost, Path: "/api/v1/expressions/test", ID: "test-expression", Tag: tagExpressions, Scope: postrider.ScopeRead,
		Summary: "Test an Expression",
		Description: "Evaluates a webhook's `filter` or `transform` on an event that is not published. " +
			"Where an expression fails on the event, `error` says why: as a filter it does not match then, as a transform it fails the delivery. " +
			"What is no expression is a 422 with line and column.",
	}, rest.JSONBody[testExpression](s.rest, nil), s.testExpression)
}

// testExpression is the body of a request to evaluate an expression.
type testExpression struct {
	Filter    *string      `json:"filter,omitempty" nullable:"true" minLength:"1" maxLength:"2048" doc:"Give either this or transform." example:"event.data.amount > 100"`
	Transform *string      `json:"transform,omitempty" nullable:"true" minLength:"1" maxLength:"8192"`
	Event     publishEvent `json:"event" doc:"As it would be published."`
}

// evaluation is the answer about an expression.
type evaluation struct {
	Matches *bool           `json:"matches,omitempty" doc:"Of a filter: whether the event would be sent."`
	Body    json.RawMessage `json:"body,omitempty" doc:"Of a transform: the body that would be sent."`
	Error   *string         `json:"error,omitempty" doc:"Why the expression fails on the event."`
}

func (s *server) testExpression(_ context.Context, _ *struct{}, in testExpression) (*rest.Output[evaluation], error) {
	if (in.Filter == nil) == (in.Transform == nil) {
		return nil, rest.BrokenField("body", "must have either filter or transform", nil)
	}
	var broken []postrider.FieldError
	if in.Filter != nil {
		broken = s.checkExpression("filter", in.Filter, s.shaper.CheckFilter)
	} else {
		broken = s.checkExpression("transform", in.Transform, s.shaper.CheckTransform)
	}
	if err := postrider.Invalid(broken); err != nil {
		return nil, err
	}
	event, err := s.sampleEvent(in.Event)
	if err != nil {
		return nil, rest.Within("body.event", err)
	}
	answer := &rest.Output[evaluation]{}
	if in.Filter != nil {
		var matches bool
		matches, err = s.shaper.Matches(*in.Filter, event)
		answer.Body.Matches = &matches
	} else {
		answer.Body.Body, err = s.shaper.Transform(*in.Transform, event)
	}
	if err != nil {
		message := err.Error()
		answer.Body = evaluation{Matches: answer.Body.Matches, Error: &message}
	}
	return answer, nil
}

// checkExpression returns the rule that an expression breaks; none for no expression.
func (s *server) checkExpression(field string, source *string, check func(string) string) []postrider.FieldError {
	if source == nil {
		return nil
	}
	if rule := check(*source); rule != "" {
		return []postrider.FieldError{{Field: field, Message: rule, Value: *source}}
	}
	return nil
}

// sampleEvent returns the event of a request, as expressions see it.
func (s *server) sampleEvent(request publishEvent) (*shaping.Event, error) {
	var data bytes.Buffer
	if err := json.Compact(&data, request.Data); err != nil {
		return nil, err
	}
	request.Data = data.Bytes()
	event, err := s.newEvent(request, "", postrider.Timestamp(s.Now()))
	if err != nil {
		return nil, err
	}
	return shaping.NewEvent(event.Body)
}
