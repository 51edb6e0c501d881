package egress

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"postrider.dev/postrider"
)

// answer is a receiver's answer.
type answer struct {
	status int
	header http.Header
	body   []byte // the first 16 KiB
	cut    bool   // the body is longer, or its end did not come
}

// readAnswer reads the response up to the limit. With an error it returns the part it has read.
func readAnswer(response *http.Response) (answer, error) {
	got := answer{status: response.StatusCode, header: response.Header}
	if response.StatusCode < http.StatusOK {
		return got, nil // after a 101 the connection has another protocol
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, postrider.MaxExcerpt))
	got.body = body
	switch {
	case err != nil:
		got.cut = true
		return got, err
	case len(body) < postrider.MaxExcerpt:
	case response.ContentLength >= 0:
		got.cut = response.ContentLength > postrider.MaxExcerpt
	default:
		// One more byte shows that the body is longer. It is no failure when neither that
		// byte nor the end comes in time, because the part that is kept has come.
		_, err := io.ReadFull(response.Body, make([]byte, 1))
		got.cut = err != io.EOF
	}
	return got, nil
}

// sanitise returns a body as text that can be stored: at most 16 KiB of UTF-8 without NUL, which
// PostgreSQL refuses. Invalid bytes become U+FFFD.
func sanitise(body []byte, cut bool) (string, bool) {
	if cut {
		body = dropPartialRune(body)
	}
	text := strings.ReplaceAll(strings.ToValidUTF8(string(body), "\uFFFD"), "\x00", "\uFFFD")
	if len(text) <= postrider.MaxExcerpt {
		return text, cut
	}
	// U+FFFD has three bytes, so the text can be longer than the body.
	return string(dropPartialRune([]byte(text[:postrider.MaxExcerpt]))), true
}

// dropPartialRune removes a character at the end whose last bytes are missing.
func dropPartialRune(text []byte) []byte {
	for back := 1; back <= min(utf8.UTFMax-1, len(text)); back++ {
		if start := len(text) - back; utf8.RuneStart(text[start]) {
			if !utf8.FullRune(text[start:]) {
				return text[:start]
			}
			break
		}
	}
	return text
}

// retryAfter returns the wait that a 429 or 503 asks for (RFC 9110 section 10.2.3): a number of
// seconds or a date. It is at most one hour. It is 0 without the header, for a date in the past
// and for a value that cannot be read.
func retryAfter(status int, header http.Header, now time.Time) time.Duration {
	if status != http.StatusTooManyRequests && status != http.StatusServiceUnavailable {
		return 0
	}
	value := strings.TrimSpace(header.Get("Retry-After"))
	if value == "" {
		return 0
	}
	if digits(value) {
		seconds, err := strconv.ParseUint(value, 10, 32)
		if err != nil {
			return postrider.MaxBackoff // a number too large to parse
		}
		return min(time.Duration(seconds)*time.Second, postrider.MaxBackoff)
	}
	date, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return min(max(date.Sub(now), 0), postrider.MaxBackoff)
}
