//go:build !unix

package server

// descriptorLimit returns how many files and connections the process may have open, which nothing here
// limits by a number.
func descriptorLimit() uint64 { return unknownDescriptorLimit }
