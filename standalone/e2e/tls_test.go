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
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// authority signs certificates.
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

// issue returns a certificate for 127.0.0.1, server's and client's alike.
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

// writePEM puts a file in place as a whole, as what renews certificates does.
func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(path+".new", pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	require.NoError(t, os.Rename(path+".new", path))
}

// gate is a Temporal frontend that wants mTLS: it ends TLS in front of one that
// speaks none, and knows the serial numbers of its clients' certificates.
type gate struct {
	net.Listener

	behind string
	served sync.WaitGroup

	mu      sync.Mutex
	open    map[net.Conn]bool
	serials map[int64]int // connections made, by serial number
}

func newGate(t *testing.T, trusted *authority, behind string) *gate {
	t.Helper()
	key := newKey(t)
	config := &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{trusted.issue(key, 2)}, PrivateKey: key}},
		ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: trusted.pool(), NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12,
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	g := &gate{Listener: listener, behind: behind, open: map[net.Conn]bool{}, serials: map[int64]int{}}
	g.served.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			g.served.Go(func() { g.serve(tls.Server(client, config)) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		g.cut()
		g.served.Wait()
	})
	return g
}

// serve lets one connection through when its certificate is right.
func (g *gate) serve(client *tls.Conn) {
	defer client.Close()
	if client.Handshake() != nil {
		return
	}
	frontend, err := net.Dial("tcp", g.behind)
	if err != nil {
		return
	}
	defer frontend.Close()
	g.mu.Lock()
	g.open[client] = true
	g.serials[client.ConnectionState().PeerCertificates[0].SerialNumber.Int64()]++
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.open, client)
	}()
	g.served.Go(func() {
		defer client.Close()
		_, _ = io.Copy(client, frontend)
	})
	_, _ = io.Copy(frontend, client)
}

// cut breaks every connection.
func (g *gate) cut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for client := range g.open {
		_ = client.Close()
	}
}

// seen returns how many connections came with the certificate.
func (g *gate) seen(serial int64) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.serials[serial]
}

// TestTemporalOverMTLS runs every kind of process against a Temporal that asks for a
// client's certificate, which is renewed while they run.
func TestTemporalOverMTLS(t *testing.T) {
	t.Parallel()
	l := newLayout(t)
	trusted, other := newAuthority(t), newAuthority(t)
	g := newGate(t, trusted, l.setting("POSTRIDER_TEMPORAL_ADDRESS"))
	key, cert, keyFile := newKey(t), filepath.Join(l.dir, "client.pem"), filepath.Join(l.dir, "client.key")
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	writePEM(t, keyFile, "PRIVATE KEY", der)
	writePEM(t, cert, "CERTIFICATE", trusted.issue(key, 100))
	l.env = append(l.env,
		"POSTRIDER_TEMPORAL_ADDRESS="+g.Addr().String(), "POSTRIDER_TEMPORAL_NAMESPACE=secured",
		"POSTRIDER_TEMPORAL_TLS_CA="+trusted.file, "POSTRIDER_TEMPORAL_TLS_CERT="+cert, "POSTRIDER_TEMPORAL_TLS_KEY="+keyFile)

	for reason, setting := range map[string][]string{
		"certificate signed by unknown authority": {"POSTRIDER_TEMPORAL_TLS_CA=" + other.file},
		"not valid for any names":                 {"POSTRIDER_TEMPORAL_TLS_SERVER_NAME=temporal.example"},
		// A TLS 1.3 server refuses a client that speaks already, so its reason may be lost.
		"gave up": {"POSTRIDER_TEMPORAL_TLS_CERT=", "POSTRIDER_TEMPORAL_TLS_KEY="},
	} {
		_, err := l.try(t, setting, "temporal", "setup", "--timeout", "2s")
		require.ErrorContains(t, err, "temporal at "+g.Addr().String())
		require.ErrorContains(t, err, reason)
	}
	l.command(t, "temporal", "setup")
	l.run(t, "api")
	l.run(t, "worker")
	receiver := newGauge(t, 0, nil)
	webhook(t, &l.Client, receiver.URL, nil)
	publish(t, &l.Client, "call.ended", nil)
	await(t, func() bool { n, _ := receiver.arrived(); return n == 1 })

	require.Zero(t, g.seen(101))
	writePEM(t, cert, "CERTIFICATE", trusted.issue(key, 101))
	g.cut()
	publish(t, &l.Client, "call.ended", nil)
	await(t, func() bool { n, _ := receiver.arrived(); return n == 2 })
	await(t, func() bool { return g.seen(101) >= 2 }) // the API and the worker
}
