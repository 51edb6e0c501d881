package main

import (
	"path/filepath"
	"slices"
)

// mode is what is measured.
type mode string

// The modes. The product's are processes of postrider-standalone that differ by
// POSTRIDER_BATCHING.
const (
	naive  mode = "naive"  // a plain Temporal design
	single mode = "single" // the product, a workflow for each delivery
	batch  mode = "batch"  // the product as it comes: one workflow carries many deliveries
	floor  mode = "floor"  // the same work without Temporal
)

func modes() []mode { return []mode{naive, single, batch, floor} }

// product reports whether the mode is Postrider itself.
func (m mode) product() bool { return m == single || m == batch }

// binary returns the program of the mode; own is the folder of the benchmark's.
func (m mode) binary(standalone, own string) string {
	if m.product() {
		return standalone
	}
	return filepath.Join(own, string(m))
}

// env is what the mode sets in its process's environment.
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

// rotate returns the modes beginning with another one in each round: none is always
// the first, with the coldest machine.
func rotate(modes []mode, round int) []mode {
	at := round % len(modes)
	return slices.Concat(modes[at:], modes[:at])
}
