package boottime

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Suspended is for how long this machine has been suspended since its boot: what CLOCK_BOOTTIME counted and CLOCK_MONOTONIC
// did not (clock_gettime(2)). The two are read one after the other, so the difference of two calls may be off by that.
func Suspended() time.Duration {
	var mono unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &mono); err != nil {
		panic(fmt.Sprintf("boottime: clock_gettime(CLOCK_MONOTONIC): %v", err))
	}
	return time.Duration(Now()) - time.Duration(mono.Nano())
}
