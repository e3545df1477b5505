package lease

import (
	"math"
	"strconv"
	"time"
)

// Instant is a reading of CLOCK_BOOTTIME in nanoseconds (clock_gettime(2): it goes on during suspend, which Go's
// own monotonic clock does not). It is meaningful on the machine and in the boot that took it, and nowhere else:
// Instants of two machines are never compared. The zero value means "none"; Never lies after every other.
type Instant int64

// Never is the Instant that does not come.
const Never Instant = math.MaxInt64

// Add returns i moved by d. It saturates at Never, and Never stays Never.
func (i Instant) Add(d time.Duration) Instant {
	if i == Never {
		return Never
	}
	sum := int64(i) + int64(d)
	if d > 0 && sum < int64(i) {
		return Never
	}
	return Instant(sum)
}

// Sub returns how much later i is than j. It saturates; Never is later than everything by the longest Duration.
func (i Instant) Sub(j Instant) time.Duration {
	if i == Never && j != Never {
		return math.MaxInt64
	}
	diff := int64(i) - int64(j)
	switch {
	case i > j && diff < 0:
		return math.MaxInt64
	case i < j && diff > 0:
		return math.MinInt64
	}
	return time.Duration(diff)
}

// Earlier returns the earlier of two Instants.
func Earlier(i, j Instant) Instant { return min(i, j) }

// Later returns the later of two Instants.
func Later(i, j Instant) Instant { return max(i, j) }

// String prints seconds since boot with milliseconds, for logs of one machine.
func (i Instant) String() string {
	if i == Never {
		return "never"
	}
	return strconv.FormatFloat(time.Duration(i).Seconds(), 'f', 3, 64) + "s"
}
