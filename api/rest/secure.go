package rest

import "net/http"

// apiPolicy lets a browser do nothing with an answer that it shows by itself, and lets no page show it inside.
const apiPolicy = "default-src 'none'; frame-ancestors 'none'"

// Secure puts the headers on every answer of a handler that tell browsers to do nothing with it but to show it.
// A handler may replace them.
//
// Strict-Transport-Security is not among them: this process speaks HTTP without TLS, where RFC 6797 forbids the
// header and browsers ignore it. Whatever speaks TLS before it knows whether all of its host does, and sends it.
func Secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		secure(w.Header())
		next.ServeHTTP(w, r)
	})
}

func secure(header http.Header) {
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("X-Frame-Options", "DENY")
	header.Set("Content-Security-Policy", apiPolicy)
}
