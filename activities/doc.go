// Package activities makes attempts: it reads a delivery's target, signs the event's body,
// POSTs it, judges the answer and records the outcome.
//
// Types:
//   - [Activities] are the Temporal activities. [Activities.Deliver] makes first attempts
//     (deliver.go), [Activities.Retry] makes retries in rounds (retry.go, round.go), and both
//     make and record one attempt the same way (attempt.go). [Activities.Cancel] and
//     [Activities.CancelAll] record cancellations.
//   - [Store], [Process], [Feed], [Reporter] and [Poster] are the database, this process's
//     dispatcher, the deliveries that it claimed, the running workflow and the HTTP client.
//   - [Report] is an activity's result for one delivery, and part of Temporal's histories.
//   - [Replays] are the activities of replay jobs (replay.go).
//   - [Maintenance] is the activity that maintains the database.
//
// Invariants:
//   - A receiver's refusal is a result. An activity returns an error of its own only for an
//     internal failure: the database is away, or the process stops.
//   - An activity returns after the attempt's row is committed. A crash between commit and
//     return repeats the activity, which finds the row and makes no request. A crash before
//     the commit repeats the attempt under the same number.
//   - Nothing secret goes into Temporal: results hold ids, states and attempts without
//     payloads, secrets or response bodies.
//   - The JSON names of inputs and results are fixed, since running workflows hold them.
//
// This package contains no SQL and knows no workflow code. A new step of an attempt goes into
// attempt.go, a header of the request into request.go, a metric into metrics.go. A new activity
// becomes a method of [Activities] and needs a call in package workflows.
package activities
