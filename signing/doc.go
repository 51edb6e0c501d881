// Package signing proves to a receiver that a request came from this server: it makes the
// headers of every signing method, and verifies them.
//
//	hmac_sha256  webhook-signature of Standard Webhooks 1.0, one entry for each live
//	             secret, and X-Hub-Signature-256 (GitHub's) with the current secret
//	hmac_sha1    X-Hub-Signature (GitHub's older one) with the current secret
//	bearer       Authorization: Bearer <current secret>          (RFC 6750)
//	basic_auth   Authorization: Basic <base64 of user:password>  (RFC 7617)
//	none         no header
//
// [Sign] and [Verify] take a list of secrets: the current one first, then replaced ones whose
// grace period is not over. Only Standard Webhooks can carry several signatures; the other
// methods sign with the current secret.
//
// Invariants:
//   - The package is pure: no I/O, no clock, no randomness that is not a parameter.
//   - No error holds a secret, a signature, or a part of one.
//   - The time of a comparison does not depend on where the first difference is.
//
// A new method is a file with its scheme and a line in schemes (scheme.go). Every other
// package asks [Methods], [NeedsSecret], [CheckSecret] and [NewSecret]; it must not list methods
// itself.
package signing
