package postrider

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
)

// MaskedKey stands for a client key, which nobody may see.
const MaskedKey = MaskedHeader

// Limits of the PEM texts of a webhook's tls, in characters.
const (
	MaxCertificateLength = 16384 // a client certificate with its chain, and its key
	MaxAuthoritiesLength = 65536
)

// WebhookTLS is what the connections of one webhook have in place of what all others have: the
// certificate that says who sends, and the authorities that are trusted.
type WebhookTLS struct {
	_ struct{} `nullable:"true"`

	ClientCertificate *string `json:"client_certificate" required:"false" nullable:"true" minLength:"1" maxLength:"16384" doc:"The certificate that is shown to receivers who ask for one, in PEM, followed by its chain. Together with client_key only. One that has expired is accepted: the receiver decides."`
	ClientKey         *string `json:"client_key" required:"false" nullable:"true" minLength:"1" maxLength:"16384" doc:"The certificate's private key in PEM (PKCS 8, PKCS 1 or SEC 1), without a password. It is encrypted at rest; answers show *** in its place, which is refused as a value."`
	CA                *string `json:"ca" required:"false" nullable:"true" minLength:"1" maxLength:"65536" doc:"Certificates in PEM of the authorities that may sign the receiver's, in place of the system's. Null for the system's."`
}

// Masked returns it as answers show it, without the key.
func (t *WebhookTLS) Masked() *WebhookTLS {
	if t == nil || t.ClientKey == nil {
		return t
	}
	masked, key := *t, MaskedKey
	masked.ClientKey = &key
	return &masked
}

// Parse returns the client certificate, which is nil for none, and the authorities, nil for the
// system's; or the rules that are broken, which repeat no value. The times of certificates are no
// rule: they end while they are stored, too.
func (t *WebhookTLS) Parse() (client *tls.Certificate, authorities *x509.CertPool, broken []FieldError) {
	add := func(field, message string) {
		if message != "" {
			broken = append(broken, FieldError{Field: "tls." + field, Message: message})
		}
	}
	switch {
	case t.ClientCertificate != nil && t.ClientKey == nil:
		add("client_key", "is required with client_certificate; answers show *** for it, so it must be given again")
	case t.ClientCertificate == nil && t.ClientKey != nil:
		add("client_certificate", "is required with client_key")
	case t.ClientCertificate != nil:
		_, message := parseCertificates(*t.ClientCertificate, MaxCertificateLength)
		add("client_certificate", message)
		if message == "" {
			client, message = parsePair(*t.ClientCertificate, *t.ClientKey)
			add("client_key", message)
		}
	case t.CA == nil:
		const message = "must have client_certificate and client_key, or ca, or all three; null for none"
		broken = append(broken, FieldError{Field: "tls", Message: message})
	}
	if t.CA != nil {
		certificates, message := parseCertificates(*t.CA, MaxAuthoritiesLength)
		add("ca", message)
		authorities = x509.NewCertPool()
		for _, c := range certificates {
			authorities.AddCert(c)
		}
	}
	return client, authorities, broken
}

// parseCertificates returns the certificates of a text, or the rule that it breaks. It is strict
// about what else is there, because answers show the text: no key may be in it by mistake.
func parseCertificates(text string, most int) (certificates []*x509.Certificate, message string) {
	if len(text) > most {
		return nil, fmt.Sprintf("must have at most %d characters", most)
	}
	if strings.Contains(text, "PRIVATE KEY") {
		return nil, "must have no private key, since answers show it"
	}
	for block, rest := pem.Decode([]byte(text)); block != nil; block, rest = pem.Decode(rest) {
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil || block.Type != "CERTIFICATE" {
			return nil, fmt.Sprintf("must have certificates only: block %d of the PEM is no valid one", len(certificates)+1)
		}
		certificates = append(certificates, certificate)
	}
	if n := strings.Count(text, "-----BEGIN "); n == 0 || n != len(certificates) {
		return nil, "must be PEM: one or more blocks that begin with -----BEGIN CERTIFICATE-----"
	}
	return certificates, ""
}

// parsePair returns a certificate with its key, or the rule that the key breaks.
func parsePair(certificate, key string) (*tls.Certificate, string) {
	switch {
	case key == MaskedKey:
		return nil, "must be the key itself: *** stands for one that is not shown"
	case len(key) > MaxCertificateLength:
		return nil, fmt.Sprintf("must have at most %d characters", MaxCertificateLength)
	}
	pair, err := tls.X509KeyPair([]byte(certificate), []byte(key))
	switch {
	case err == nil:
		return &pair, ""
	case strings.Contains(err.Error(), "does not match"): // crypto/tls has no other sign of it
		return nil, "does not match the first certificate of client_certificate"
	}
	return nil, "must be the PEM of a private key (PKCS 8, PKCS 1 or SEC 1) without a password"
}

// checkTLS returns the rules that the webhook's tls breaks.
func (w *Webhook) checkTLS() []FieldError {
	if w.TLS == nil {
		return nil
	}
	_, _, broken := w.TLS.Parse()
	if !strings.HasPrefix(strings.ToLower(w.URL), "https://") {
		broken = append(broken, FieldError{Field: "tls", Message: "goes with a url that starts with https:// only"})
	}
	return broken
}
