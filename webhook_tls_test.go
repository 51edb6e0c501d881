package postrider_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/egress/tlstest"
)

func TestTLSNamesTheFieldAndTheReason(t *testing.T) {
	t.Parallel()
	a := tlstest.NewAuthority(t)
	certificate, key := a.Issue("client", time.Hour)
	_, other := a.Issue("client", time.Hour)
	broken := strings.Replace(certificate, "MI", "AA", 1)
	for name, c := range map[string]struct {
		certificate, key, ca string
		field, reason        string
	}{
		"nothing":                     {"", "", "", "tls", "must have"},
		"no key":                      {certificate, "", "", "tls.client_key", "is required"},
		"no certificate":              {"", key, "", "tls.client_certificate", "is required"},
		"the mask":                    {certificate, "***", "", "tls.client_key", "must be the key itself"},
		"another key":                 {certificate, other, "", "tls.client_key", "does not match"},
		"a key of another kind":       {certificate, rsaKey(t), "", "tls.client_key", "does not match"},
		"no PEM as key":               {certificate, "secret", "", "tls.client_key", "must be the PEM"},
		"a broken key":                {certificate, broken, "", "tls.client_key", "must be the PEM"},
		"a long key":                  {certificate, strings.Repeat("k", 16385), "", "tls.client_key", "16384 characters"},
		"no PEM as certificate":       {"text", key, "", "tls.client_certificate", "must be PEM"},
		"a key among certificates":    {certificate + key, key, "", "tls.client_certificate", "no private key"},
		"a broken block after others": {certificate + "-----BEGIN CERTIFICATE-----\n", key, "", "tls.client_certificate", "must be PEM"},
		"a certificate that is none":  {broken, key, "", "tls.client_certificate", "block 1"},
		"a long certificate":          {certificate + strings.Repeat("\n", 16384), key, "", "tls.client_certificate", "16384 characters"},
		"no PEM as authority":         {"", "", "text", "tls.ca", "must be PEM"},
		"a second authority that is none": {
			"", "", a.PEM + strings.ReplaceAll(a.PEM, "CERTIFICATE", "X509 CRL"), "tls.ca", "block 2",
		},
		"long authorities": {"", "", strings.Repeat(a.PEM, 200), "tls.ca", "65536 characters"},
	} {
		w := validWebhook()
		w.URL, w.TLS = "https://example.com", material(c.certificate, c.key, c.ca)
		got := w.Validate(methods())
		require.Len(t, got, 1, name)
		require.Equal(t, c.field, got[0].Field, name)
		require.Contains(t, got[0].Message, c.reason, name)
		require.Nil(t, got[0].Value, name)
	}
}

func TestTLSIsAccepted(t *testing.T) {
	t.Parallel()
	a := tlstest.NewAuthority(t)
	certificate, key := a.Issue("client", time.Hour)
	expired, expiredKey := a.Issue("client", -time.Hour)
	for name, own := range map[string]*postrider.WebhookTLS{
		"both":           material(certificate, key, a.PEM),
		"a certificate":  material(certificate+a.PEM, key, ""),
		"an authority":   material("", "", a.PEM),
		"authorities":    material("", "", "subject=one\n"+a.PEM+"\n"+certificate),
		"one that ended": material(expired, expiredKey, ""),
	} {
		w := validWebhook()
		w.URL, w.TLS = "HTTPS://example.com", own
		require.Empty(t, w.Validate(methods()), name)
		client, authorities, broken := own.Parse()
		require.Empty(t, broken, name)
		require.Equal(t, own.ClientKey != nil, client != nil, name)
		require.Equal(t, own.CA != nil, authorities != nil, name)
	}
	w := validWebhook()
	w.URL, w.TLS = "http://example.com", material("", "", a.PEM)
	require.Equal(t, "tls", w.Validate(methods())[0].Field)
}

func TestTLSIsShownWithoutItsKey(t *testing.T) {
	t.Parallel()
	require.Nil(t, (*postrider.WebhookTLS)(nil).Masked())
	own := material("certificate", "key", "")
	require.Equal(t, material("certificate", postrider.MaskedKey, ""), own.Masked())
	require.Equal(t, "key", *own.ClientKey)
	ca := material("", "", "ca")
	require.Equal(t, ca, ca.Masked())
}

// material returns TLS material; "" stands for null.
func material(certificate, key, ca string) *postrider.WebhookTLS {
	ref := func(text string) *string {
		if text == "" {
			return nil
		}
		return &text
	}
	return &postrider.WebhookTLS{ClientCertificate: ref(certificate), ClientKey: ref(key), CA: ref(ca)}
}

func rsaKey(t *testing.T) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
}
