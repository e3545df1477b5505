package disk

import "golang.org/x/sys/unix"

// CanFail reports whether Options.Fail works on this architecture.
const CanFail = true

// skipCall makes the system call that tid is about to do one that does not exist.
func skipCall(tid int) error {
	var r unix.PtraceRegs
	if err := unix.PtraceGetRegs(tid, &r); err != nil {
		return err
	}
	r.Orig_rax = ^uint64(0)
	return unix.PtraceSetRegs(tid, &r)
}

// setResult sets what the system call returns that tid has just done.
func setResult(tid int, result int64) error {
	var r unix.PtraceRegs
	if err := unix.PtraceGetRegs(tid, &r); err != nil {
		return err
	}
	r.Rax = uint64(result)
	return unix.PtraceSetRegs(tid, &r)
}
