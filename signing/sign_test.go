package signing_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-github/v84/github"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/signing"
)

// exampleSecret and exampleMessage are the specification's.
const exampleSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

func exampleMessage() signing.Message {
	return signing.Message{
		ID:        "msg_p5jXN8AQM9LWM0D4loKWxJek",
		Timestamp: time.Unix(1614265330, 0),
		Body:      []byte(`{"test": 2432232314}`),
	}
}

func TestSignVectors(t *testing.T) {
	t.Parallel()

	t.Run("Standard Webhooks", func(t *testing.T) {
		t.Parallel()
		header, err := signing.Sign(signing.HMACSHA256, []string{exampleSecret}, exampleMessage())
		require.NoError(t, err)
		require.Equal(t, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", header.Get("webhook-signature"))
		require.Equal(t, "msg_p5jXN8AQM9LWM0D4loKWxJek", header.Get("webhook-id"))
		require.Equal(t, "1614265330", header.Get("webhook-timestamp"))
	})
	t.Run("GitHub SHA-256", func(t *testing.T) {
		t.Parallel()
		m := signing.Message{ID: "evt_1", Timestamp: time.Unix(1, 0), Body: []byte("Hello, World!")}
		header, err := signing.Sign(signing.HMACSHA256, []string{"It's a Secret to Everybody"}, m)
		require.NoError(t, err)
		require.Equal(t, "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17", header.Get("X-Hub-Signature-256"))
	})
	t.Run("HMAC-SHA1 of RFC 2202, case 2", func(t *testing.T) {
		t.Parallel()
		m := signing.Message{ID: "evt_1", Timestamp: time.Unix(1, 0), Body: []byte("what do ya want for nothing?")}
		header, err := signing.Sign(signing.HMACSHA1, []string{"Jefe"}, m)
		require.NoError(t, err)
		require.Equal(t, "sha1=effcdf6ae5eb2fa2d27416d5f184df9c259a7c79", header.Get("X-Hub-Signature"))
	})
	t.Run("basic of RFC 7617", func(t *testing.T) {
		t.Parallel()
		header, err := signing.Sign(signing.BasicAuth, []string{"Aladdin:open sesame"}, exampleMessage())
		require.NoError(t, err)
		require.Equal(t, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", header.Get("Authorization"))
	})
	t.Run("bearer of RFC 6750", func(t *testing.T) {
		t.Parallel()
		header, err := signing.Sign(signing.Bearer, []string{"mF_9.B5f-4.1JqM"}, exampleMessage())
		require.NoError(t, err)
		require.Equal(t, "Bearer mF_9.B5f-4.1JqM", header.Get("Authorization"))
	})
}

func TestSignAddsExactly(t *testing.T) {
	t.Parallel()
	always := []string{signing.HeaderID, signing.HeaderTimestamp}
	for method, own := range map[postrider.SigningMethod][]string{
		signing.HMACSHA256: {signing.HeaderSignature, signing.HeaderHubSHA256},
		signing.HMACSHA1:   {signing.HeaderHubSHA1},
		signing.Bearer:     {"Authorization"},
		signing.BasicAuth:  {"Authorization"},
		signing.None:       nil,
	} {
		t.Run(string(method), func(t *testing.T) {
			t.Parallel()
			header, err := signing.Sign(method, []string{"user:password"}, exampleMessage())
			require.NoError(t, err)
			names := make([]string, 0, len(header))
			for name, values := range header {
				names = append(names, name)
				require.Equal(t, http.CanonicalHeaderKey(name), name, "net/http finds no other spelling")
				require.Len(t, values, 1)
			}
			require.ElementsMatch(t, append(own, always...), names)
		})
	}
}

func TestSignRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		method  postrider.SigningMethod
		secrets []string
		want    error
	}{
		"no secret":            {signing.HMACSHA256, nil, signing.ErrNoSecret},
		"an empty secret":      {signing.HMACSHA1, []string{""}, signing.ErrNoSecret},
		"an empty old secret":  {signing.HMACSHA256, []string{"new", ""}, signing.ErrNoSecret},
		"bearer without token": {signing.Bearer, nil, signing.ErrNoSecret},
		"basic without user":   {signing.BasicAuth, nil, signing.ErrNoSecret},
		"unknown method":       {"rot13", []string{"s3cr3t"}, signing.ErrUnknownMethod},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := signing.Sign(c.method, c.secrets, exampleMessage())
			require.ErrorIs(t, err, c.want)
			require.NotContains(t, err.Error(), "s3cr3t")
		})
	}
}

// TestStandardWebhooksLibraryAccepts guards that receivers can use the library of the standard.
func TestStandardWebhooksLibraryAccepts(t *testing.T) {
	t.Parallel()
	current, err := signing.NewSecret(signing.HMACSHA256, rand.Reader)
	require.NoError(t, err)
	old, err := signing.NewSecret(signing.HMACSHA256, rand.Reader)
	require.NoError(t, err)
	stranger, err := signing.NewSecret(signing.HMACSHA256, rand.Reader)
	require.NoError(t, err)
	m := signing.Message{ID: "evt_1", Timestamp: time.Now(), Body: []byte(`{"type":"call.ended"}`)}
	header, err := signing.Sign(signing.HMACSHA256, []string{current, old}, m)
	require.NoError(t, err)

	for _, secret := range []string{current, old} {
		library, err := standardwebhooks.NewWebhook(secret)
		require.NoError(t, err)
		require.NoError(t, library.Verify(m.Body, header))
		require.Error(t, library.Verify([]byte(`{"type":"call.Ended"}`), header))
	}
	library, err := standardwebhooks.NewWebhook(stranger)
	require.NoError(t, err)
	require.Error(t, library.Verify(m.Body, header))
}

// TestStandardWebhooksLibraryAcceptsRawSecrets guards that the key of a secret without
// whsec_<base64> is its text.
func TestStandardWebhooksLibraryAcceptsRawSecrets(t *testing.T) {
	t.Parallel()
	for _, secret := range []string{
		"plain", "grüße", "whsec_", "whsec_not base64!", "whsec_AAA", "bWVhbnQgYXMgdGV4dA==", "WHSEC_bWVhbnQgYXMgdGV4dA==",
	} {
		t.Run(secret, func(t *testing.T) {
			t.Parallel()
			m := signing.Message{ID: "evt_1", Timestamp: time.Now(), Body: []byte(`{}`)}
			header, err := signing.Sign(signing.HMACSHA256, []string{secret}, m)
			require.NoError(t, err)
			library, err := standardwebhooks.NewWebhookRaw([]byte(secret))
			require.NoError(t, err)
			require.NoError(t, library.Verify(m.Body, header))
		})
	}
}

func TestGitHubLibraryAccepts(t *testing.T) {
	t.Parallel()
	for method, name := range map[postrider.SigningMethod]string{
		signing.HMACSHA256: github.SHA256SignatureHeader,
		signing.HMACSHA1:   github.SHA1SignatureHeader,
	} {
		for _, secret := range []string{exampleSecret, "plain", "grüße"} {
			t.Run(string(method)+" "+secret, func(t *testing.T) {
				t.Parallel()
				m := exampleMessage()
				header, err := signing.Sign(method, []string{secret, "old"}, m)
				require.NoError(t, err)
				require.NoError(t, github.ValidateSignature(header.Get(name), m.Body, []byte(secret)))
				require.Error(t, github.ValidateSignature(header.Get(name), m.Body, []byte("old")), "the current secret signs alone")
			})
		}
	}
}

func TestNetHTTPReadsBasicAuth(t *testing.T) {
	t.Parallel()
	header, err := signing.Sign(signing.BasicAuth, []string{"user:pass:with:colons"}, exampleMessage())
	require.NoError(t, err)
	user, password, ok := (&http.Request{Header: header}).BasicAuth()
	require.True(t, ok)
	require.Equal(t, "user", user)
	require.Equal(t, "pass:with:colons", password)
}

func TestNewSecret(t *testing.T) {
	t.Parallel()
	secret, err := signing.NewSecret(signing.HMACSHA256, bytes.NewReader(bytes.Repeat([]byte{0xfb}, 32)))
	require.NoError(t, err)
	encoded, found := strings.CutPrefix(secret, "whsec_")
	require.True(t, found)
	key, err := base64.StdEncoding.DecodeString(encoded)
	require.NoError(t, err)
	require.Equal(t, bytes.Repeat([]byte{0xfb}, 32), key)

	_, err = signing.NewSecret(signing.HMACSHA256, iotest.ErrReader(iotest.ErrTimeout))
	require.ErrorIs(t, err, iotest.ErrTimeout)
	_, err = signing.NewSecret(signing.HMACSHA256, strings.NewReader("short"))
	require.Error(t, err)
}

func BenchmarkSign(b *testing.B) {
	m := exampleMessage()
	m.Body = bytes.Repeat([]byte("x"), 512)
	for _, method := range signing.Methods() {
		b.Run(string(method), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := signing.Sign(method, []string{exampleSecret}, m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
