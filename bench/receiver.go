package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"postrider.dev/postrider/signing"
)

// receiverCommand runs the receiver. It is a process of its own, so that its CPU time is not
// counted for the system under test.
type receiverCommand struct {
	Dir      string `required:"" help:"Folder for the file that says where the receiver answers."`
	Capacity int    `default:"300000" help:"Requests that it can remember."`
}

// receiverFile is the name of the file that holds the receiver's addresses.
const receiverFile = "receiver.json"

// receiverAddresses is the content of receiverFile.
type receiverAddresses struct {
	Hooks   string `json:"hooks"`   // base URL for webhooks
	Control string `json:"control"` // base URL for the benchmark
}

// Run implements the command.
func (c *receiverCommand) Run(ctx context.Context) error {
	hooks, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	control, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return errors.Join(err, hooks.Close())
	}
	r := &receiver{notes: make([]note, c.Capacity), now: time.Now, secrets: map[string]string{}}
	text, err := json.Marshal(receiverAddresses{
		Hooks: "http://" + hooks.Addr().String(), Control: "http://" + control.Addr().String(),
	})
	if err != nil {
		return err
	}
	if err := publishFile(filepath.Join(c.Dir, receiverFile), text); err != nil {
		return err
	}
	server := &http.Server{Handler: r.control(), ReadHeaderTimeout: time.Minute}
	context.AfterFunc(ctx, func() { _ = errors.Join(hooks.Close(), server.Close()) })
	var parts errgroup.Group
	parts.Go(func() error { return r.accept(hooks) })
	parts.Go(func() error { return server.Serve(control) })
	if err := parts.Wait(); ctx.Err() == nil {
		return err
	}
	return nil
}

// publishFile writes a file so that a reader sees all of it or nothing.
func publishFile(path string, text []byte) error {
	if err := os.WriteFile(path+".part", text, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".part", path)
}

// note is what the receiver remembers of a request.
type note struct {
	at              int64 // Unix time, nanoseconds
	event, delivery [idLength]byte
	unsigned        bool // the signature was checked, and is wrong
	refused         bool // the answer was 500
}

// idLength is the length of "evt_" or "dlv_" with a UUID in hexadecimal.
const idLength = 36

// receiver answers webhooks at once and notes each request, unless the path is one of the
// special ones.
type receiver struct {
	notes   []note       // memory for a fixed number of requests; later ones are only counted
	count   atomic.Int64 // requests that were answered
	refused atomic.Int64 // requests that were answered with 500; count has them too
	hung    atomic.Int64 // requests that get no answer; count does not have them
	now     func() time.Time

	mu      sync.Mutex
	secrets map[string]string // by path
}

// Prefixes of special paths.
const (
	failingPath = "/fail/"    // the answer is 500
	hangingPath = "/hang/"    // there is no answer, until the sender closes the connection
	unnotedPath = "/unnoted/" // the request is answered, and not counted
	gonePath    = "/gone/"    // the answer is 410, and the request is not counted
)

// checkEvery says that one request in fifty has its signature checked.
const checkEvery = 50

// accept serves connections until the listener is closed.
func (r *receiver) accept(listener net.Listener) error {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			_ = r.serve(conn) // the sender has closed the connection
		}()
	}
}

// serve answers the requests of one connection.
func (r *receiver) serve(conn net.Conn) error {
	in := bufio.NewReaderSize(conn, wireBuffer)
	var body []byte
	for {
		var n note
		var header http.Header // nil unless the signature will be checked
		if r.count.Load()%checkEvery == 0 {
			header = http.Header{}
		}
		h, err := readHead(in, func(name, value []byte) {
			switch {
			case bytes.EqualFold(name, []byte(signing.HeaderID)):
				copy(n.event[:], value)
			case bytes.EqualFold(name, []byte(signing.HeaderDeliveryID)):
				copy(n.delivery[:], value)
			}
			if header != nil {
				header.Add(string(name), string(value))
			}
		})
		if err != nil || h.length == chunked {
			return err
		}
		path := strings.Split(h.first, " ")[1]
		if strings.HasPrefix(path, hangingPath) {
			r.hung.Add(1)
			_, err := io.Copy(io.Discard, in)
			return err
		}
		if cap(body) < h.length {
			body = make([]byte, h.length)
		}
		if _, err := io.ReadFull(in, body[:h.length]); err != nil {
			return err
		}
		at := r.now()
		n.at = at.UnixNano()
		n.unsigned = header != nil && !r.signed(path, header, body[:h.length], at)
		n.refused = strings.HasPrefix(path, failingPath)
		if !strings.HasPrefix(path, unnotedPath) && !strings.HasPrefix(path, gonePath) {
			r.note(n)
		}
		if _, err := io.WriteString(conn, answerTo(path)); err != nil {
			return err
		}
	}
}

// answerTo renders the answer to a request.
func answerTo(path string) string {
	status := "200 OK"
	switch {
	case strings.HasPrefix(path, failingPath):
		status = "500 Internal Server Error"
	case strings.HasPrefix(path, gonePath):
		status = "410 Gone"
	}
	return "HTTP/1.1 " + status + "\r\nContent-Length: 0\r\n\r\n"
}

// note counts a request, and remembers it if there is memory left.
func (r *receiver) note(n note) {
	if n.refused {
		r.refused.Add(1)
	}
	if i := r.count.Add(1) - 1; i < int64(len(r.notes)) {
		r.notes[i] = n
	}
}

// signed reports whether the request has a right signature by the path's secret.
func (r *receiver) signed(path string, header http.Header, body []byte, now time.Time) bool {
	r.mu.Lock()
	secret, known := r.secrets[path]
	r.mu.Unlock()
	return known && signing.Verify(signing.HMACSHA256, []string{secret}, header, body, now, signing.DefaultTolerance) == nil
}

// counts is how many requests came since the last reset.
type counts struct {
	All     int `json:"all"`     // answered
	Refused int `json:"refused"` // answered with 500
	Hung    int `json:"hung"`    // not answered
}

// control returns the control API, by which the benchmark reads counts and notes, and sets
// the secrets.
func (r *receiver) control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /count", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(counts{All: int(r.count.Load()), Refused: int(r.refused.Load()), Hung: int(r.hung.Load())})
	})
	mux.HandleFunc("POST /reset", func(http.ResponseWriter, *http.Request) {
		r.count.Store(0)
		r.refused.Store(0)
		r.hung.Store(0)
	})
	mux.HandleFunc("PUT /secrets", func(w http.ResponseWriter, request *http.Request) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if err := json.NewDecoder(request.Body).Decode(&r.secrets); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	})
	mux.HandleFunc("GET /notes", func(w http.ResponseWriter, _ *http.Request) {
		out := bufio.NewWriter(w)
		for _, n := range r.notes[:min(int(r.count.Load()), len(r.notes))] {
			fmt.Fprintf(out, "%d %s %s %t %t\n", n.at, trim(n.event), trim(n.delivery), n.unsigned, n.refused)
		}
		_ = out.Flush() // fails only when the benchmark has ended
	})
	return mux
}

// trim returns the id without its padding, or "-" for an empty one.
func trim(id [idLength]byte) string {
	text := strings.TrimRight(string(id[:]), "\x00")
	if text == "" {
		return "-"
	}
	return text
}
