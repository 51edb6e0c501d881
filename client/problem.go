package client

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Problem is an answer of the API that is no success (RFC 9457).
type Problem struct { //nolint:errname // RFC 9457 and the API's document call it so
	Type     string          `json:"type"`
	Title    string          `json:"title"`
	Status   int             `json:"status"`
	Detail   string          `json:"detail"`
	Instance string          `json:"instance"`
	Errors   []ProblemDetail `json:"errors"` // the rules that the request broke

	RequestID  string        `json:"-"` // the server's log has it
	RetryAfter time.Duration `json:"-"` // 0: the answer does not say
	Body       []byte        `json:"-"` // the answer as it came
}

// ProblemDetail is a rule that the request broke, and where.
type ProblemDetail struct {
	Location string          `json:"location"` // such as body.url, query.limit or path.id
	Message  string          `json:"message"`
	Value    json.RawMessage `json:"value"` // what was there, unless it is long or secret
}

// maxExcerpt is how much of an answer that is no document the error repeats.
const maxExcerpt = 200

func newProblem(answer *http.Response, content []byte) *Problem {
	p := &Problem{}
	if !strings.HasPrefix(answer.Header.Get("Content-Type"), "application/problem+json") || json.Unmarshal(content, p) != nil {
		p = &Problem{Type: "about:blank", Title: http.StatusText(answer.StatusCode), Detail: string(content[:min(len(content), maxExcerpt)])}
	}
	p.Status, p.RequestID = answer.StatusCode, answer.Header.Get("X-Request-Id")
	p.RetryAfter, p.Body = retryAfter(answer.Header), content
	return p
}

// Error implements error, in one line.
func (p *Problem) Error() string {
	text := fmt.Sprintf("postrider: %d %s: %s", p.Status, p.Title, p.Detail)
	if len(p.Errors) == 0 {
		return text
	}
	rules := make([]string, len(p.Errors))
	for i, broken := range p.Errors {
		rules[i] = broken.Location + ": " + broken.Message
	}
	return text + " (" + strings.Join(rules, "; ") + ")"
}
