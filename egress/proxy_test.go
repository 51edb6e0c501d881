package egress_test

import (
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/egress"
)

// proxy is an HTTP proxy that knows CONNECT alone, and notes what it is asked.
type proxy struct {
	*httptest.Server
	mu      sync.Mutex
	targets []string
	auth    []string
}

// newProxy returns a proxy that answers CONNECT with the status, and tunnels where that is 200.
func newProxy(t *testing.T, status int) *proxy {
	t.Helper()
	p := &proxy{}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.targets, p.auth = append(p.targets, r.Method+" "+r.RequestURI), append(p.auth, r.Header.Get("Proxy-Authorization"))
		p.mu.Unlock()
		if status != http.StatusOK {
			w.WriteHeader(status)
			return
		}
		target, err := net.Dial("tcp", r.RequestURI)
		if err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		client, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(client, "HTTP/1.1 200 Connection established\r\n\r\n")
		go func() {
			_, _ = io.Copy(target, client)
			_ = target.Close()
		}()
		_, _ = io.Copy(client, target)
		_ = client.Close()
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *proxy) seen() (targets, auth []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.targets, p.auth
}

// through sends all requests through a proxy.
func through(t *testing.T, url string) func(*egress.Config) {
	t.Helper()
	parsed, err := egress.ParseProxy(url)
	require.NoError(t, err)
	return func(c *egress.Config) { c.Proxy = parsed }
}

func TestProxyTunnelsHTTPAndHTTPS(t *testing.T) {
	t.Parallel()
	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(body)
	})
	plain, secure := httptest.NewServer(hello), httptest.NewTLSServer(hello)
	t.Cleanup(plain.Close)
	t.Cleanup(secure.Close)
	authorities := x509.NewCertPool()
	authorities.AddCert(secure.Certificate())
	for scheme, server := range map[string]*httptest.Server{"http": plain, "https": secure} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			p := newProxy(t, http.StatusOK)
			url := strings.Replace(p.URL, "http://", "http://us:hush@", 1)
			client := setup(t, through(t, url), withResolver(answering("127.0.0.1")), func(c *egress.Config) { c.RootCAs = authorities })
			_, port, err := net.SplitHostPort(server.Listener.Addr().String())
			require.NoError(t, err)
			attempt := client.post(t, scheme+"://example.com:"+port+"/", long)
			require.Equal(t, postrider.ResultSuccess, attempt.Result, attempt.Error)
			require.Equal(t, "127.0.0.1", *attempt.RemoteIP)
			targets, auth := p.seen()
			require.Equal(t, []string{"CONNECT 127.0.0.1:" + port}, targets, "an address that was checked, and no name")
			require.Equal(t, []string{"Basic dXM6aHVzaA=="}, auth)
		})
	}
}

// Guards receivers: what the proxy does wrong is no attempt of theirs.
func TestProxysFailuresAreOurs(t *testing.T) {
	t.Parallel()
	closed := httptest.NewServer(nil)
	closed.Close()
	urls := map[string]string{"refused": closed.URL, "unknown": "http://proxy.invalid:3128"}
	for name, status := range map[string]int{"407": 407, "403": 403, "502": 502, "500": 500} {
		urls[name] = newProxy(t, status).URL
	}
	for name, url := range urls {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := setup(t, through(t, strings.Replace(url, "http://", "http://us:hush@", 1)))
			_, _, err := client.Post(t.Context(), egress.Request{URL: "https://127.0.0.1:1234/", Timeout: long})
			require.ErrorIs(t, err, egress.ErrProxy)
			require.NotContains(t, err.Error(), "hush")
			require.NotContains(t, err.Error(), strings.TrimPrefix(url, "http://"))
		})
	}
}

func TestReceiverThatTheProxyCannotReachHasFailed(t *testing.T) {
	t.Parallel()
	attempt := setup(t, through(t, newProxy(t, http.StatusServiceUnavailable).URL)).post(t, "http://127.0.0.1:1234/", long)
	require.Equal(t, postrider.ResultConnect, attempt.Result)
	require.Equal(t, "the proxy cannot connect to it", *attempt.Error)
}

// Guards the inner network: the proxy may reach more than we may.
func TestProxyIsNotAskedForWhatIsBlocked(t *testing.T) {
	t.Parallel()
	p := newProxy(t, http.StatusOK)
	client := setup(t, nothingAllowed, through(t, p.URL), withResolver(answering("10.0.0.1")))
	for _, url := range []string{"http://169.254.169.254/", "http://127.0.0.1:8080/", "https://name.example/"} {
		require.Equal(t, postrider.ResultBlocked, client.post(t, url, long).Result, url)
	}
	targets, _ := p.seen()
	require.Empty(t, targets)
}

// Guards against a proxy that takes the connection and says nothing: the request's time is its bound.
func TestSilentProxyEndsWithTheTimeout(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = silent.Close() })
	attempt := setup(t, through(t, "http://"+silent.Addr().String())).post(t, "http://127.0.0.1:1234/", 100*time.Millisecond)
	require.Equal(t, postrider.ResultTimeout, attempt.Result)
}

func TestParseProxyHidesTheURL(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"proxy:3128", "https://u:hush@proxy", "http://u:hush@", "http://u:hush@proxy/path", "socks5://u:hush@proxy", "http://u:hush@[::1",
	} {
		_, err := egress.ParseProxy(text)
		require.ErrorContains(t, err, "must be a URL such as")
		require.NotContains(t, err.Error(), "hush")
	}
	none, err := egress.ParseProxy(" ")
	require.NoError(t, err)
	require.Nil(t, none)
}

func TestAllowedHostsMayBePrivate(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(server.Close)
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	require.NoError(t, err)
	hosts, err := egress.ParseHosts("Hooks.corp, .internal.example,localhost")
	require.NoError(t, err)
	allow := func(c *egress.Config) { c.AllowHosts = hosts }
	for host, want := range map[string]postrider.Result{
		"hooks.corp": postrider.ResultSuccess, "HOOKS.CORP.": postrider.ResultSuccess, "localhost": postrider.ResultSuccess,
		"a.internal.example": postrider.ResultSuccess, "a.b.internal.example": postrider.ResultSuccess,
		"internal.example": postrider.ResultBlocked, "ainternal.example": postrider.ResultBlocked, "a.hooks.corp": postrider.ResultBlocked,
		"127.0.0.1": postrider.ResultBlocked,
	} {
		client := setup(t, nothingAllowed, allow, withResolver(answering("127.0.0.1")))
		require.Equal(t, want, client.post(t, "http://"+host+":"+port+"/", long).Result, host)
	}
	for _, addr := range []string{
		"169.254.169.254", "168.63.129.16", "100.100.100.200", "fd00:ec2::254", "fe80::1", "0.0.0.0", "224.0.0.1", "::ffff:169.254.169.254",
		"64:ff9b::a9fe:a9fe", "192.0.0.192",
	} {
		client := setup(t, nothingAllowed, allow, withResolver(answering(addr)))
		require.Equal(t, postrider.ResultBlocked, client.post(t, "http://hooks.corp:"+port+"/", long).Result, addr)
	}
}

func TestParseHostsNamesTheEntry(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"a.example,10.0.0.1", "*.example", "a b", ".", "a.example,,b"} {
		_, err := egress.ParseHosts(text)
		require.ErrorContains(t, err, "is not a host name", text)
	}
}
