package egress_test

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/egress"
	"postrider.dev/postrider/egress/tlstest"
)

// owned returns a webhook's TLS material; "" stands for null.
func owned(certificate, key, ca string) *postrider.WebhookTLS {
	ref := func(text string) *string {
		if text == "" {
			return nil
		}
		return &text
	}
	return &postrider.WebhookTLS{ClientCertificate: ref(certificate), ClientKey: ref(key), CA: ref(ca)}
}

// issued returns a client certificate of an authority, with the authorities to trust.
func issued(a *tlstest.Authority, name, ca string) *postrider.WebhookTLS {
	certificate, key := a.Issue(name, time.Hour)
	return owned(certificate, key, ca)
}

// receiver is a server with a certificate of its own authority. It answers with the name of the
// client's certificate and the protocol.
type receiver struct {
	*httptest.Server
	opened atomic.Int32
}

func servePrivate(t *testing.T, servers, clients *tlstest.Authority, http2 bool) *receiver {
	t.Helper()
	certificate, key := servers.Issue("receiver", time.Hour)
	pair, err := tls.X509KeyPair([]byte(certificate), []byte(key))
	require.NoError(t, err)
	p := &receiver{}
	p.Server = serveTLS(t, func(s *httptest.Server) {
		s.EnableHTTP2 = http2
		s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
		if clients != nil {
			s.TLS.ClientAuth, s.TLS.ClientCAs = tls.RequireAndVerifyClientCert, clients.Pool()
		}
		s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				p.opened.Add(1)
			}
		}
		s.Config.Handler = read(func(w http.ResponseWriter, r *http.Request) {
			name := "nobody"
			if len(r.TLS.PeerCertificates) > 0 {
				name = r.TLS.PeerCertificates[0].Subject.CommonName
			}
			_, _ = io.WriteString(w, name+" "+r.Proto)
		})
	})
	return p
}

// as posts with a webhook's own TLS material.
func (b bundle) as(t *testing.T, own *postrider.WebhookTLS, url string) postrider.Attempt {
	t.Helper()
	attempt, _, err := b.Post(t.Context(), egress.Request{URL: url, Timeout: long, TLS: own})
	require.NoError(t, err)
	return attempt
}

func TestClientCertificateIsShown(t *testing.T) {
	t.Parallel()
	servers, clients := tlstest.NewAuthority(t), tlstest.NewAuthority(t)
	for proto, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2.0": true} {
		t.Run(proto, func(t *testing.T) {
			t.Parallel()
			server := servePrivate(t, servers, clients, http2)
			client := setup(t)
			attempt := client.as(t, issued(clients, "webhook", servers.PEM), server.URL)
			require.Equal(t, postrider.ResultSuccess, attempt.Result, attempt.Error)
			require.Equal(t, "webhook "+proto, *attempt.ResponseExcerpt)

			for name, own := range map[string]*postrider.WebhookTLS{
				"nobody": owned("", "", servers.PEM), "a stranger": issued(servers, "stranger", servers.PEM),
			} { // the end of the connection may overtake the alert, so this is all that is sure
				require.NotEqual(t, postrider.ResultSuccess, client.as(t, own, server.URL).Result, name)
			}
		})
	}
}

// Guards against a refusal that looks as if there were no certificate.
func TestServerRefusesTheCertificate(t *testing.T) {
	t.Parallel()
	servers, clients := tlstest.NewAuthority(t), tlstest.NewAuthority(t)
	server := servePrivate(t, servers, clients, true)
	for _, protocol := range []string{"http/1.1", "h2"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			config := server.TLS.Clone()
			config.NextProtos = []string{protocol}
			address := listen(t, func(_ int, conn net.Conn) {
				_ = tls.Server(conn, config).HandshakeContext(t.Context())
				_, _ = io.Copy(io.Discard, conn)
			})
			attempt := setup(t).as(t, issued(servers, "stranger", servers.PEM), "https://"+address)
			require.Equal(t, postrider.ResultTLS, attempt.Result)
			require.Contains(t, *attempt.Error, "TLS: the server refused the handshake: ")
			require.NotContains(t, *attempt.Error, "it wants a client certificate")
		})
	}
}

// Guards against trust that goes beyond the webhook that has it, in either direction.
func TestOwnAuthoritiesReplaceAllOthers(t *testing.T) {
	t.Parallel()
	private, public := tlstest.NewAuthority(t), tlstest.NewAuthority(t)
	inside, outside := servePrivate(t, private, nil, true), servePrivate(t, public, nil, true)
	client := setup(t, func(c *egress.Config) { c.RootCAs = public.Pool() })
	trusting := owned("", "", private.PEM)
	for range 2 {
		for _, c := range []struct {
			own    *postrider.WebhookTLS
			server *receiver
			want   postrider.Result
		}{
			{trusting, inside, postrider.ResultSuccess},
			{trusting, outside, postrider.ResultTLS},
			{nil, outside, postrider.ResultSuccess},
			{nil, inside, postrider.ResultTLS},
		} {
			require.Equal(t, c.want, client.as(t, c.own, c.server.URL).Result)
		}
	}
	attempt := client.as(t, nil, inside.URL)
	require.Equal(t, "TLS: the certificate is signed by an unknown authority", *attempt.Error)
}

// Guards against a connection, or a TLS session, that says of one webhook that it is another one.
func TestConnectionsAreNotSharedAcrossMaterial(t *testing.T) {
	t.Parallel()
	a := tlstest.NewAuthority(t)
	for proto, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2.0": true} {
		t.Run(proto, func(t *testing.T) {
			t.Parallel()
			server := servePrivate(t, a, nil, http2)
			server.TLS.ClientAuth = tls.VerifyClientCertIfGiven
			server.TLS.ClientCAs = a.Pool()
			client := setup(t, func(c *egress.Config) { c.RootCAs = a.Pool() })
			certificate, key := a.Issue("one", time.Hour)
			one, two := owned(certificate, key, ""), issued(a, "two", "")
			again := owned(certificate, key, "")
			for name, own := range map[string]*postrider.WebhookTLS{"one": one, "two": two, "nobody": nil} {
				require.Equal(t, name+" "+proto, *client.as(t, own, server.URL).ResponseExcerpt)
			}
			require.EqualValues(t, 3, server.opened.Load())
			client.Close()
			for name, own := range map[string]*postrider.WebhookTLS{"one": again, "two": two, "nobody": nil} {
				require.Equal(t, name+" "+proto, *client.as(t, own, server.URL).ResponseExcerpt, "also when sessions are resumed")
				require.Equal(t, name+" "+proto, *client.as(t, own, server.URL).ResponseExcerpt)
			}
			require.EqualValues(t, 6, server.opened.Load(), "each material has one that it uses again")
		})
	}
}

func TestOwnTLSGoesThroughTheProxy(t *testing.T) {
	t.Parallel()
	a := tlstest.NewAuthority(t)
	server := servePrivate(t, a, a, true)
	p := newProxy(t, http.StatusOK)
	client := setup(t, through(t, p.URL), withResolver(answering("127.0.0.1")))
	attempt := client.as(t, issued(a, "webhook", a.PEM), strings.Replace(server.URL, "127.0.0.1", "example.com", 1))
	require.Equal(t, postrider.ResultSuccess, attempt.Result, attempt.Error)
	require.Equal(t, "webhook HTTP/2.0", *attempt.ResponseExcerpt)
	targets, _ := p.seen()
	require.Len(t, targets, 1)
}

// Guards against connections that pile up: those of the least recently used material are closed.
func TestOwnTransportsAreBounded(t *testing.T) {
	t.Parallel()
	a := tlstest.NewAuthority(t)
	server := servePrivate(t, a, a, true)
	client := setup(t)
	certificate, key := a.Issue("webhook", time.Hour)
	material := func(i int) *postrider.WebhookTLS {
		return owned(certificate, key, a.PEM+strings.Repeat("\n", i))
	}
	for i := range egress.MaxOwn {
		require.Equal(t, postrider.ResultSuccess, client.as(t, material(i), server.URL).Result)
	}
	client.as(t, material(0), server.URL) // used, so that the next one takes the place of 1
	client.as(t, material(egress.MaxOwn), server.URL)
	require.Equal(t, egress.MaxOwn, client.Owned())
	opened := server.opened.Load()
	require.EqualValues(t, egress.MaxOwn+1, opened)
	client.as(t, material(0), server.URL)
	require.Equal(t, opened, server.opened.Load())
	client.as(t, material(1), server.URL)
	require.Equal(t, opened+1, server.opened.Load())
}

func TestOwnTLSThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	attempt := setup(t).as(t, owned("x", "y", ""), "https://127.0.0.1:8443/")
	require.Equal(t, postrider.ResultTLS, attempt.Result)
	require.Equal(t, "TLS: the webhook's own certificate, key or ca cannot be used", *attempt.Error)
}
