package instance

import "syscall"

// dieWithParent keeps an instance from outliving a test that was killed.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
