package signing

import (
	"net/http"
	"strings"

	"postrider.dev/postrider"
)

// Bearer sends the secret as a bearer token (RFC 6750).
const Bearer postrider.SigningMethod = "bearer"

func bearer() scheme {
	const authScheme = "Bearer "
	return scheme{
		method: Bearer, revealing: true, checkSecret: checkToken, headers: []Header{{Name: headerAuthorize}},
		sign: func(header http.Header, secrets []string, _ signed) {
			header[headerAuthorize] = []string{authScheme + secrets[0]}
		},
		verify: func(secrets []string, r received) error {
			return verifyHeader(r, headerAuthorize, secrets, func(given, secret string) bool {
				return equal(credentials(given, authScheme), secret)
			})
		},
	}
}

// checkToken returns the rule that keeps a token from its receiver, or "".
func checkToken(secret string) string {
	if strings.TrimSpace(secret) != secret {
		return "must not be blank, nor begin or end with white space: that is lost on the way"
	}
	for i := range len(secret) {
		if secret[i] < 0x20 || secret[i] > 0x7e {
			return "must have printable ASCII characters only: it is sent in a header"
		}
	}
	return ""
}

// credentials returns the text after the authentication scheme, or "" for another scheme. The
// case of the scheme's name does not matter (RFC 9110 section 11.1).
func credentials(authorization, authScheme string) string {
	if len(authorization) < len(authScheme) || !strings.EqualFold(authorization[:len(authScheme)], authScheme) {
		return ""
	}
	return authorization[len(authScheme):]
}
