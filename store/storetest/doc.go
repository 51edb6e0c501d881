// Package storetest is the conformance suite of package store: it tests what every database
// must do, and [Run] runs it on each.
//
// Each file has the tests of one area, listed in a function such as claimTests with a sentence
// for each. A test gets a [Bundle]: a store on a fresh database with a workspace, under a clock
// that the test moves. Add a test to the list of its area; a new area's list goes into [Run].
//
// property.go plays everything at random and checks invariants after each step: a new operation
// on deliveries belongs there too. migrate_carriers.go holds upgrades to a table of rows before
// and after. Tests of one database alone, of its plans and partitions, are in package store.
//
// settings.go and fixture.go are for other packages' tests.
package storetest
