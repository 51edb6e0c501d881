package server

import (
	"container/list"
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
)

// How many connections the listeners of a process hold at once. What is left of the descriptors is for
// deliveries and the database. The most is a bound of memory: a connection costs some 20 KB.
const (
	mostAPIConnections   = 4096
	mostProbeConnections = 64 // of the metrics listener, and of that for profiles
)

// apiConnections returns the limit of the API's listener in a process that may have so many descriptors.
func apiConnections(descriptors uint64) int {
	return int(max(1, min(descriptors/2, mostAPIConnections)))
}

// probeConnections returns the limit of a listener for probes in a process that may have so many descriptors.
func probeConnections(descriptors uint64) int {
	return int(max(1, min(descriptors/16, mostProbeConnections)))
}

// limitedListener holds a limited number of connections. When it is full, the next connection takes the
// place of the oldest stranger that has no request under way. So connections that only wait keep out nobody
// who has a key, however many they are. Without such a stranger the oldest other connection without a request
// makes room. When requests are under way on all, the next connection waits until one ends.
type limitedListener struct {
	net.Listener
	shed   prometheus.Counter
	places chan struct{} // holds a value for each connection
	closed chan struct{}
	once   sync.Once // closes closed

	idled chan struct{} // gets a token when a connection has no request any more

	mu        sync.Mutex
	strangers list.List // of *connection: those without a request, the oldest first
	known     list.List // the same, of connections on which a key was accepted
}

func limitListener(listener net.Listener, limit int, shed prometheus.Counter) *limitedListener {
	return &limitedListener{
		Listener: listener, shed: shed,
		places: make(chan struct{}, limit), closed: make(chan struct{}), idled: make(chan struct{}, 1),
	}
}

// Accept implements [net.Listener]. A connection starts as a stranger.
func (l *limitedListener) Accept() (net.Conn, error) {
	accepted, err := l.Listener.Accept()
	if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
		l.shedOldest() // net/http tries again soon
	}
	if err != nil {
		return nil, err
	}
	if !l.takePlace() {
		_ = accepted.Close()
		return nil, net.ErrClosed
	}
	c := &connection{Conn: accepted, listener: l}
	c.wait()
	return c, nil
}

// takePlace takes a place for one more connection, and makes one if need be. It returns false if the
// listener was closed while it waited for one.
func (l *limitedListener) takePlace() bool {
	for {
		select {
		case l.places <- struct{}{}:
			return true
		default:
			l.shedOldest()
		}
		select {
		case l.places <- struct{}{}:
			return true
		case <-l.idled:
		case <-l.closed:
			return false
		}
	}
}

// shedOldest closes the oldest stranger that has no request under way, or else the oldest other
// connection without one, if there is one.
func (l *limitedListener) shedOldest() {
	l.mu.Lock()
	oldest := l.strangers.Front()
	if oldest == nil {
		oldest = l.known.Front()
	}
	l.mu.Unlock()
	if oldest != nil {
		l.shed.Inc()
		_ = oldest.Value.(*connection).Close() //nolint:errcheck // the list has nothing else
	}
}

// Close implements [net.Listener].
func (l *limitedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// connection is a connection of a [limitedListener], which guards its fields.
type connection struct {
	net.Conn
	listener *limitedListener
	idle     *list.Element // nil while it must not be shed
	trusted  bool          // a key was accepted on it
	closed   bool
}

// wait notes that no request of the connection is under way.
func (c *connection) wait() {
	c.listener.mu.Lock()
	defer c.listener.mu.Unlock()
	if c.idle == nil && !c.closed {
		c.idle = c.waiting().PushBack(c)
		select {
		case c.listener.idled <- struct{}{}:
		default:
		}
	}
}

// waiting returns the list that the connection is in while it has no request.
func (c *connection) waiting() *list.List {
	if c.trusted {
		return &c.listener.known
	}
	return &c.listener.strangers
}

// work notes that a request of the connection is under way, and whether a key was accepted.
func (c *connection) work(trusted bool) {
	c.listener.mu.Lock()
	defer c.listener.mu.Unlock()
	c.keep()
	c.trusted = c.trusted || trusted
}

// keep takes the connection from those that may be shed.
func (c *connection) keep() {
	if c.idle != nil {
		c.waiting().Remove(c.idle)
		c.idle = nil
	}
}

// Close implements [net.Conn]. The first one gives the connection's place back.
func (c *connection) Close() error {
	err := c.Conn.Close()
	c.listener.mu.Lock()
	defer c.listener.mu.Unlock()
	if !c.closed {
		c.closed = true
		c.keep()
		<-c.listener.places
	}
	return err
}

// CloseWrite is how net/http ends a connection whose peer is still sending, so that the peer can read the
// answer.
func (c *connection) CloseWrite() error {
	if half, can := c.Conn.(interface{ CloseWrite() error }); can {
		return half.CloseWrite()
	}
	return nil
}

type connectionKey struct{}

// withConnection returns the context of the requests on a connection.
func withConnection(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, c)
}

// watchConnections tells the listener while a request is under way.
func watchConnections(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, is := r.Context().Value(connectionKey{}).(*connection); is {
			c.work(false)
			defer c.wait()
		}
		next.ServeHTTP(w, r)
	})
}

// trustConnection notes that a key was accepted on the connection of the request that has the context.
func trustConnection(ctx context.Context) {
	if c, is := ctx.Value(connectionKey{}).(*connection); is {
		c.work(true)
	}
}
