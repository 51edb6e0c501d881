package server

import (
	"context"
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
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
)

// frontend is as much of a Temporal frontend as a check of the namespace needs. It
// notes the authorization of each call.
type frontend struct {
	workflowservice.UnimplementedWorkflowServiceServer

	authorizations chan []string
}

func (f *frontend) DescribeNamespace(ctx context.Context, _ *workflowservice.DescribeNamespaceRequest) (*workflowservice.DescribeNamespaceResponse, error) {
	headers, _ := metadata.FromIncomingContext(ctx)
	f.authorizations <- headers.Get("authorization")
	return &workflowservice.DescribeNamespaceResponse{}, nil
}

// TestAPIKeyGoesOverTLS asks a frontend that speaks TLS alone, as Temporal Cloud
// does. With the key TLS comes by itself, so a key never goes over a bare connection.
func TestAPIKeyGoesOverTLS(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))

	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	f := &frontend{authorizations: make(chan []string, 1)}
	server := grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(&tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key})))
	workflowservice.RegisterWorkflowServiceServer(server, f)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() { server.Stop(); require.NoError(t, <-served) })

	settings := TemporalSettings{Address: listener.Addr().String(), Namespace: "default", APIKey: "the key", TLSCA: ca}
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
