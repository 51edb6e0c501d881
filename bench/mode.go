package main

import (
	"path/filepath"
	"slices"
)

// mode is the kind of program that is measured.
type mode string

// The modes. The product's are processes of postrider-standalone that differ by
// POSTRIDER_BATCHING.
const (
	naive  mode = "naive"  // a plain Temporal design
	single mode = "single" // the product, a workflow for each delivery
	batch  mode = "batch"  // the product with its defaults: one workflow carries many deliveries
	floor  mode = "floor"  // the same work without Temporal
)

func modes() []mode { return []mode{naive, single, batch, floor} }

// product reports whether the mode is Postrider itself.
func (m mode) product() bool { return m == single || m == batch }

// binary returns the path of the mode's program. programs is the folder of naive and floor.
func (m mode) binary(standalone, programs string) string {
	if m.product() {
		return standalone
	}
	return filepath.Join(programs, string(m))
}

// env returns the variables that the mode adds to its process's environment.
func (m mode) env() []string {
	switch m {
	case single:
		return []string{"POSTRIDER_BATCHING=never"}
	case batch:
		return []string{"POSTRIDER_BATCHING=auto"}
	default:
		return nil
	}
}

// rotate returns the modes in another order in each round, so that no mode is always the
// first, when the machine is coldest.
func rotate(modes []mode, round int) []mode {
	at := round % len(modes)
	return slices.Concat(modes[at:], modes[:at])
}
