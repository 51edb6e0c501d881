package receiver

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
)

// maxLineBody is how much of a body [Line] shows, in bytes.
const maxLineBody = 2 << 10

// Line describes a request in one line: the time, the event's type and id, the attempt, the
// verification, the answer, and the body without white space.
//
//	12:00:00.000 call.ended evt_1 attempt 1 ✓ verified → 204 {"id":"evt_1",…}
func Line(r Received) string {
	verdict := "not verified"
	switch {
	case r.Verified:
		verdict = "✓ verified"
	case r.VerifyError != "":
		verdict = "✗ " + strings.TrimPrefix(r.VerifyError, "signing: ")
	}
	line := fmt.Sprintf("%s %s %s attempt %d %s → %d %s", r.At.Format("15:04:05.000"),
		orDash(r.Type), orDash(r.ID), r.Attempt, verdict, r.StatusAnswered, compact(r.Body))
	return strings.TrimSpace(strings.Map(harmless, line))
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// compact returns the body in one line. It does not show a body that is not JSON, because
// Postrider sends only JSON.
func compact(body []byte) string {
	var b bytes.Buffer
	if len(body) == 0 {
		return ""
	}
	if json.Compact(&b, body) != nil {
		return fmt.Sprintf("(%d bytes, not JSON)", len(body))
	}
	if b.Len() <= maxLineBody {
		return b.String()
	}
	return strings.ToValidUTF8(b.String()[:maxLineBody], "") + fmt.Sprintf("… (%d bytes)", len(body))
}

// harmless replaces characters that could move the cursor, change colours or reverse the
// direction of writing. Anybody who can reach the port can send such text.
func harmless(c rune) rune {
	if unicode.IsControl(c) || unicode.Is(unicode.Bidi_Control, c) || c == '\u2028' || c == '\u2029' {
		return '\uFFFD'
	}
	return c
}
