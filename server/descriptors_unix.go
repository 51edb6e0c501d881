//go:build unix

package server

import "syscall"

// descriptorLimit returns how many files and connections the process may have open. Go's runtime has raised
// the soft limit to the hard one when the process started (package syscall, rlimit.go).
func descriptorLimit() uint64 {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return unknownDescriptorLimit
	}
	return limit.Cur
}
