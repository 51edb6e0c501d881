// Package demo is the command `postrider-standalone demo`: it runs Postrider on real input and
// checks the result. It starts an instance in a temporary folder and on free ports, a receiver
// for each signing method and each way to fail, and publishes events for all of them.
//
//   - cases (cases.go) are the webhooks, and the outcome that each must have.
//   - testReceiver (receiver.go) is the receiver of one webhook. It verifies signatures with
//     the libraries of others, so that a mistake in package signing is found.
//   - report (report.go) compares the outcomes, and each delivery with its workflow's history.
//
// The demo fails when anything differs. It must use only the public API, as a customer does. A
// new kind of webhook is an entry in cases.
package demo
