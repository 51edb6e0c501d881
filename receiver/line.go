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
	return strings.TrimSpace(Escape(line)) // anybody who can reach the port can send any text
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

// Escape writes characters that could move a terminal's cursor, change its colours or reverse the
// direction of writing as JSON does: \u001b for an escape. JSON stays the same value. Bytes that are
// not UTF-8 become U+FFFD.
func Escape(text string) string {
	var escaped strings.Builder
	for _, c := range text {
		if unicode.IsControl(c) || unicode.Is(unicode.Bidi_Control, c) || c == '\u2028' || c == '\u2029' {
			fmt.Fprintf(&escaped, `\u%04x`, c)
		} else {
			escaped.WriteRune(c)
		}
	}
	return escaped.String()
}
