// Command chaos runs the real binaries under load, breaks one thing after another, and checks at
// the end that no accepted event is lost. CONTRIBUTING.md, "Chaos", says what breaks, and how to read
// what is printed.
//
// A ledger is kept on both ends: what the API accepted, and what the receivers got. When everything
// is well again, the two are compared with the deliveries that the API lists: accepted = delivered +
// failed for a stated reason + parked + cancelled. Whatever is missing is lost, and the command ends
// with 1.
//
//   - command.go runs it: load, faults in an order that the seed gives, until all is settled.
//   - system.go has the processes that can be killed, cluster.go those of the cluster; links.go the
//     connections between them, which run through proxies that harm them (proxy.go).
//   - faults.go lists the faults, and faults_*.go make them. A fault is injected, lasts, and is
//     healed; its recovery is the time until an event that is published then has arrived.
//   - load.go publishes; receiver.go has the receivers, hostile.go how the hostile ones answer.
//   - ledger.go keeps the ledger, balance.go compares it, report.go prints what it comes to.
package main
