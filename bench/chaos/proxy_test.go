package main

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// echoing returns a connection through a proxy to somebody who repeats everything.
func echoing(t *testing.T) (*proxy, net.Conn) {
	t.Helper()
	echo, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() {
		for {
			conn, err := echo.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			}()
		}
	}()
	p, err := newProxy(t.Context(), echo.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() {
		p.close()
		require.NoError(t, echo.Close())
	})
	conn := dial(t, p)
	requireEcho(t, conn)
	return p, conn
}

func dial(t *testing.T, p *proxy) net.Conn {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", p.listener.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	return conn
}

func requireEcho(t *testing.T, conn net.Conn) {
	t.Helper()
	_, err := conn.Write([]byte("ping"))
	require.NoError(t, err)
	answer := make([]byte, 4)
	_, err = io.ReadFull(conn, answer)
	require.NoError(t, err)
	require.Equal(t, "ping", string(answer))
}

func requireReset(t *testing.T, conn net.Conn) {
	t.Helper()
	_, err := conn.Read(make([]byte, 1))
	require.Error(t, err)
	var late net.Error
	require.False(t, errors.As(err, &late) && late.Timeout(), "it is to be reset, and not silent")
}

func TestProxyCuts(t *testing.T) {
	t.Parallel()
	p, conn := echoing(t)
	p.set(cut)
	requireReset(t, conn)
	requireReset(t, dial(t, p))
	p.set(noHarm)
	requireEcho(t, dial(t, p))
}

func TestProxyDelays(t *testing.T) {
	t.Parallel()
	p, conn := echoing(t)
	p.set(delay)
	began := time.Now()
	requireEcho(t, conn)
	require.GreaterOrEqual(t, time.Since(began), 2*linkDelay, "in both directions")
	p.set(noHarm)
	requireEcho(t, conn)
}

// Guards against a stream that goes on with a gap in it.
func TestProxyDrops(t *testing.T) {
	t.Parallel()
	p, conn := echoing(t)
	p.set(drop)
	_, err := conn.Write([]byte("lost"))
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		for c := range p.conns {
			return c.lossy
		}
		return false
	}, 10*time.Second, time.Millisecond)
	p.set(noHarm)
	requireReset(t, conn)
	requireEcho(t, dial(t, p))
}

// Guards against a proxy that cannot be healed while a receiver floods somebody who does not read.
func TestProxyHealsWhileAReceiverFloods(t *testing.T) {
	t.Parallel()
	p, conn := echoing(t)
	go func() {
		for {
			if _, err := conn.Write(make([]byte, pieceBytes)); err != nil {
				return
			}
		}
	}()
	for _, h := range []harm{delay, drop, noHarm} {
		p.set(h)
	}
	requireEcho(t, dial(t, p))
}
