package rest

import (
	"errors"
	"io"
	"net/http"
	"sync/atomic"

	"github.com/gin-gonic/gin"
)

// defaultBodyMemory is the default of [Config.BodyMemory].
const defaultBodyMemory = 64 << 20

// firstRead is how many bytes a body takes before any of it has come, whatever length was announced.
const firstRead = 4 << 10

// growth is how many times the bytes that came a body may take for those that are to come.
const growth = 4

// spareRead is how much more than its length or its limit a body takes, so that its end or its excess is seen.
const spareRead = 1

// intake bounds the memory of the bodies of all requests. It is safe for concurrent use.
type intake struct {
	held  atomic.Int64
	limit int64
}

// read returns a body of up to limit bytes, and takes memory only as its bytes come: a length that was
// announced is no reason to. Returns a 503 when all bodies together would take too much, and a 413 when this
// one is longer than limit.
func (i *intake) read(r *request, body io.Reader, announced, limit int64) ([]byte, error) {
	var read []byte
	for {
		if len(read) == cap(read) {
			larger := min(max(firstRead, growth*int64(cap(read))), limit+spareRead)
			if announced >= int64(len(read)) {
				larger = min(larger, announced+spareRead)
			}
			if !i.take(r, larger-int64(cap(read))) {
				return nil, busy()
			}
			read = append(make([]byte, 0, larger), read...)
		}
		n, err := body.Read(read[len(read):cap(read)])
		read = read[:len(read)+n]
		switch {
		case int64(len(read)) > limit:
			return nil, TooLarge("the body", limit)
		case errors.Is(err, io.EOF):
			return read, nil
		case err != nil:
			return nil, newProblem(http.StatusBadRequest, "the body broke off or came too slowly")
		}
	}
}

// take takes so many bytes for a request, and reports whether there were as many left.
func (i *intake) take(r *request, size int64) bool {
	if i.held.Add(size) > i.limit {
		i.held.Add(-size)
		return false
	}
	r.held += size
	return true
}

// release gives back what a request took.
func (i *intake) release(r *request) { i.held.Add(-r.held) }

func busy() *problem {
	p := newProblem(http.StatusServiceUnavailable, "too many large bodies are being read; try again")
	p.headers.Set("Retry-After", RetryAfterSeconds)
	return p
}

// readBody returns the request's body. Returns a 413 when it is longer than limit, whether its length was
// announced or not, and a 415 when it is not JSON as it is. After an error the connection is closed, because
// the rest of the body may never come.
func (a *API) readBody(c *gin.Context, limit int64) (body []byte, err error) {
	r := c.Request
	if r.ContentLength == 0 || r.Body == nil {
		return nil, nil
	}
	defer func() {
		if err != nil {
			c.Header("Connection", "close")
		}
	}()
	if r.ContentLength > limit {
		return nil, TooLarge("the body", limit)
	}
	if err := checkContentType(r.Header.Get("Content-Type")); err != nil {
		return nil, err
	}
	if err := checkContentEncoding(r.Header.Values("Content-Encoding")); err != nil {
		return nil, err
	}
	return a.intake.read(current(r.Context()), r.Body, r.ContentLength, limit)
}
