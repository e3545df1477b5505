package guard

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/leasedog/leasedog/lease"
)

// killTimer is a POSIX timer on CLOCK_BOOTTIME whose expiry is a SIGKILL to this process, sent by the kernel: it
// ends a guard that is stopped, starved or swapped out before that one can return to user mode, so a feed that was
// checked in time can never land late (timer_create(2)).
type killTimer interface {
	Set(at lease.Instant) error
	Cancel() error
	Delete() error
}

type posixTimer struct{ id int32 }

// sigevent of timer_create(2); the kernel's has 64 bytes on every architecture.
type sigevent struct {
	value  uintptr
	signo  int32
	notify int32
	_      [64 - 8 - unsafe.Sizeof(uintptr(0))]byte
}

const (
	sigevSignal   = 0
	timerAbsolute = 1
)

func newKillTimer() (killTimer, error) {
	ev := sigevent{signo: int32(unix.SIGKILL), notify: sigevSignal}
	t := &posixTimer{}
	_, _, errno := unix.Syscall(unix.SYS_TIMER_CREATE, unix.CLOCK_BOOTTIME,
		uintptr(unsafe.Pointer(&ev)), uintptr(unsafe.Pointer(&t.id)))
	if errno != 0 {
		return nil, fmt.Errorf("create kill timer: %w", errno)
	}
	return t, nil
}

// Set arms the timer for the absolute instant at; one that has passed fires at once.
func (t *posixTimer) Set(at lease.Instant) error { return t.settime(max(at, 1)) }

// Cancel disarms it.
func (t *posixTimer) Cancel() error { return t.settime(0) }

func (t *posixTimer) settime(at lease.Instant) error {
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(at))}
	_, _, errno := unix.Syscall6(unix.SYS_TIMER_SETTIME, uintptr(t.id), timerAbsolute,
		uintptr(unsafe.Pointer(&spec)), 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("set kill timer: %w", errno)
	}
	return nil
}

// Delete frees it.
func (t *posixTimer) Delete() error {
	if _, _, errno := unix.Syscall(unix.SYS_TIMER_DELETE, uintptr(t.id), 0, 0); errno != 0 {
		return fmt.Errorf("delete kill timer: %w", errno)
	}
	return nil
}
