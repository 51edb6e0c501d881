package egress

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
)

// The check at the socket holds even if everything before it let an address pass.
func TestControlIsTheLastLine(t *testing.T) {
	t.Parallel()
	d := dialer{guard: newGuard([]netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")})}
	for address, passes := range map[string]bool{
		"127.0.0.1:80": true, "[::ffff:127.0.0.1]:80": true, "8.8.8.8:443": true, "[2606:4700::1]:443": true,
		"127.0.0.2:80": false, "169.254.169.254:80": false, "[::1]:80": false, "[::ffff:10.0.0.1]:80": false,
		"[fe80::1%eth0]:80": false, "localhost:80": false, "": false,
	} {
		t.Run(address, func(t *testing.T) {
			t.Parallel()
			err := d.controlOf("")(t.Context(), "tcp", address, nil)
			require.Equal(t, passes, err == nil)
		})
	}
	refused := &stageError{result: postrider.ResultConnect, err: &net.OpError{Op: "dial", Err: errAddress}}
	result, _ := new(progress).judge(refused, false, time.Second)
	require.Equal(t, postrider.ResultBlocked, result)
}

func TestDialRefusesWhatIsNoAddress(t *testing.T) {
	t.Parallel()
	d := dialer{guard: newGuard(nil)}
	for _, address := range []string{"", "8.8.8.8", "8.8.8.8:http", "8.8.8.8:65536", "1.2.3.4.5:80", ":80"} {
		_, err := d.dial(withDialing(t.Context(), time.Second, new(progress)), "tcp", address)
		require.ErrorIs(t, err, errHost, address)
	}
	require.False(t, d.guard.permits(netip.Addr{}))
}

func TestNoProxyIsUsed(t *testing.T) {
	t.Parallel()
	require.Nil(t, New(Config{Now: time.Now}).transport.Proxy)
}

func TestConnectErrorsInWords(t *testing.T) {
	t.Parallel()
	for errno, want := range map[error]string{
		syscall.ECONNREFUSED: "connection refused",
		syscall.ECONNRESET:   "connection reset",
		syscall.ENETUNREACH:  "the address is unreachable",
		syscall.EHOSTUNREACH: "the address is unreachable",
		syscall.EACCES:       "could not connect",
	} {
		stage := &stageError{result: postrider.ResultConnect, err: &net.OpError{Op: "dial", Err: errno}}
		result, text := new(progress).judge(fmt.Errorf("wrapped: %w", stage), false, time.Second)
		require.Equal(t, postrider.ResultConnect, result)
		require.Equal(t, want, text)
		require.ErrorIs(t, stage, errno)
		require.Contains(t, stage.Error(), "connect: ")
	}
}

func TestTLSErrorsInWords(t *testing.T) {
	t.Parallel()
	invalid := func(reason x509.InvalidReason) error {
		return &tls.CertificateVerificationError{Err: x509.CertificateInvalidError{Reason: reason}}
	}
	for want, err := range map[string]error{
		"TLS: the certificate is signed by an unknown authority": &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}},
		"TLS: the certificate has expired or is not yet valid":   invalid(x509.Expired),
		"TLS: the certificate is not valid":                      invalid(x509.NotAuthorizedToSign),
		"TLS: the handshake failed":                              errors.New("local error"),
	} {
		result, text := (&progress{handshaking: true}).judge(err, false, time.Second)
		require.Equal(t, postrider.ResultTLS, result)
		require.Equal(t, want, text)
	}
}
