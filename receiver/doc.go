// Package receiver is the other end of a webhook: an HTTP handler that checks the
// signature of what it gets, can be told to fail, to be slow and to ask for
// patience, and tells what arrived. Postrider's own listen command, demonstration
// and end-to-end tests receive with it.
//
// Invariants:
//   - A request whose signature is wrong is answered 401, whatever else was asked
//     for, and is still told about.
//   - Every POST that could be read is told to OnReceived, once, before it is
//     answered.
//   - [Line] shows no credential and no signature, and nothing that a terminal
//     would obey.
package receiver
