package signing_test

import (
	"bytes"
	"crypto/rand"
	"net/http"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"postrider.dev/postrider"
	"postrider.dev/postrider/signing"
)

func verifyExample(method postrider.SigningMethod, secret string, header http.Header) error {
	m := exampleMessage()
	return signing.Verify(method, []string{secret}, header, m.Body, m.Timestamp, signing.DefaultTolerance)
}

func TestVerifyTimestamp(t *testing.T) {
	t.Parallel()
	m := exampleMessage()
	header, err := signing.Sign(signing.HMACSHA256, []string{exampleSecret}, m)
	require.NoError(t, err)
	for late, want := range map[time.Duration]error{
		0: nil, time.Minute: nil, -time.Minute: nil,
		time.Minute + time.Second:  signing.ErrTimestamp,
		-time.Minute - time.Second: signing.ErrTimestamp,
		1 << 62:                    signing.ErrTimestamp,
	} {
		t.Run(late.String(), func(t *testing.T) {
			t.Parallel()
			err := signing.Verify(signing.HMACSHA256, []string{exampleSecret}, header, m.Body, m.Timestamp.Add(late), time.Minute)
			require.ErrorIs(t, err, want)
		})
	}
}

func TestVerifyRefuses(t *testing.T) {
	t.Parallel()
	const secret = "user:s3cr3t"
	for name, c := range map[string]struct {
		method postrider.SigningMethod
		change func(http.Header)
		want   error
	}{
		"no id":                {signing.HMACSHA256, drop("webhook-id"), signing.ErrMissingHeader},
		"no timestamp":         {signing.HMACSHA256, drop("webhook-timestamp"), signing.ErrMissingHeader},
		"no signature":         {signing.HMACSHA256, drop("webhook-signature"), signing.ErrMissingHeader},
		"timestamp no number":  {signing.HMACSHA256, set("webhook-timestamp", "yesterday"), signing.ErrTimestamp},
		"timestamp beyond all": {signing.HMACSHA256, set("webhook-timestamp", "9223372036854775807"), signing.ErrTimestamp},
		"another id":           {signing.HMACSHA256, set("webhook-id", "evt_2"), signing.ErrMismatch},
		"another timestamp":    {signing.HMACSHA256, set("webhook-timestamp", "1614265331"), signing.ErrMismatch},
		"another version":      {signing.HMACSHA256, set("webhook-signature", "v1a,AAAA"), signing.ErrMismatch},
		"no version":           {signing.HMACSHA256, set("webhook-signature", "AAAA"), signing.ErrMismatch},
		"no GitHub signature":  {signing.HMACSHA1, drop("X-Hub-Signature"), signing.ErrMissingHeader},
		"another digest":       {signing.HMACSHA1, set("X-Hub-Signature", "sha1=00"), signing.ErrMismatch},
		"no token":             {signing.Bearer, drop("Authorization"), signing.ErrMissingHeader},
		"another token":        {signing.Bearer, set("Authorization", "Bearer user:s3cr3T"), signing.ErrMismatch},
		"token, wrong scheme":  {signing.Bearer, set("Authorization", "Basic user:s3cr3t"), signing.ErrMismatch},
		"token, scheme alone":  {signing.Bearer, set("Authorization", "Bearer"), signing.ErrMismatch},
		"no password":          {signing.BasicAuth, drop("Authorization"), signing.ErrMissingHeader},
		"another password":     {signing.BasicAuth, set("Authorization", "Basic AAAA"), signing.ErrMismatch},
		"password in bearer":   {signing.BasicAuth, set("Authorization", "Bearer user:s3cr3t"), signing.ErrMismatch},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			header, err := signing.Sign(c.method, []string{secret}, exampleMessage())
			require.NoError(t, err)
			require.NoError(t, verifyExample(c.method, secret, header))
			c.change(header)
			err = verifyExample(c.method, secret, header)
			require.ErrorIs(t, err, c.want)
			require.NotContains(t, err.Error(), "s3cr3t")
		})
	}
}

func drop(name string) func(http.Header) { return func(h http.Header) { h.Del(name) } }

func set(name, value string) func(http.Header) { return func(h http.Header) { h.Set(name, value) } }

// TestVerifyIsBounded guards against a header that takes a second to look through: Go's servers
// accept headers of 1 MB.
func TestVerifyIsBounded(t *testing.T) {
	t.Parallel()
	header, err := signing.Sign(signing.HMACSHA256, []string{exampleSecret}, exampleMessage())
	require.NoError(t, err)
	signature := header.Get(signing.HeaderSignature)
	other := "v1," + strings.Repeat("A", 43) + "= "
	header.Set(signing.HeaderSignature, strings.Repeat(other, 300)+signature)
	require.NoError(t, verifyExample(signing.HMACSHA256, exampleSecret, header), "more than anybody's rotation makes")
	for _, filler := range []string{other, "a ", " ", "v1,"} {
		header.Set(signing.HeaderSignature, strings.Repeat(filler, 1<<20/len(filler))+" "+signature)
		require.ErrorIs(t, verifyExample(signing.HMACSHA256, exampleSecret, header), signing.ErrMismatch)
	}
	for method, name := range map[postrider.SigningMethod]string{
		signing.HMACSHA256: signing.HeaderID, signing.HMACSHA1: signing.HeaderHubSHA1,
		signing.Bearer: "Authorization", signing.BasicAuth: "Authorization",
	} {
		header, err := signing.Sign(method, []string{"user:password"}, exampleMessage())
		require.NoError(t, err)
		header.Set(name, strings.Repeat("x", 1<<20))
		require.ErrorIs(t, verifyExample(method, "user:password", header), signing.ErrMismatch)
	}
}

func TestVerifyWantsASecret(t *testing.T) {
	t.Parallel()
	require.ErrorIs(t, verifyExample(signing.HMACSHA256, "", http.Header{}), signing.ErrNoSecret)
	require.ErrorIs(t, verifyExample("rot13", "s", http.Header{}), signing.ErrUnknownMethod)
	require.NoError(t, verifyExample(signing.None, "", http.Header{}), "there is nothing to check")
}

func TestVerifyAcceptsAnySchemeCase(t *testing.T) {
	t.Parallel()
	require.NoError(t, verifyExample(signing.Bearer, "token", http.Header{"Authorization": {"bEaReR token"}}))
	require.NoError(t, verifyExample(signing.BasicAuth, "a:b", http.Header{"Authorization": {"basic YTpi"}}))
}

// TestVerifyAcceptsTheStandardWebhooksLibrary guards against a mistake that Sign and Verify share.
func TestVerifyAcceptsTheStandardWebhooksLibrary(t *testing.T) {
	t.Parallel()
	secret, err := signing.NewSecret(signing.HMACSHA256, rand.Reader)
	require.NoError(t, err)
	library, err := standardwebhooks.NewWebhook(secret)
	require.NoError(t, err)
	m := exampleMessage()
	signature, err := library.Sign(m.ID, m.Timestamp, m.Body)
	require.NoError(t, err)
	header := http.Header{}
	header.Set("webhook-id", m.ID)
	header.Set("webhook-timestamp", "1614265330")
	header.Set("webhook-signature", "v1a,c29tZXRoaW5n v1,AAAA "+signature)
	require.NoError(t, verifyExample(signing.HMACSHA256, secret, header))
}

// signed is a random signed message.
type signed struct {
	method  postrider.SigningMethod
	secrets []string
	message signing.Message
	header  http.Header
}

// drawSecret draws a secret that the method allows: any text, or one that Postrider makes where
// the method has a rule for its secrets that no text keeps by chance.
func drawSecret(t *rapid.T, method postrider.SigningMethod) string {
	secret := rapid.StringMatching(`(whsec_)?[!-~]{1,60}`).Draw(t, "secret")
	if signing.CheckSecret(method, secret) == "" {
		return secret
	}
	seed := rapid.SliceOfN(rapid.Byte(), 256, 256).Draw(t, "entropy")
	made, err := signing.NewSecret(method, bytes.NewReader(seed))
	require.NoError(t, err)
	if made == "" { // people choose it
		made = "user:" + secret
	}
	require.Empty(t, signing.CheckSecret(method, made))
	return made
}

func drawSigned(t *rapid.T, methods ...postrider.SigningMethod) signed {
	method := rapid.SampledFrom(methods).Draw(t, "method")
	s := signed{
		method:  method,
		secrets: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string { return drawSecret(t, method) }), 1, 4).Draw(t, "secrets"),
		message: signing.Message{
			ID:        rapid.StringMatching(`[A-Za-z0-9_:-]{1,128}`).Draw(t, "id"),
			Timestamp: time.Unix(rapid.Int64Range(0, 1<<40).Draw(t, "timestamp"), 0),
			Body:      rapid.SliceOf(rapid.Byte()).Draw(t, "body"),
		},
	}
	header, err := signing.Sign(s.method, s.secrets, s.message)
	require.NoError(t, err)
	s.header = header
	return s
}

func (s signed) verify(secrets ...string) error {
	return signing.Verify(s.method, secrets, s.header, s.message.Body, s.message.Timestamp, time.Second)
}

func TestWhatIsSignedVerifies(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := drawSigned(t, signing.Methods()...)
		require.NoError(t, s.verify(s.secrets...))
		require.NoError(t, s.verify(s.secrets[0]), "the current secret is always enough")
	})
}

func TestAnyLiveSecretVerifiesStandardWebhooks(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := drawSigned(t, signing.HMACSHA256)
		require.NoError(t, s.verify(rapid.SampledFrom(s.secrets).Draw(t, "receiver's secret")))
	})
}

func TestAnotherSecretFails(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := drawSigned(t, signing.HMACSHA256, signing.HMACSHA1, signing.Bearer, signing.BasicAuth)
		// A character at the end changes the key of every secret, of one in base64 too.
		require.ErrorIs(t, s.verify(strings.Join(s.secrets, "")+"!"), signing.ErrMismatch)
	})
}

func TestAnyFlippedBitFails(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := drawSigned(t, signing.HMACSHA256, signing.HMACSHA1)
		if len(s.message.Body) == 0 {
			s.message.Body = []byte{0}
			require.ErrorIs(t, s.verify(s.secrets...), signing.ErrMismatch)
			return
		}
		at := rapid.IntRange(0, len(s.message.Body)-1).Draw(t, "byte")
		s.message.Body[at] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		require.ErrorIs(t, s.verify(s.secrets...), signing.ErrMismatch)
	})
}

func TestAnyFlippedByteOfTheCredentialFails(t *testing.T) {
	t.Parallel()
	credential := map[postrider.SigningMethod]string{
		signing.HMACSHA256: signing.HeaderSignature, signing.HMACSHA1: signing.HeaderHubSHA1,
		signing.Bearer: "Authorization", signing.BasicAuth: "Authorization",
	}
	rapid.Check(t, func(t *rapid.T) {
		s := drawSigned(t, signing.HMACSHA256, signing.HMACSHA1, signing.Bearer, signing.BasicAuth)
		s.secrets = s.secrets[:1]
		header, err := signing.Sign(s.method, s.secrets, s.message)
		require.NoError(t, err)
		s.header = header
		value := []byte(header.Get(credential[s.method]))
		// The case of the scheme does not matter. After the scheme, every byte does.
		from := 0
		if credential[s.method] == "Authorization" {
			from = strings.IndexByte(string(value), ' ') + 1
		}
		value[rapid.IntRange(from, len(value)-1).Draw(t, "byte")] ^= 0x01
		s.header.Set(credential[s.method], string(value))
		require.ErrorIs(t, s.verify(s.secrets...), signing.ErrMismatch)
	})
}
