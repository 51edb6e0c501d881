//go:build !linux

package instance

import "syscall"

// dieWithParent returns no attributes: only Linux can kill a child when its parent ends.
func dieWithParent() *syscall.SysProcAttr { return nil }
