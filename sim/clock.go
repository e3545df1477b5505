package sim

import (
	"math/rand/v2"
	"time"

	"github.com/leasedog/leasedog/lease"
)

// million is what a rate error is counted in.
const million = 1_000_000

// clock is a host's CLOCK_BOOTTIME: begun at some reading, never stepped. Its rate is off by up to the drift bound and
// changes now and then, as a clock that is slewed or grows warm. The changes are drawn ahead of time, so that a deadline on
// this clock has one instant of real time.
type clock struct {
	rng  *rand.Rand // nil: the rate does not change
	rate int64      // ppm, of a steady one
	segs []segment
}

// segment is a stretch of constant rate: the clock shows base at since.
type segment struct {
	since, base, until lease.Instant
	ppm                int64
}

// standstill is the rate of a clock whose machine is paused.
const standstill = -million

func (s segment) at(real lease.Instant) lease.Instant {
	d := int64(real - s.since)
	return s.base + lease.Instant(d+d*s.ppm/million)
}

// start begins a boot: the clock shows base at now.
func (c *clock) start(now, base lease.Instant) {
	ppm, until := c.next(now)
	c.segs = append(c.segs[:0], segment{now, base, until, ppm})
}

// next draws a rate, mostly at one of the ends of the bound, and how long it lasts.
func (c *clock) next(from lease.Instant) (ppm int64, until lease.Instant) {
	if c.rng == nil {
		return c.rate, lease.Never
	}
	return [...]int64{-1000, 1000, 1000, -1000, 0, 500}[c.rng.IntN(6)], from.Add(time.Duration(20+c.rng.IntN(400)) * time.Second)
}

// extend appends segments until the last one lasts beyond real.
func (c *clock) extend(real lease.Instant) {
	for last := c.segs[len(c.segs)-1]; real >= last.until; last = c.segs[len(c.segs)-1] {
		ppm, until := c.next(last.until)
		c.segs = append(c.segs, segment{last.until, last.at(last.until), until, ppm})
	}
}

// at is what the clock shows at an instant of real time that is not before its start.
func (c *clock) at(real lease.Instant) lease.Instant {
	c.extend(real)
	i := len(c.segs) - 1
	for i > 0 && c.segs[i].since > real {
		i--
	}
	return c.segs[i].at(real)
}

// real is the earliest real time at which the clock shows local.
func (c *clock) real(local lease.Instant) lease.Instant {
	if local == lease.Never {
		return lease.Never
	}
	for {
		i := len(c.segs) - 1
		for i > 0 && (c.segs[i].base > local || c.segs[i].ppm == standstill) {
			i--
		}
		s := c.segs[i]
		if s.ppm == standstill {
			return s.until
		}
		x, rate := int64(local-s.base), million+s.ppm
		r := s.since + lease.Instant(x/rate*million+x%rate*million/rate)
		for s.at(r) < local {
			r++
		}
		for r > s.since && s.at(r-1) >= local {
			r--
		}
		if r < s.until || i < len(c.segs)-1 {
			return min(r, s.until)
		}
		c.extend(s.until)
	}
}

// pause makes the clock stand still from now on for d.
func (c *clock) pause(now lease.Instant, d time.Duration) {
	base := c.at(now)
	for len(c.segs) > 1 && c.segs[len(c.segs)-1].since > now {
		c.segs = c.segs[:len(c.segs)-1]
	}
	last := &c.segs[len(c.segs)-1]
	ppm, until := last.ppm, last.until
	last.until = now
	end := now.Add(d)
	c.segs = append(c.segs, segment{now, base, end, standstill}, segment{end, base, lease.Later(until, end+1), ppm})
}
