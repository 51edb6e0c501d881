package signing

import (
	"encoding/base64"
	"net/http"
	"strings"

	"postrider.dev/postrider"
)

// BasicAuth sends the secret, user:password, as basic authentication (RFC 7617).
const BasicAuth postrider.SigningMethod = "basic_auth"

func basicAuth() scheme {
	const authScheme = "Basic "
	encoded := func(secret string) string { return base64.StdEncoding.EncodeToString([]byte(secret)) }
	return scheme{
		method: BasicAuth, revealing: true, headers: []Header{{Name: headerAuthorize}},
		checkSecret: func(secret string) string {
			if !strings.Contains(secret, ":") {
				return "must be user:password when signing_method is basic_auth"
			}
			return checkCredential(secret)
		},
		sign: func(header http.Header, secrets []string, _ signed) {
			header[headerAuthorize] = []string{authScheme + encoded(secrets[0])}
		},
		verify: func(secrets []string, r received) error {
			return verifyHeader(r.header, headerAuthorize, secrets, func(given, secret string) bool {
				return equal(credentials(given, authScheme), encoded(secret))
			})
		},
	}
}
