// Package egress is the guarded HTTP client: the only way by which requests leave
// for addresses that customers chose.
//
// Invariants:
//   - No connection is made to a loopback, private or otherwise special address
//     unless configuration allows its network. A name is resolved once, every
//     address of the answer is checked, and the connection goes to one of the very
//     addresses checked: an answer that changes afterwards changes nothing. The
//     socket's own address is checked once more before it connects.
//   - No redirect is followed, no proxy is taken from the environment, nothing is
//     decompressed, no cookie is kept.
//   - One deadline covers resolving, connecting, TLS, sending, headers and body.
//   - At most 16 KiB of a response body are read.
//   - Error texts are written for the people who own the webhook. They hold no
//     address of ours, no part of the URL, and nothing that was sent or received.
//
// What the receiver did is a [postrider.Attempt], whatever it was. An error means
// that the caller's context ended: a shutdown, not an attempt.
package egress
