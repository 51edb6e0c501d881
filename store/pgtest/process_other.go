//go:build unix && !linux

package pgtest

import "syscall"

// attributes makes a process run as the account. Only Linux can also tie it to the
// end of the tests.
func (a account) attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: a.credential}
}
