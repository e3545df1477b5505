package guard

import (
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mclOnFault is MCL_ONFAULT of mlockall(2): pages are locked when first touched. Without it every mapping of the Go
// runtime would be made resident (113 MB instead of 5 MB).
const mclOnFault = 4

// memoryLimit is where garbage collection would start in spite of being switched off; the guard needs a quarter.
const memoryLimit = 24 << 20

func lockMemory() error {
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(memoryLimit)
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | mclOnFault); err != nil {
		return fmt.Errorf("lock memory: %w", err)
	}
	return nil
}

// realTime puts every thread of this process under SCHED_RR, the lowest priority of it. Threads that the runtime
// makes later inherit it from the thread that makes them.
func realTime() error {
	seen := map[int]bool{}
	for again := true; again; {
		again = false
		entries, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return fmt.Errorf("set real-time scheduling: %w", err)
		}
		for _, entry := range entries {
			tid, err := strconv.Atoi(entry.Name())
			if err != nil || seen[tid] {
				continue
			}
			seen[tid], again = true, true
			if err := setScheduler(tid, unix.SCHED_RR, 1); err != nil && err != unix.ESRCH {
				return fmt.Errorf("set real-time scheduling: %w", err)
			}
		}
	}
	return nil
}

func setScheduler(tid, policy, priority int) error {
	param := int32(priority)
	_, _, errno := unix.Syscall(unix.SYS_SCHED_SETSCHEDULER, uintptr(tid), uintptr(policy),
		uintptr(unsafe.Pointer(&param)))
	if errno != 0 {
		return errno
	}
	return nil
}

// inContainer reports whether systemd runs in a container (its documented marker). There /proc/sysrq-trigger is the
// whole machine's and is never opened.
func inContainer(root string) bool {
	_, err := os.Stat(root + "/run/systemd/container")
	return err == nil
}
