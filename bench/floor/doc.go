// Command floor is Postrider without Temporal. It has the same API, store, signing, egress and
// attempts, and makes the attempts as soon as it has claimed their deliveries. It is the lower
// bound of the time that a delivery takes on a machine, with which the benchmark compares.
//
// It is no product: it retries nothing, and when it is killed, the deliveries that it has
// claimed wait until their lease expires.
//
//   - floor (floor.go) claims, keeps the slots, and feeds the activity.
//   - runCommand (main.go) opens the database, provisions it, and serves the API.
//
// floor must use the product's own packages, and the product's limits, so that the two
// differ only by Temporal. It must not grow features that no scenario of the benchmark uses.
package main
