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

// This file is the part of HTTP/1.1 that load and receiver need. They share the machine with
// the system under test, and net/http would take much more of its CPU.

// head is the start line of a message and the length of its body.
type head struct {
	first  string // request line or status line
	length int    // of the body; chunked for a chunked one
}

const chunked = -1

// readHead reads a message up to the empty line. It calls see with each header; the arguments
// are valid only during the call.
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

// noEnd turns the end of the stream in the middle of a message into an error.
func noEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// readLine returns a line without its line break, valid until the next read.
func readLine(from *bufio.Reader) ([]byte, error) {
	line, err := from.ReadSlice('\n')
	return bytes.TrimRight(line, "\r\n"), err
}

// caller is one connection to an API, which stays open.
type caller struct {
	conn net.Conn
	in   *bufio.Reader
	body []byte
}

const wireBuffer = 16 << 10

// call sends a rendered request and returns the status and the body of the answer. The body
// is valid until the next call.
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
