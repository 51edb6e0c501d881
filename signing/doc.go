// Package signing proves to a receiver that a request came from here: it makes
// the headers of every signing method, and checks them.
//
//	hmac_sha256  webhook-signature of Standard Webhooks 1.0, one entry for each live
//	             secret, and X-Hub-Signature-256 (GitHub's) with the current secret
//	hmac_sha1    X-Hub-Signature (GitHub's older one) with the current secret
//	bearer       Authorization: Bearer <current secret>          (RFC 6750)
//	basic_auth   Authorization: Basic <base64 of user:password>  (RFC 7617)
//	none         nothing
//
// Secrets come as a list, the current one first, then those replaced ones whose
// grace period is not over. Only Standard Webhooks has room for several
// signatures; everything else uses the current secret.
//
// Invariants:
//   - The package is pure: no I/O, no clock, no randomness but what is handed in.
//   - No error holds a secret, a signature or a part of one.
//   - Comparisons take the same time wherever the first difference is.
package signing
