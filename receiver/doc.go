// Package receiver is an HTTP handler that receives webhooks and verifies their signatures. For
// tests it can also fail, answer slowly, and send Retry-After. The command `postrider listen`
// and the end-to-end tests use it.
//
// [New] returns a [Receiver] by [Options]. Its OnReceived gets each request as a [Received],
// which [Line] formats for a terminal; [Escape] is for other texts.
//
// Invariants:
//   - A request with a wrong signature is answered 401, whatever the options say, and is
//     reported too.
//   - Every POST whose body could be read is reported to OnReceived, once, before its answer.
//   - [Line] shows no credential, no signature, and no control character for a terminal.
//
// The package knows no signing method: it calls package signing. A new behaviour for tests is a
// field of [Options]. Receivers in production need only signing.Verify, see its example.
package receiver
