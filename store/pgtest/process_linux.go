package pgtest

import "syscall"

// attributes makes a process run as the account and end with the tests, even when
// these are killed.
func (a account) attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: a.credential, Pdeathsig: syscall.SIGQUIT}
}
