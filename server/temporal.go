package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	temporallog "go.temporal.io/sdk/log"

	"postrider.dev/postrider/workflows"
)

// TemporalSettings say how a process reaches Temporal.
type TemporalSettings struct {
	Address   string `name:"temporal-address" env:"POSTRIDER_TEMPORAL_ADDRESS" default:"127.0.0.1:7233" help:"host:port of the Temporal cluster's frontend."`
	Namespace string `name:"temporal-namespace" env:"POSTRIDER_TEMPORAL_NAMESPACE" default:"default" help:"Temporal namespace of the deliveries."`
	UIURL     string `name:"temporal-ui-url" env:"POSTRIDER_TEMPORAL_UI_URL" placeholder:"URL" help:"Base URL of Temporal's web interface, for the links in histories."`
	APIKey    string `name:"temporal-api-key" env:"POSTRIDER_TEMPORAL_API_KEY" placeholder:"KEY" help:"API key of the namespace, as Temporal Cloud gives them; implies TLS. Prefer the environment to the flag: other users can see a command line."`

	TLS           bool   `name:"temporal-tls" env:"POSTRIDER_TEMPORAL_TLS" help:"Speak TLS to Temporal."`
	TLSCA         string `name:"temporal-tls-ca" env:"POSTRIDER_TEMPORAL_TLS_CA" placeholder:"FILE" help:"PEM file of the authorities that Temporal's certificate may come from; implies TLS. Default: the system's."`
	TLSCert       string `name:"temporal-tls-cert" env:"POSTRIDER_TEMPORAL_TLS_CERT" placeholder:"FILE" help:"PEM file of the client's certificate, for mTLS; implies TLS. Read again for every connection, so it can be renewed in place."`
	TLSKey        string `name:"temporal-tls-key" env:"POSTRIDER_TEMPORAL_TLS_KEY" placeholder:"FILE" help:"PEM file of the certificate's key."`
	TLSServerName string `name:"temporal-tls-server-name" env:"POSTRIDER_TEMPORAL_TLS_SERVER_NAME" placeholder:"NAME" help:"Name that Temporal's certificate must have; implies TLS. Default: the address's host."`
}

// Validate checks what flag parsing cannot. The error names the flag and the rule.
func (t *TemporalSettings) Validate() error {
	if (t.TLSCert == "") != (t.TLSKey == "") {
		return errors.New("--temporal-tls-cert and --temporal-tls-key: must be given together")
	}
	_, err := t.tls()
	return err
}

// Dial returns a client of Temporal that connects when it is first used, and reconnects by
// itself. metrics and interceptors may be nil. Workers on the client use the interceptors too.
func (t *TemporalSettings) Dial(
	logger *slog.Logger, metrics client.MetricsHandler, interceptors []interceptor.ClientInterceptor,
) (client.Client, error) {
	config, err := t.tls()
	if err != nil {
		return nil, err
	}
	options := client.Options{
		HostPort: t.Address, Namespace: t.Namespace, Logger: temporallog.NewStructuredLogger(logger), MetricsHandler: metrics,
		ConnectionOptions: client.ConnectionOptions{TLS: config, GrpcCompression: t.compression()}, Interceptors: interceptors,
	}
	if t.APIKey != "" {
		options.Credentials = client.NewAPIKeyStaticCredentials(t.APIKey)
	}
	return client.NewLazyClient(options)
}

// compression returns no compression for a server on this machine, where it would cost more
// CPU than it saves, and otherwise the SDK's default.
func (t *TemporalSettings) compression() client.GrpcCompression {
	host, _, err := net.SplitHostPort(t.Address)
	if err != nil {
		return nil
	}
	if address, err := netip.ParseAddr(host); err == nil && address.IsLoopback() || host == "localhost" {
		return &client.GrpcCompressionNone{}
	}
	return nil
}

// tls returns the TLS configuration, or nil for a connection without TLS.
func (t *TemporalSettings) tls() (*tls.Config, error) {
	if !t.TLS && t.APIKey == "" && t.TLSCA == "" && t.TLSCert == "" && t.TLSServerName == "" {
		return nil, nil //nolint:nilnil // nil means no TLS, as in net/http
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.TLSServerName}
	if t.TLSCA != "" {
		text, err := os.ReadFile(t.TLSCA)
		if err != nil {
			return nil, fmt.Errorf("--temporal-tls-ca (POSTRIDER_TEMPORAL_TLS_CA): %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("--temporal-tls-ca (POSTRIDER_TEMPORAL_TLS_CA): %s holds no PEM certificate", t.TLSCA)
		}
	}
	if t.TLSCert != "" {
		if _, err := t.certificate(nil); err != nil {
			return nil, err
		}
		config.GetClientCertificate = t.certificate
	}
	return config, nil
}

// certificate reads the client's certificate. It is called for every connection, so that a
// renewed certificate is used without a restart.
func (t *TemporalSettings) certificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(t.TLSCert, t.TLSKey)
	if err != nil {
		return nil, fmt.Errorf("--temporal-tls-cert and --temporal-tls-key: %w", err)
	}
	return &pair, nil
}

// checkNamespace asks Temporal for the namespace. Temporal reads it from its own database, so
// an answer shows that this database works too.
func checkNamespace(ctx context.Context, temporal client.Client, namespace string) error {
	_, err := temporal.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: namespace})
	return err
}

// temporalPause is the time between two attempts to reach Temporal.
const temporalPause = time.Second

// awaitTemporal returns when Temporal answers, which may be long after the start of this
// process. It returns an error when the namespace does not exist or lacks search attributes, and
// nil when ctx is done.
func (s *Server) awaitTemporal(ctx context.Context) error {
	for ctx.Err() == nil {
		check, cancel := context.WithTimeout(ctx, 10*temporalPause)
		err := checkNamespace(check, s.temporal, s.role.Temporal.Namespace)
		if err == nil {
			err = s.workflows.CheckSearchAttributes(check)
		}
		cancel()
		var missing *serviceerror.NamespaceNotFound
		switch {
		case err == nil:
			return nil
		case errors.Is(err, workflows.ErrNoSearchAttributes):
			return fmt.Errorf("temporal at %s: run `postrider temporal setup`: %w", s.role.Temporal.Address, err)
		case errors.As(err, &missing):
			return fmt.Errorf("temporal at %s has no namespace %q: run `postrider temporal setup`, or choose another with --temporal-namespace",
				s.role.Temporal.Address, s.role.Temporal.Namespace)
		}
		s.role.Logger.LogAttrs(ctx, slog.LevelWarn, "cannot reach Temporal, trying again",
			slog.String("address", s.role.Temporal.Address), slog.Any("error", err))
		Pause(ctx, temporalPause)
	}
	return nil
}
