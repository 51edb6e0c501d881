package signing

import (
	"encoding/base64"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"postrider.dev/postrider"
)

// BasicAuth sends the secret, user:password, as basic authentication (RFC 7617).
const BasicAuth postrider.SigningMethod = "basic_auth"

func basicAuth() scheme {
	const authScheme = "Basic "
	encoded := func(secret string) string { return base64.StdEncoding.EncodeToString([]byte(secret)) }
	return scheme{
		method: BasicAuth, revealing: true, checkSecret: checkUserPassword, headers: []Header{{Name: headerAuthorize}},
		sign: func(header http.Header, secrets []string, _ signed) {
			header[headerAuthorize] = []string{authScheme + encoded(secrets[0])}
		},
		verify: func(secrets []string, r received) error {
			return verifyHeader(r, headerAuthorize, secrets, func(given, secret string) bool {
				return equal(credentials(given, authScheme), encoded(secret))
			})
		},
	}
}

// checkUserPassword returns the rule that a user and password break, or "". They are sent in base64,
// so they may be any text in UTF-8 without control characters (RFC 7617 section 2).
func checkUserPassword(secret string) string {
	switch {
	case !strings.Contains(secret, ":"):
		return "must be user:password when signing_method is basic_auth"
	case !utf8.ValidString(secret) || strings.ContainsFunc(secret, unicode.IsControl):
		return "must have no control characters, and be in UTF-8, when signing_method is basic_auth"
	}
	return ""
}
