package signing_test

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-github/v84/github"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/signing"
)

func TestCheckSecret(t *testing.T) {
	t.Parallel()
	longest := strings.Repeat("\U0001F40E", postrider.MaxSecretLength)
	for _, c := range []struct {
		method postrider.SigningMethod
		secret string
		ok     bool
	}{
		{signing.HMACSHA256, "", true},
		{signing.HMACSHA256, "It's a Secret to Everybody", true},
		{signing.HMACSHA256, longest, true},
		{signing.HMACSHA256, longest + "s", false},
		{signing.HMACSHA1, "whsec_ is text here, as GitHub's receivers take it", true},
		{signing.Bearer, "", false},
		{signing.Bearer, "token", true},
		{signing.Bearer, "two words", true},
		{signing.Bearer, "to\nken", false},
		{signing.Bearer, " ", false},
		{signing.Bearer, "token ", false},
		{signing.Bearer, "\ttoken", false},
		{signing.Bearer, "tok\u00e9n", false},
		{signing.BasicAuth, "", false},
		{signing.BasicAuth, "user", false},
		{signing.BasicAuth, "user:password", true},
		{signing.BasicAuth, "usér:пароль ", true},
		{signing.BasicAuth, "user:pass\nword", false},
		{signing.BasicAuth, "user:pass\u0085word", false},
		{signing.BasicAuth, "user:\xff", false},
		{signing.None, "", true},
	} {
		require.Equal(t, c.ok, signing.CheckSecret(c.method, c.secret) == "", "%s %q", c.method, c.secret)
	}
}

// TestSecretsThatNoReceiverCanMatch guards against a secret that was pasted in another form than the
// libraries of Standard Webhooks take, and against an error that does not say what to do.
func TestSecretsThatNoReceiverCanMatch(t *testing.T) {
	t.Parallel()
	key := func(bytes int) []byte { return []byte(strings.Repeat("\xfb\xff", 33)[:bytes]) }
	standard := func(bytes int) string { return "whsec_" + base64.StdEncoding.EncodeToString(key(bytes)) }
	const around = `has something before or after it, such as "v1,", a quote or a space`
	for secret, fault := range map[string]string{
		standard(24):                          "",
		standard(32):                          "",
		standard(64):                          "",
		standard(23):                          "has 23 bytes",
		standard(65):                          "has 65 bytes",
		"whsec_":                              "has 0 bytes",
		"v1," + standard(32):                  around,
		" " + standard(32):                    around,
		standard(32) + "\n":                   around,
		`"` + standard(32) + `"`:              around,
		"v1,whsec_not base64":                 around,
		"whsec_not base64 at all!":            "is not standard base64",
		strings.TrimSuffix(standard(32), "="): "is not padded with = to a multiple of four characters",
		"whsec_" + base64.URLEncoding.EncodeToString(key(32)):    "is in the URL-safe alphabet: it needs + for -, and / for _",
		"whsec_" + base64.RawURLEncoding.EncodeToString(key(32)): "is in the URL-safe alphabet: it needs + for -, and / for _",
		strings.Replace(standard(32), "_", "_\n", 1):             "is not standard base64",
		strings.TrimSuffix(standard(32), "8=") + "9=":            "is not standard base64",
		"a plain text with whsec_ inside":                        "",
		"WHSEC_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw":                 "",
		"'twas a plain text":                                     "",
	} {
		t.Run(secret, func(t *testing.T) {
			t.Parallel()
			rule := signing.CheckSecret(signing.HMACSHA256, secret)
			if fault == "" {
				require.Empty(t, rule)
				return
			}
			require.Equal(t, "looks like a Standard Webhooks secret, which is whsec_ and the standard base64 of 24 to 64 bytes, but "+fault+
				"; a plain text, whose characters are the key, must not begin with whsec_", rule)
			// One that was stored before there was the rule signs as ever.
			m := signing.Message{ID: "evt_1", Timestamp: time.Unix(1700000000, 0), Body: []byte(`{}`)}
			header, err := signing.Sign(signing.HMACSHA256, []string{secret}, m)
			require.NoError(t, err)
			require.NoError(t, signing.Verify(signing.HMACSHA256, []string{secret}, header, m.Body, m.Timestamp, time.Minute))
		})
	}
}

// independent returns a verification of each method that does not use this package.
func independent() map[postrider.SigningMethod]func(secret string, header http.Header, body []byte) error {
	request := func(header http.Header) *http.Request { return &http.Request{Header: header} }
	return map[postrider.SigningMethod]func(string, http.Header, []byte) error{
		signing.HMACSHA256: func(secret string, header http.Header, body []byte) error {
			library, err := standardwebhooks.NewWebhook(secret)
			if err != nil {
				return err
			}
			return library.VerifyIgnoringTimestamp(body, header)
		},
		signing.HMACSHA1: func(secret string, header http.Header, body []byte) error {
			return github.ValidateSignature(header.Get(github.SHA1SignatureHeader), body, []byte(secret))
		},
		signing.Bearer: func(secret string, header http.Header, _ []byte) error {
			if request(header).Header.Get("Authorization") != "Bearer "+secret {
				return errors.New("not the bearer token")
			}
			return nil
		},
		signing.BasicAuth: func(secret string, header http.Header, _ []byte) error {
			user, password, found := request(header).BasicAuth()
			if !found || user+":"+password != secret {
				return errors.New("not the user and password")
			}
			return nil
		},
		signing.None: func(_ string, header http.Header, _ []byte) error {
			if len(header) != 2 {
				return errors.New("more than the id and the timestamp")
			}
			return nil
		},
	}
}

// TestEveryMethodSignsAndVerifies walks the table of methods. It guards that a request signed
// with a secret of the method verifies, here and independently, and that the request does not
// verify with another secret.
func TestEveryMethodSignsAndVerifies(t *testing.T) {
	t.Parallel()
	given := map[postrider.SigningMethod]string{signing.Bearer: "token", signing.BasicAuth: "user:password"}
	for _, method := range signing.Methods() {
		t.Run(string(method), func(t *testing.T) {
			t.Parallel()
			secrets := make([]string, 2)
			for i, end := range []string{"", " of somebody else"} {
				secret, err := signing.NewSecret(method, rand.Reader)
				require.NoError(t, err)
				if secret == "" {
					require.NotEmpty(t, signing.CheckSecret(method, ""), "a method that makes no secret must ask for one")
					secret = given[method] + end
				}
				require.Empty(t, signing.CheckSecret(method, secret))
				secrets[i] = secret
			}
			m := signing.Message{ID: "evt_1", Timestamp: time.Unix(1700000000, 0), Body: []byte(`{"a":1}`)}
			header, err := signing.Sign(method, secrets[:1], m)
			require.NoError(t, err)
			verify := func(secret string) error {
				return signing.Verify(method, []string{secret}, header, m.Body, m.Timestamp, signing.DefaultTolerance)
			}
			require.NoError(t, verify(secrets[0]))
			check, found := independent()[method]
			require.True(t, found, "somebody else's implementation must verify what the method signs")
			require.NoError(t, check(secrets[0], header, m.Body))
			if !signing.NeedsSecret(method) {
				require.NoError(t, verify(""))
				return
			}
			require.ErrorIs(t, verify(secrets[1]), signing.ErrMismatch)
			_, err = signing.Sign(method, nil, m)
			require.ErrorIs(t, err, signing.ErrNoSecret)
		})
	}
}

// Guards what a rotation tells people: which headers have the old secret too, and that no other
// header depends on the secret.
func TestHeadersSayWhichOverlap(t *testing.T) {
	t.Parallel()
	m := signing.Message{ID: "evt_1", Timestamp: time.Unix(1700000000, 0), Body: []byte(`{"a":1}`)}
	sign := func(method postrider.SigningMethod, secrets ...string) http.Header {
		header, err := signing.Sign(method, secrets, m)
		require.NoError(t, err)
		header.Del(signing.HeaderID)
		header.Del(signing.HeaderTimestamp)
		return header
	}
	for _, method := range signing.Methods() {
		alone, both := sign(method, "user:new"), sign(method, "user:new", "user:old")
		old := sign(method, "user:old")
		require.Len(t, both, len(signing.Headers(method)), method)
		for _, header := range signing.Headers(method) {
			require.NotEqual(t, old.Get(header.Name), alone.Get(header.Name), header.Name)
			require.Equal(t, header.Overlaps, strings.Contains(both.Get(header.Name), old.Get(header.Name)), header.Name)
			require.Equal(t, !header.Overlaps, alone.Get(header.Name) == both.Get(header.Name), header.Name)
		}
	}
}

func TestUnknownMethodsHaveNoRules(t *testing.T) {
	t.Parallel()
	require.False(t, signing.NeedsSecret("md5"))
	require.Empty(t, signing.CheckSecret("md5", "any"))
	secret, err := signing.NewSecret("md5", rand.Reader)
	require.NoError(t, err)
	require.Empty(t, secret)
}
