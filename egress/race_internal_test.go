package egress

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func addrs(texts ...string) []netip.Addr {
	parsed := make([]netip.Addr, len(texts))
	for i, text := range texts {
		parsed[i] = netip.MustParseAddr(text)
	}
	return parsed
}

func TestFamiliesTakeTurns(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ given, want []netip.Addr }{
		{addrs(), addrs()},
		{addrs("192.0.2.1"), addrs("192.0.2.1")},
		{addrs("2001:db8::1", "2001:db8::2", "192.0.2.1"), addrs("2001:db8::1", "192.0.2.1", "2001:db8::2")},
		{addrs("192.0.2.1", "192.0.2.2", "2001:db8::1"), addrs("192.0.2.1", "2001:db8::1", "192.0.2.2")},
		{addrs("::ffff:192.0.2.1", "192.0.2.2", "2001:db8::1"), addrs("192.0.2.1", "2001:db8::1", "192.0.2.2")},
	} {
		require.Equal(t, c.want, alternate(c.given))
	}
}

// connection is a fake of one that came about.
type connection struct {
	net.Conn

	closed bool
}

func (c *connection) Close() error {
	c.closed = true
	return nil
}

// silent is how long an address takes that never answers.
const silent = time.Hour

// runner is what connecting to an address comes to, and after how long.
type runner struct {
	after time.Duration
	err   error
	deaf  bool // goes on when it is cancelled
}

// connect does as the runner says.
func (r runner) connect(ctx context.Context) (net.Conn, error) {
	answer, stop := context.WithTimeout(context.WithoutCancel(ctx), r.after)
	defer stop()
	cancelled := ctx.Done()
	if r.deaf {
		cancelled = nil
	}
	select {
	case <-cancelled:
		return nil, ctx.Err()
	case <-answer.Done():
	}
	if r.err != nil {
		return nil, r.err
	}
	return &connection{}, nil
}

// Guards against one address that keeps the others from being tried, and against a second
// connection to a receiver whose first address answers.
func TestRaceOfAddresses(t *testing.T) {
	t.Parallel()
	refused, exhausted := syscall.ECONNREFUSED, syscall.EMFILE
	const delay, ms = attemptDelay, time.Millisecond
	at := func(times ...time.Duration) []time.Duration { return times }
	answers := func(after time.Duration) runner { return runner{after: after} }
	fails := func(after time.Duration, err error) runner { return runner{after: after, err: err} }
	for name, c := range map[string]struct {
		list  []runner
		begun []time.Duration // when each of those that were tried began
		ends  time.Duration
		want  error
	}{
		"the first answers":             {[]runner{answers(ms), answers(0)}, at(0), ms, nil},
		"the first answers late":        {[]runner{answers(delay + ms), answers(silent)}, at(0, delay), delay + ms, nil},
		"the first is silent":           {[]runner{answers(silent), answers(ms)}, at(0, delay), delay + ms, nil},
		"the first is refused":          {[]runner{fails(ms, refused), answers(ms)}, at(0, ms), 2 * ms, nil},
		"all but the last are silent":   {[]runner{answers(silent), answers(silent), answers(0)}, at(0, delay, 2*delay), 2 * delay, nil},
		"refused beside a silent one":   {[]runner{answers(silent), fails(ms, refused), answers(0)}, at(0, delay, delay+ms), delay + ms, nil},
		"all are refused":               {[]runner{fails(ms, errors.New("other")), fails(ms, refused)}, at(0, ms), 2 * ms, refused},
		"all are silent":                {[]runner{answers(silent), answers(silent)}, at(0, delay), time.Minute, context.DeadlineExceeded},
		"this machine is exhausted":     {[]runner{fails(ms, exhausted), answers(0)}, at(0), ms, exhausted},
		"exhausted beside a silent one": {[]runner{answers(2 * delay), fails(ms, exhausted), answers(0)}, at(0, delay), 2 * delay, nil},
		"exhausted, then refused":       {[]runner{fails(2*delay, refused), fails(ms, exhausted)}, at(0, delay), 2 * delay, exhausted},
		"no dial is left":               {[]runner{fails(ms, refused), fails(ms, errNotTaken), answers(0)}, at(0, ms), 2 * ms, errNotTaken},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				started := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				order := make([]netip.Addr, len(c.list))
				index := map[netip.Addr]int{}
				for i := range order {
					order[i] = netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})
					index[order[i]] = i
				}
				begun := make(chan time.Duration, len(order))
				conn, err := race(ctx, order, func(ctx context.Context, addr netip.Addr) (net.Conn, error) {
					begun <- time.Since(started)
					return c.list[index[addr]].connect(ctx)
				})
				require.Equal(t, c.ends, time.Since(started))
				require.ErrorIs(t, err, c.want)
				require.Equal(t, c.want == nil, conn != nil)
				close(begun)
				var times []time.Duration
				for at := range begun {
					times = append(times, at)
				}
				require.Equal(t, c.begun, times)
			})
		})
	}
}

// Guards against connections that nobody closes.
func TestLoserOfTheRaceIsClosed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		conns := make(chan *connection, 2)
		winner, err := race(t.Context(), addrs("192.0.2.1", "192.0.2.2"), func(ctx context.Context, addr netip.Addr) (net.Conn, error) {
			r := runner{after: attemptDelay + time.Second, deaf: true}
			if addr == netip.MustParseAddr("192.0.2.2") {
				r = runner{after: time.Millisecond}
			}
			_, err := r.connect(ctx)
			conn := &connection{}
			conns <- conn
			return conn, err
		})
		require.NoError(t, err)
		first, late := <-conns, <-conns
		require.Same(t, first, winner)
		require.False(t, first.closed)
		require.True(t, late.closed)
	})
}
