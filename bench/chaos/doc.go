// Command chaos runs the real binaries under load, breaks one thing after another, and checks at
// the end that no accepted event is lost.
//
// A ledger (ledger.go) is kept on both ends: what the API accepted, and what the receivers got.
// When everything is well again, the two are compared with the deliveries that the API lists:
// accepted = delivered + failed for a stated reason + parked + cancelled. Whatever is missing is
// lost, and the command ends with 1.
//
//   - command.go runs it: load, faults in an order that the seed gives, the comparison, the report.
//   - system.go has the layouts, and the processes that can be killed.
//   - faults.go has the faults. A fault is injected, lasts, and is healed; its recovery is the time
//     until an event that is published then has arrived.
//   - load.go publishes; receiver.go has the receivers, good and hostile ones.
package main
