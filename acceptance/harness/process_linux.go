package harness

import "syscall"

// attributes make a process end with the test that started it, and keep Ctrl-C from reaching it first.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
