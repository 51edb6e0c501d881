package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"io/fs"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider/egress/tlstest"
)

// authority is a certificate authority.
type authority struct {
	t           *testing.T
	key         *ecdsa.PrivateKey
	certificate *x509.Certificate
	file        string // PEM
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, key: newKey(t), file: filepath.Join(t.TempDir(), "ca.pem")}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	require.NoError(t, err)
	a.certificate, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	writePEM(t, a.file, "CERTIFICATE", der)
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return key
}

// issue returns a certificate for 127.0.0.1, for servers and clients.
func (a *authority) issue(key *ecdsa.PrivateKey, serial int64) []byte {
	a.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.certificate, key.Public(), a.key)
	require.NoError(a.t, err)
	return der
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

// writePEM replaces a file at once, as tools that renew certificates do.
func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(path+".new", pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	require.NoError(t, os.Rename(path+".new", path))
}

// tlsProxy is a Temporal frontend with mTLS: a proxy in front of a frontend without TLS. It counts
// connections by the serial number of the client's certificate.
type tlsProxy struct {
	net.Listener

	behind string
	served sync.WaitGroup

	mu      sync.Mutex
	open    map[net.Conn]bool
	serials map[int64]int // connections by serial number
}

func newTLSProxy(t *testing.T, trusted *authority, behind string) *tlsProxy {
	t.Helper()
	key := newKey(t)
	config := &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{trusted.issue(key, 2)}, PrivateKey: key}},
		ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: trusted.pool(), NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12,
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &tlsProxy{Listener: listener, behind: behind, open: map[net.Conn]bool{}, serials: map[int64]int{}}
	p.served.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			p.served.Go(func() { p.serve(tls.Server(client, config)) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		p.cut()
		p.served.Wait()
	})
	return p
}

// serve forwards one connection when its certificate is valid.
func (p *tlsProxy) serve(client *tls.Conn) {
	defer client.Close()
	if client.Handshake() != nil {
		return
	}
	frontend, err := net.Dial("tcp", p.behind)
	if err != nil {
		return
	}
	defer frontend.Close()
	p.mu.Lock()
	p.open[client] = true
	p.serials[client.ConnectionState().PeerCertificates[0].SerialNumber.Int64()]++
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.open, client)
	}()
	p.served.Go(func() {
		defer client.Close()
		_, _ = io.Copy(client, frontend)
	})
	_, _ = io.Copy(frontend, client)
}

// cut closes every connection.
func (p *tlsProxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for client := range p.open {
		_ = client.Close()
	}
}

// seen returns the number of connections with the certificate.
func (p *tlsProxy) seen(serial int64) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.serials[serial]
}

// TestTemporalOverMTLS guards that every kind of process reaches a Temporal with mTLS, and uses a
// client certificate that is renewed while it runs.
func TestTemporalOverMTLS(t *testing.T) {
	t.Parallel()
	l := newLayout(t)
	trusted, other := newAuthority(t), newAuthority(t)
	p := newTLSProxy(t, trusted, l.setting("POSTRIDER_TEMPORAL_ADDRESS"))
	key, cert, keyFile := newKey(t), filepath.Join(l.dir, "client.pem"), filepath.Join(l.dir, "client.key")
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	writePEM(t, keyFile, "PRIVATE KEY", der)
	writePEM(t, cert, "CERTIFICATE", trusted.issue(key, 100))
	l.env = append(l.env,
		"POSTRIDER_TEMPORAL_ADDRESS="+p.Addr().String(), "POSTRIDER_TEMPORAL_NAMESPACE=secured",
		"POSTRIDER_TEMPORAL_TLS_CA="+trusted.file, "POSTRIDER_TEMPORAL_TLS_CERT="+cert, "POSTRIDER_TEMPORAL_TLS_KEY="+keyFile)

	for reason, setting := range map[string][]string{
		"certificate signed by unknown authority": {"POSTRIDER_TEMPORAL_TLS_CA=" + other.file},
		"not valid for any names":                 {"POSTRIDER_TEMPORAL_TLS_SERVER_NAME=temporal.example"},
		// In TLS 1.3 the client may send data before the server refuses its certificate, so the
		// reason can be lost.
		"gave up": {"POSTRIDER_TEMPORAL_TLS_CERT=", "POSTRIDER_TEMPORAL_TLS_KEY="},
	} {
		_, err := l.try(t, setting, "temporal", "setup", "--timeout", "2s")
		require.ErrorContains(t, err, "temporal at "+p.Addr().String())
		require.ErrorContains(t, err, reason)
	}
	l.command(t, "temporal", "setup")
	l.run(t, "api")
	l.run(t, "worker")
	receiver := newCountingReceiver(t, 0, nil)
	webhook(t, &l.Client, receiver.URL, nil)
	publish(t, &l.Client, "call.ended", nil)
	await(t, func() bool { n, _ := receiver.arrived(); return n == 1 })

	require.Zero(t, p.seen(101))
	writePEM(t, cert, "CERTIFICATE", trusted.issue(key, 101))
	p.cut()
	publish(t, &l.Client, "call.ended", nil)
	await(t, func() bool { n, _ := receiver.arrived(); return n == 2 })
	await(t, func() bool { return p.seen(101) >= 2 }) // the API and the worker
}

// TestWebhookWithTLSOfItsOwn guards that a receiver with a private authority that wants a client
// certificate gets what it wants from one webhook, and nothing from another; and that the key is in no file.
func TestWebhookWithTLSOfItsOwn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	i := startWith(t, dir, nil)
	servers, clients := tlstest.NewAuthority(t), tlstest.NewAuthority(t)
	certificate, key := servers.Issue("receiver", time.Hour)
	pair, err := tls.X509KeyPair([]byte(certificate), []byte(key))
	require.NoError(t, err)
	names := make(chan string, 10)
	receiver := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		names <- r.TLS.PeerCertificates[0].Subject.CommonName
	}))
	receiver.Config.ErrorLog = log.New(io.Discard, "", 0)
	receiver.TLS = &tls.Config{
		Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12,
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients.Pool(),
	}
	receiver.StartTLS()
	t.Cleanup(receiver.Close)

	certificate, key = clients.Issue("webhook", time.Hour)
	own := map[string]any{"client_certificate": certificate, "client_key": key, "ca": servers.PEM}
	fields := map[string]any{"events": []string{"for.all"}, "max_retries": 0}
	plain := webhook(t, i, receiver.URL, fields)
	fields["tls"] = own
	proves := webhook(t, i, receiver.URL, fields)
	publish(t, i, "for.all", nil)
	refused := ended(t, i, only(t, i, plain.ID).ID)
	require.Equal(t, "failed", refused.State)
	require.Equal(t, "TLS: the certificate is signed by an unknown authority", *refused.LastError)
	require.Equal(t, "succeeded", ended(t, i, only(t, i, proves.ID).ID).State)
	require.Equal(t, "webhook", <-names)
	require.Empty(t, names)

	secret := strings.Split(key, "\n")[1]
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		require.NotContains(t, string(text), secret, path)
		return err
	}))
}
