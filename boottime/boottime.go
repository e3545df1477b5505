// Package boottime reads the clock that leases live by: CLOCK_BOOTTIME, which counts suspend (clock_gettime(2)).
// Its timers only wake: whoever wakes reads the clock again. It decides nothing.
package boottime

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/leasedog/leasedog/lease"
)

// Now reads CLOCK_BOOTTIME. It panics if the kernel has no such clock (Linux has had it since 2.6.39), since
// nothing here can be decided without one. Any number of goroutines may call it.
func Now() lease.Instant {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(fmt.Sprintf("boottime: clock_gettime(CLOCK_BOOTTIME): %v", err))
	}
	return lease.Instant(ts.Nano())
}

// Alarm is a timer that wakes its owner at or after an Instant. Go's own timers stand still in suspend, so a sleep
// is cut into pieces of at most a second: after a resume the owner is awake within that. One owner only.
type Alarm struct {
	timer *time.Timer
}

// maxNap bounds how long an alarm sleeps without looking at the clock.
const maxNap = time.Second

// NewAlarm returns an alarm that is not set.
func NewAlarm() *Alarm {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return &Alarm{timer: t}
}

// C delivers a value when the owner should look at the clock: possibly early, never a proof of anything.
func (a *Alarm) C() <-chan time.Time { return a.timer.C }

// Set makes the alarm wake at the given Instant, or earlier.
func (a *Alarm) Set(at lease.Instant) {
	a.timer.Reset(max(0, min(at.Sub(Now()), maxNap)))
}

// Stop ends the alarm.
func (a *Alarm) Stop() { a.timer.Stop() }
