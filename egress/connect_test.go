package egress_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/egress"
)

func TestPostRefusesBlockedAddresses(t *testing.T) {
	t.Parallel()
	const text = "not sent: the URL must not point to a loopback, private or otherwise special address"
	for name, addrs := range specialRanges() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, addr := range addrs {
				written := strings.ReplaceAll(addr, "%25", "%")
				for _, c := range []struct{ url, answer string }{{urlOf(addr), "8.8.8.8"}, {"https://name.example/hook", written}} {
					attempt := setup(t, nothingAllowed, withResolver(answering(c.answer))).post(t, c.url, long)
					require.Equal(t, postrider.ResultBlocked, attempt.Result, c)
					require.Equal(t, text, *attempt.Error)
					require.Nil(t, attempt.RemoteIP, "nothing was dialled")
					require.Nil(t, attempt.StatusCode)
				}
			}
		})
	}
}

func TestPostRefusesURLsThatCheckURLDoes(t *testing.T) {
	t.Parallel()
	client := setup(t)
	for _, url := range []string{
		"ftp://127.0.0.1/", "http://user:pass@127.0.0.1/", "http://127.0.0.1:22/", "http://10.1/", "http://999.1/", "http://\x00/", "",
	} {
		t.Run(url, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, postrider.ResultBlocked, client.post(t, url, long).Result)
		})
	}
}

func TestNamesAreResolvedAndChecked(t *testing.T) {
	t.Parallel()
	var arrived atomic.Int32
	server := serve(t, func(http.ResponseWriter, *http.Request) { arrived.Add(1) })
	for name, c := range map[string]struct {
		addrs []string
		want  postrider.Result
	}{
		"allowed":                {[]string{"127.0.0.1"}, postrider.ResultSuccess},
		"allowed, mapped":        {[]string{"::ffff:127.0.0.1"}, postrider.ResultSuccess},
		"blocked":                {[]string{"127.0.0.2"}, postrider.ResultBlocked},
		"one of two blocked":     {[]string{"127.0.0.1", "10.0.0.1"}, postrider.ResultBlocked},
		"the first of them":      {[]string{"169.254.169.254", "127.0.0.1"}, postrider.ResultBlocked},
		"the last of very many":  {append(strings.Fields(strings.Repeat("127.0.0.1 ", 50)), "::1"), postrider.ResultBlocked},
		"no address at all":      {nil, postrider.ResultDNS},
		"the same address twice": {[]string{"127.0.0.1", "127.0.0.1"}, postrider.ResultSuccess},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			attempt := setup(t, withResolver(answering(c.addrs...))).post(t, named(server, "hooks.example"), long)
			require.Equal(t, c.want, attempt.Result)
		})
	}
	t.Cleanup(func() { require.EqualValues(t, 3, arrived.Load(), "what is blocked does not arrive") })
}

// A name that meant a permitted address when it was checked and another one when
// it is dialled is the classic way around a check. There is only one look-up here.
func TestRebindingDoesNotPass(t *testing.T) {
	t.Parallel()
	var lookups, arrived atomic.Int32
	server := serve(t, func(http.ResponseWriter, *http.Request) { arrived.Add(1) })
	client := setup(t, withResolver(lookup(func(ctx context.Context, host string) ([]netip.Addr, error) {
		if lookups.Add(1) == 1 {
			return answering("127.0.0.1")(ctx, host)
		}
		return answering("127.0.0.2")(ctx, host)
	})))
	require.Equal(t, postrider.ResultSuccess, client.post(t, named(server, "rebind.example"), long).Result)
	require.EqualValues(t, 1, lookups.Load())

	client.Close() // the next attempt needs a connection of its own
	require.Equal(t, postrider.ResultBlocked, client.post(t, named(server, "rebind.example"), long).Result)
	require.EqualValues(t, 2, lookups.Load())
	require.EqualValues(t, 1, arrived.Load())
}

func TestOddSpellingsOfAllowedAddressesWork(t *testing.T) {
	t.Parallel()
	server := serve(t, func(http.ResponseWriter, *http.Request) {})
	for _, host := range []string{"2130706433", "0x7f.1", "0177.0.0.1", "127.0.0.1.", "[::ffff:127.0.0.1]", "\uff11\uff12\uff17.0.0.1"} {
		t.Run(host, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, postrider.ResultSuccess, setup(t).post(t, named(server, host), long).Result)
		})
	}
}

func TestTheNextAddressIsTried(t *testing.T) {
	t.Parallel()
	server := serve(t, func(http.ResponseWriter, *http.Request) {})
	client := setup(t, withResolver(answering("::1", "127.0.0.1")), func(c *egress.Config) { c.AllowNetworks = egress.StandaloneNetworks() })
	attempt := client.post(t, named(server, "both.example"), long)
	require.Equal(t, postrider.ResultSuccess, attempt.Result, "nobody listens on ::1")
	require.Equal(t, "127.0.0.1", *attempt.RemoteIP)
}

// Guards against an address without an answer that takes the time of the next ones (RFC 8305).
func TestSilentAddressDoesNotHoldUpTheNext(t *testing.T) {
	t.Parallel()
	server := serve(t, func(http.ResponseWriter, *http.Request) {})
	deaf(t, strings.TrimPrefix(named(server, "127.0.0.2"), "http://"))
	allowing := func(c *egress.Config) { c.AllowNetworks = egress.StandaloneNetworks() }
	attempt := setup(t, allowing, withResolver(answering("127.0.0.2", "127.0.0.1"))).post(t, named(server, "two.example"), long)
	require.Equal(t, postrider.ResultSuccess, attempt.Result)
	require.Equal(t, "127.0.0.1", *attempt.RemoteIP)
	require.Less(t, attempt.DurationMS, long.Milliseconds()/2)

	attempt = setup(t, allowing).post(t, named(server, "127.0.0.2"), soon)
	require.Equal(t, postrider.ResultTimeout, attempt.Result)
	require.Equal(t, "timed out after 500ms while connecting", *attempt.Error)
	require.Equal(t, "127.0.0.2", *attempt.RemoteIP)
}

// Guards against the address of this machine's own name server in what the owner of a webhook
// reads.
func TestNameServerIsNoRemoteIP(t *testing.T) {
	t.Parallel()
	server, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	require.NoError(t, err)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for packet := make([]byte, 1500); ; {
			n, from, err := server.ReadFrom(packet)
			if err != nil {
				return
			}
			packet[2] |= 0x80                 // an answer
			packet[3] = packet[3]&0xf0 | 0x03 // no such name (RFC 1035, section 4.1.1)
			_, _ = server.WriteTo(packet[:n], from)
		}
	}()
	t.Cleanup(func() {
		require.NoError(t, server.Close())
		<-ended
	})
	var asked atomic.Int32
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		asked.Add(1)
		return new(net.Dialer).DialContext(ctx, "udp", server.LocalAddr().String())
	}}
	attempt := setup(t, withResolver(resolver)).post(t, "http://name.example/", long)
	require.Equal(t, postrider.ResultDNS, attempt.Result)
	require.Equal(t, "the host name does not exist or has no address", *attempt.Error)
	require.Positive(t, asked.Load())
	require.Nil(t, attempt.RemoteIP)
}

func TestLookupFailures(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err    error // nil: none comes
		result postrider.Result
		text   string
	}{
		"no such name": {
			&net.DNSError{Err: "no such host", Name: marker, Server: "127.0.0.1:53", IsNotFound: true},
			postrider.ResultDNS, "the host name does not exist or has no address",
		},
		"server fails": {
			&net.DNSError{Err: "server misbehaving", Name: marker, Server: "127.0.0.1:53"},
			postrider.ResultDNS, "the host name could not be looked up",
		},
		"other":    {errors.New(marker), postrider.ResultDNS, "the host name could not be looked up"},
		"too slow": {nil, postrider.ResultTimeout, "timed out after 500ms while connecting"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ended := make(chan struct{})
			client := setup(t, withResolver(lookup(func(ctx context.Context, _ string) ([]netip.Addr, error) {
				defer close(ended)
				if c.err == nil {
					<-ctx.Done()
					return nil, ctx.Err()
				}
				return nil, c.err
			})))
			timeout := long
			if c.err == nil {
				timeout = soon
			}
			attempt := client.post(t, "http://name.example/", timeout)
			t.Cleanup(func() { <-ended }) // a look-up does not outlive its attempt by much
			require.Equal(t, c.result, attempt.Result)
			require.Equal(t, c.text, *attempt.Error)
			require.Nil(t, attempt.RemoteIP)
		})
	}
}

func TestTheSystemResolverIsTheDefault(t *testing.T) {
	t.Parallel()
	server := serve(t, func(http.ResponseWriter, *http.Request) {})
	client := setup(t, func(c *egress.Config) { c.AllowNetworks = egress.StandaloneNetworks() })
	require.Equal(t, postrider.ResultSuccess, client.post(t, named(server, "localhost"), long).Result)
}

func TestRefusedConnection(t *testing.T) {
	t.Parallel()
	// The near end of a connection has a port on which nobody can listen meanwhile.
	var dialer net.Dialer
	conn, err := dialer.DialContext(t.Context(), "tcp", serve(t, nil).Listener.Addr().String())
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	attempt := setup(t).post(t, "http://"+conn.LocalAddr().String(), long)
	require.Equal(t, postrider.ResultConnect, attempt.Result)
	require.Equal(t, "connection refused", *attempt.Error)
	require.Equal(t, "127.0.0.1", *attempt.RemoteIP)
}

// serveTLS starts a receiver with httptest's certificate, for example.com and 127.0.0.1.
func serveTLS(t *testing.T, configure func(*httptest.Server)) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(read(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) }))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	configure(server)
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

func trusting(server *httptest.Server) func(*egress.Config) {
	return func(c *egress.Config) {
		c.RootCAs = x509.NewCertPool()
		c.RootCAs.AddCert(server.Certificate())
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{false, true} {
		server := serveTLS(t, func(s *httptest.Server) { s.EnableHTTP2 = http2 })
		attempt := setup(t, trusting(server)).post(t, server.URL, long)
		require.Equal(t, postrider.ResultSuccess, attempt.Result)
		require.Equal(t, map[bool]string{false: "HTTP/1.1", true: "HTTP/2.0"}[http2], *attempt.ResponseExcerpt)
		require.Equal(t, "127.0.0.1", *attempt.RemoteIP)
	}
}

func TestTLSFailures(t *testing.T) {
	t.Parallel()
	server := serveTLS(t, func(*httptest.Server) {})
	plain := serve(t, func(http.ResponseWriter, *http.Request) {})
	closing := listen(t, func(_ int, conn net.Conn) { _, _ = conn.Read(make([]byte, 1)) })
	old := serveTLS(t, func(s *httptest.Server) {
		s.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	})
	anyName := withResolver(answering("127.0.0.1"))
	for name, c := range map[string]struct {
		client    bundle
		url, text string
	}{
		"unknown authority": {setup(t), server.URL, "TLS: the certificate is signed by an unknown authority"},
		"another name":      {setup(t, trusting(server), anyName), named(server, "other.test"), "TLS: the certificate is for another host name"},
		"expired": {setup(t, trusting(server), func(c *egress.Config) {
			c.Now = func() time.Time { return time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC) }
		}), server.URL, "TLS: the certificate has expired or is not yet valid"},
		"no TLS there": {setup(t), strings.Replace(plain.URL, "http:", "https:", 1), "TLS: the server does not speak TLS on this port"},
		"cut off":      {setup(t), "https://" + closing, "TLS: the handshake failed"},
		"old protocol": {setup(t, trusting(old)), old.URL, "TLS: the server refused the handshake: protocol version not supported"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			attempt := c.client.post(t, c.url, long)
			require.Equal(t, postrider.ResultTLS, attempt.Result)
			require.Equal(t, c.text, *attempt.Error)
			require.Equal(t, "127.0.0.1", *attempt.RemoteIP)
			require.Nil(t, attempt.StatusCode)
		})
	}
}

// Guards against a refused client certificate that looks like a broken answer: in TLS 1.3 it comes
// after the client's handshake.
func TestServerWantsACertificate(t *testing.T) {
	t.Parallel()
	server := serveTLS(t, func(*httptest.Server) {})
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, protocol := range []string{"http/1.1", "h2"} {
			t.Run(tls.VersionName(version)+" "+protocol, func(t *testing.T) {
				t.Parallel()
				config := server.TLS.Clone()
				config.MaxVersion, config.ClientAuth, config.NextProtos = version, tls.RequireAnyClientCert, []string{protocol}
				address := listen(t, func(_ int, conn net.Conn) {
					_ = tls.Server(conn, config).HandshakeContext(t.Context())
					_, _ = io.Copy(io.Discard, conn) // a reset might overtake the alert
				})
				attempt := setup(t, trusting(server)).post(t, "https://"+address, long)
				require.Equal(t, postrider.ResultTLS, attempt.Result)
				require.Contains(t, *attempt.Error, "TLS: the server refused the handshake: ")
				require.Equal(t, "127.0.0.1", *attempt.RemoteIP)
			})
		}
	}
}

// countConnections counts what the server accepts.
func countConnections(t *testing.T, handler http.HandlerFunc) (*httptest.Server, *atomic.Int32) {
	t.Helper()
	var opened atomic.Int32
	server := httptest.NewUnstartedServer(read(handler))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	return server, &opened
}

func TestConnectionsAreReused(t *testing.T) {
	t.Parallel()
	server, opened := countConnections(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat("a", postrider.MaxExcerpt-1))
	})
	client := setup(t)
	for range 5 {
		attempt := client.post(t, server.URL, long)
		require.Equal(t, postrider.ResultSuccess, attempt.Result)
		require.Equal(t, "127.0.0.1", *attempt.RemoteIP)
	}
	require.EqualValues(t, 1, opened.Load())
}

func TestConnectionIsClosedWhenTheBodyIsCut(t *testing.T) {
	t.Parallel()
	server, opened := countConnections(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat("a", 1<<20))
	})
	client := setup(t)
	for range 3 {
		require.True(t, client.post(t, server.URL, long).ResponseTruncated)
	}
	require.EqualValues(t, 3, opened.Load())
}

func TestConnectionsPerHostAreLimited(t *testing.T) {
	t.Parallel()
	server := serve(t, func(_ http.ResponseWriter, r *http.Request) { stall(r) })
	client := setup(t, func(c *egress.Config) { c.MaxConnsPerHost = 1 })
	first := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, _, err := client.Post(ctx, egress.Request{URL: server.URL, Timeout: long})
		first <- err
	}()
	require.Eventually(t, func() bool {
		attempt := client.post(t, server.URL, soon)
		require.Equal(t, postrider.ResultTimeout, attempt.Result)
		return attempt.RemoteIP == nil // waited for the first one's connection
	}, long, time.Millisecond)
	cancel()
	require.ErrorIs(t, <-first, context.Canceled)
}

// Guards against a name that is looked up and pooled in two spellings: the transport never found
// the HTTP/2 connection that it had just made.
func TestHostGoesOutInASCII(t *testing.T) {
	t.Parallel()
	var host string
	server, opened := countConnections(t, func(_ http.ResponseWriter, r *http.Request) { host = r.Host })
	client := setup(t, withResolver(answering("127.0.0.1")))
	for _, spelling := range []string{"B\u00fccher.test", "b\u00fccher.test.", "xn--bcher-kva.test"} {
		require.Equal(t, postrider.ResultSuccess, client.post(t, named(server, spelling), long).Result)
		require.Equal(t, strings.TrimPrefix(named(server, "xn--bcher-kva.test"), "http://"), host)
	}
	require.EqualValues(t, 1, opened.Load())
}

func TestInternationalHostOverHTTP2(t *testing.T) {
	t.Parallel()
	server := serveTLS(t, func(s *httptest.Server) { s.EnableHTTP2 = true })
	client := setup(t, trusting(server), withResolver(answering("127.0.0.1")))
	attempt := client.post(t, named(server, "B\u00fccher.test"), long)
	require.Equal(t, postrider.ResultTLS, attempt.Result)
	require.Equal(t, "TLS: the certificate is for another host name", *attempt.Error)
}

// Guards against a request line that strict receivers refuse, and against another path than the
// webhook's.
func TestPathAndQueryGoOutEncoded(t *testing.T) {
	t.Parallel()
	var got string
	server := serve(t, func(_ http.ResponseWriter, r *http.Request) { got = r.RequestURI })
	client := setup(t)
	for given, want := range map[string]string{
		"/a b?a=x y&b=\u00fc&c=%20&d='\"<>&e=1+2": "/a%20b?a=x%20y&b=%C3%BC&c=%20&d=%27%22%3C%3E&e=1+2",
		"/a%2Fb c":              "/a%2Fb%20c",
		"/%e9{\u00e9}|\\^`\"<>": "/%e9%7B%C3%A9%7D%7C%5C%5E%60%22%3C%3E",
		"/a(b)[c];d=!$&'*+,:@~": "/a(b)[c];d=!$&'*+,:@~",
		"":                      "/",
	} {
		attempt, _, err := client.Post(t.Context(), egress.Request{URL: server.URL + given, Timeout: long})
		require.NoError(t, err)
		require.Equal(t, postrider.ResultSuccess, attempt.Result)
		require.Equal(t, want, got)
	}
}
