package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"strconv"
)

// HTTP/1.1 as far as it is needed here, without what net/http costs for the rest:
// load and receiver share the machine with what they measure.

// head is the beginning of a message.
type head struct {
	first  string // request or status line
	length int    // of the body; chunked when it comes in chunks
}

const chunked = -1

// readHead reads up to the empty line. Each header is given to see, whose
// arguments are valid only during the call.
func readHead(from *bufio.Reader, see func(name, value []byte)) (head, error) {
	line, err := readLine(from)
	if err != nil {
		return head{}, err
	}
	h := head{first: string(line), length: chunked}
	for {
		if line, err = readLine(from); err != nil {
			return h, noEnd(err)
		}
		if len(line) == 0 {
			return h, nil
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		if bytes.EqualFold(name, []byte("content-length")) {
			if h.length, err = strconv.Atoi(string(value)); err != nil {
				return h, err
			}
		}
		see(name, value)
	}
}

// noEnd makes the end of the stream in the middle of a message an error.
func noEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// readLine returns a line without its end, valid until the next read.
func readLine(from *bufio.Reader) ([]byte, error) {
	line, err := from.ReadSlice('\n')
	return bytes.TrimRight(line, "\r\n"), err
}

// caller is one connection to an API, which it keeps.
type caller struct {
	conn net.Conn
	in   *bufio.Reader
	body []byte
}

const wireBuffer = 16 << 10

// call sends a rendered request and returns the answer's status and body, which is
// valid until the next call.
func (c *caller) call(request []byte) (status int, body []byte, err error) {
	if _, err := c.conn.Write(request); err != nil {
		return 0, nil, err
	}
	h, err := readHead(c.in, func([]byte, []byte) {})
	if err != nil {
		return 0, nil, noEnd(err)
	}
	if _, err := fmt.Sscanf(h.first, "HTTP/1.1 %d", &status); err != nil {
		return 0, nil, fmt.Errorf("%q is no status line", h.first)
	}
	if h.length == chunked {
		body, err = io.ReadAll(httputil.NewChunkedReader(c.in))
		if err == nil {
			_, err = readLine(c.in) // after the last chunk
		}
		return status, body, err
	}
	if cap(c.body) < h.length {
		c.body = make([]byte, h.length)
	}
	c.body = c.body[:h.length]
	_, err = io.ReadFull(c.in, c.body)
	return status, c.body, err
}

// post renders a POST of JSON.
func post(host, path, key string, body []byte) []byte {
	return fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nX-API-Key: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		path, host, key, len(body), body)
}
