package signing_test

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/signing"
)

// FuzzVerify sends anything as the headers of a request. Verify never panics, knows five errors, and
// accepts nothing but what Sign makes: of the standard's signature every character counts.
func FuzzVerify(f *testing.F) {
	f.Add(uint8(0), exampleSecret, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
		[]byte(`{"test": 2432232314}`))
	f.Add(uint8(0), "plain", "evt_1", "9223372036854775807", "v1, v1 v1,,", []byte{})
	f.Add(uint8(1), "Jefe", "", "", "sha1=effcdf6ae5eb2fa2d27416d5f184df9c259a7c79", []byte("what do ya want for nothing?"))
	f.Add(uint8(2), "token", "", "", "bEaReR token", []byte{})
	f.Add(uint8(3), "Aladdin:open sesame", "", "", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", []byte{})
	methods := signing.Methods()
	f.Fuzz(func(t *testing.T, choice uint8, secret, id, timestamp, proof string, body []byte) {
		method := methods[int(choice)%len(methods)]
		header := http.Header{}
		header.Set(signing.HeaderID, id)
		header.Set(signing.HeaderTimestamp, timestamp)
		for _, name := range []string{signing.HeaderSignature, signing.HeaderHubSHA1, "Authorization"} {
			header.Set(name, proof)
		}
		now := time.Unix(1614265330, 0)
		err := signing.Verify(method, []string{secret}, header, body, now, signing.DefaultTolerance)
		if err != nil {
			require.True(t, errors.Is(err, signing.ErrNoSecret) || errors.Is(err, signing.ErrMissingHeader) ||
				errors.Is(err, signing.ErrTimestamp) || errors.Is(err, signing.ErrMismatch), "%v", err)
			return
		}
		if method != signing.HMACSHA256 {
			return
		}
		require.Contains(t, strings.Fields(proof), signatureOf(t, secret, id, timestamp, body))
	})
}

// signatureOf returns the signature of a message whose timestamp is the header's.
func signatureOf(t *testing.T, secret, id, timestamp string, body []byte) string {
	t.Helper()
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	require.NoError(t, err)
	header, err := signing.Sign(signing.HMACSHA256, []string{secret}, signing.Message{ID: id, Timestamp: time.Unix(seconds, 0), Body: body})
	require.NoError(t, err)
	return header.Get(signing.HeaderSignature)
}

// FuzzSecret gives any text as a secret. One that CheckSecret accepts reaches the receiver in one
// piece, and somebody else's implementation of the method agrees; any one that is not empty, accepted
// or not, verifies what it signs.
func FuzzSecret(f *testing.F) {
	for i := range signing.Methods() {
		for _, secret := range []string{
			"", " ", "plain", "grüße", exampleSecret, "v1," + exampleSecret, exampleSecret + "=", "whsec_", "whsec_-_-_", "user:password", ":",
			"user:пароль", "to\nken", "\xff:\xff", strings.Repeat("\U0001F40E", postrider.MaxSecretLength),
		} {
			f.Add(uint8(i), secret)
		}
	}
	methods := signing.Methods()
	f.Fuzz(func(t *testing.T, choice uint8, secret string) {
		method := methods[int(choice)%len(methods)]
		m := exampleMessage()
		rule := signing.CheckSecret(method, secret)
		if utf8.RuneCountInString(secret) > postrider.MaxSecretLength {
			require.NotEmpty(t, rule)
			return
		}
		header, err := signing.Sign(method, []string{secret}, m)
		if secret == "" {
			require.Equal(t, signing.NeedsSecret(method), err != nil)
			return
		}
		require.NoError(t, err)
		require.NoError(t, signing.Verify(method, []string{secret}, header, m.Body, m.Timestamp, time.Second))
		if rule == "" {
			require.NoError(t, matches(method, secret, onTheWire(header), m.Body), "%s %q", method, secret)
		}
	})
}

// matches verifies with somebody else's implementation. Its library of Standard Webhooks is given a
// secret of the standard's form as it is, and any other as bytes.
func matches(method postrider.SigningMethod, secret string, header http.Header, body []byte) error {
	if method == signing.HMACSHA256 && !strings.HasPrefix(secret, "whsec_") {
		library, err := standardwebhooks.NewWebhookRaw([]byte(secret))
		if err != nil {
			return err
		}
		return library.VerifyIgnoringTimestamp(body, header)
	}
	return independent()[method](secret, header, body)
}

// onTheWire returns the header as a server reads it: without white space around values (RFC 9110
// section 5.5).
func onTheWire(header http.Header) http.Header {
	read := http.Header{}
	for name, values := range header {
		for _, value := range values {
			read.Add(name, strings.Trim(value, " \t"))
		}
	}
	return read
}
