// Package egress is the guarded HTTP client. Every request to an address that a customer chose
// goes through [Client.Post].
//
// Invariants:
//   - No connection goes to a loopback, private or otherwise special address, unless
//     [Config].AllowNetworks has its network. A name is resolved once, and every address of
//     the answer is checked. The connection goes to one of the checked addresses, so a later
//     change of the name has no effect. The socket's address is checked once more before it
//     connects. Addresses are tried beside each other (RFC 8305), at most 10 in one attempt.
//   - The client follows no redirect, uses no proxy of the environment, decompresses nothing
//     and keeps no cookie.
//   - One deadline covers resolving, connecting, TLS, sending, headers and body.
//   - At most 16 KiB of a response body are read.
//   - Error texts are for the owner of the webhook. They hold no internal address, no part of
//     the URL, and nothing that was sent or received.
//
// Everything that a receiver does is a [postrider.Attempt], not an error. Post returns an error
// only when the caller's context ended, which means a shutdown and no attempt.
//
// A new special range belongs into specialNetworks (networks.go), a new rule for URLs into
// url.go, and a new error text into judge.go.
package egress
