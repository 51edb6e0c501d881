package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// TestAPIKeyGoesOverTLS asks a frontend that speaks only TLS, as Temporal Cloud does. It guards
// against an API key that is sent without TLS.
func TestAPIKeyGoesOverTLS(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))

	f := newFrontend()
	certificate := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	address := f.serve(t, "127.0.0.1:0", grpc.Creds(credentials.NewServerTLSFromCert(certificate)))

	settings := TemporalSettings{Address: address, Namespace: "default", APIKey: "the key", TLSCA: ca}
	require.NoError(t, settings.Validate())
	temporal, err := settings.Dial(slog.New(slog.DiscardHandler), nil, nil)
	require.NoError(t, err)
	t.Cleanup(temporal.Close)
	require.NoError(t, checkNamespace(t.Context(), temporal, settings.Namespace))
	require.Equal(t, []string{"Bearer the key"}, <-f.authorizations)

	config, err := (&TemporalSettings{APIKey: "the key"}).tls()
	require.NoError(t, err)
	require.NotNil(t, config)
}

func TestOnlyRemoteRequestsAreCompressed(t *testing.T) {
	t.Parallel()
	for address, compressed := range map[string]bool{
		"127.0.0.1:7233": false, "[::1]:7233": false, "localhost:7233": false,
		"temporal.example:7233": true, "10.1.2.3:7233": true, "no address": true,
	} {
		settings := TemporalSettings{Address: address}
		require.Equal(t, compressed, settings.compression() == nil, address)
	}
}

func TestTLSIsUsedWhenAnySettingNeedsIt(t *testing.T) {
	t.Parallel()
	config, err := new(TemporalSettings).tls()
	require.NoError(t, err)
	require.Nil(t, config)
	for _, settings := range []TemporalSettings{{TLS: true}, {APIKey: "k"}, {TLSServerName: "temporal.example"}} {
		config, err := settings.tls()
		require.NoError(t, err)
		require.Equal(t, settings.TLSServerName, config.ServerName)
		require.EqualValues(t, tls.VersionTLS12, config.MinVersion)
	}
}
