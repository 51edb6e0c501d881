//go:build !linux

package instance

import "syscall"

// dieWithParent asks for nothing: only Linux can tie a child's life to its parent's.
func dieWithParent() *syscall.SysProcAttr { return nil }
