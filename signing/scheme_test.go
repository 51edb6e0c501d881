package signing_test

import (
	"crypto/rand"
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
	for _, c := range []struct {
		method postrider.SigningMethod
		secret string
		ok     bool
	}{
		{signing.HMACSHA256, "", true},
		{signing.HMACSHA256, "It's a Secret to Everybody", true},
		{signing.HMACSHA256, strings.Repeat("s", postrider.MaxSecretLength+1), false},
		{signing.Bearer, "", false},
		{signing.Bearer, "token", true},
		{signing.Bearer, "to\nken", false},
		{signing.BasicAuth, "", false},
		{signing.BasicAuth, "user", false},
		{signing.BasicAuth, "user:password", true},
		{signing.BasicAuth, "usér:password", false},
		{signing.None, "", true},
	} {
		require.Equal(t, c.ok, signing.CheckSecret(c.method, c.secret) == "", "%s %q", c.method, c.secret)
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
