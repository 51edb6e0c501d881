// Command naive delivers webhooks by a plain Temporal design, which the benchmark compares
// Postrider with:
//
//   - an endpoint (routes.go) writes an event and its deliveries, one row at a time, and
//     starts one workflow for each delivery;
//   - the workflow (naive.go) runs one ordinary activity under a retry policy;
//   - the activity loads the delivery, signs, POSTs, and records in a transaction of its own.
//
// Temporal and PostgreSQL have their default settings. The API is the part of Postrider's that
// the benchmark uses.
//
// Nothing here may be tuned: every statement and option is one that a first version would
// have. A change makes earlier results of the mode naive incomparable.
package main
