// Package workflows holds the Temporal workflows, and the one client with which the rest of
// the project starts, queries and cancels them. Names, ids and search attributes never leave
// it as strings.
//
// Types:
//   - [Delivery] is the workflow that carries deliveries, and [DeliveryInput] its input. Its
//     state is a carrier (delivery.go) of members (member.go).
//   - [Maintenance] is the workflow that maintains the database, on a schedule.
//   - [Replay] is the workflow that makes the deliveries of a replay job (replay.go).
//   - [Batch] (legacy.go) exists only for workflows that earlier versions started.
//   - [Client] starts, queries and cancels workflows (client.go).
//   - What a person reads in Temporal's web interface: summaries (summary.go), [Result] and
//     [Overview] (result.go), search attributes (findable.go).
//
// Invariants:
//   - Only ids, types of events, hosts, policies and attempts go into a workflow. Payloads and secrets stay in the
//     database, where the activities read them.
//   - Code that a running workflow may have executed is changed only behind
//     workflow.GetVersion. testdata/ holds recorded histories, and a test replays each against
//     the current code.
//   - A receiver's failure is counted by Temporal's retry policy. An internal failure uses up
//     no attempt of the receiver's, and the workflow goes on after it.
//   - An operator's action is in the database before the workflow hears of it (signal "acted"). It
//     ends when that took its last delivery, unless an older version, which did not listen, was
//     running it when it first heard of one.
//   - A cancelled workflow records the cancellation of its unfinished deliveries.
//
// A workflow does no I/O, reads no clock but workflow.Now, and imports no store; activities do
// the work. A new signal or query gets its name in names.go, its handler in delivery.go before
// the first blocking call, and a method of [Client].
package workflows
