package instance

import "syscall"

// dieWithParent makes Linux kill the child when this process ends, for example when a test is
// killed.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
