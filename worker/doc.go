// Package worker runs the Temporal worker, and the dispatcher that gives every accepted
// delivery a workflow.
//
// Two words are used in one sense only. A slot is a delivery's entry in the table of this
// process (inflight.go); InFlight limits slots. A permit is the right to attempt a delivery
// under its webhook's max_in_flight; the database holds permits for all processes.
//
// Types:
//   - [Dispatcher] claims due deliveries from the [Queue] and starts workflows for them with
//     the [Starter]. First attempts ([Dispatcher.Run]) and retries (handover.go) have a queue
//     each, and neither waits for the other.
//   - inflight is the table of slots, and receiverLimit (limiter.go) how many attempts this
//     process gives one receiver.
//   - batch and batches (batches.go) are the workflows that make many first attempts, and
//     the feeds of their activities; prefetch.go fills the feeds.
//   - [Worker] is the Temporal worker, [Backlog] the metrics of waiting deliveries.
//
// Invariants:
//   - A delivery is never lost. A publish commits an outbox row with each delivery, a claim
//     leases rows for a workflow, and the transaction that finishes the delivery removes the
//     row. After a crash the lease expires, and another workflow gets the delivery; the row
//     does not name the first workflow any more, so its attempts are not recorded.
//   - Every slot is freed: when its attempt ends, or when its lease expires.
//   - A delivery is attempted only with a slot and a permit. One that was claimed ahead
//     (ahead.go) has a slot, and gets the permit of an attempt that was answered.
//
// This package contains no SQL and makes no request to a receiver: the first belongs in
// store, the second in activities. A new limit on attempts goes into limiter.go, a new
// reason to start a workflow into dispatcher.go or handover.go.
package worker
