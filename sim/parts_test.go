package sim

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/leasedog/leasedog/lease"
)

// A clock's two directions belong together, at every rate and over pauses of its machine: real is the first instant at which
// the clock shows what was asked for.
func TestClock(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		c := clock{rng: rand.New(rand.NewPCG(r.Uint64(), 2))}
		now := lease.Instant(r.Int64N(int64(time.Hour)))
		start, base := now, lease.Instant(r.Int64N(int64(time.Hour)))
		c.start(now, base)
		paused := time.Duration(0)
		for range 50 {
			if r.IntN(10) == 0 {
				d := time.Duration(r.Int64N(int64(time.Minute)))
				c.pause(now, d)
				was := c.at(now)
				if got := c.at(now.Add(d)); got != was {
					t.Fatalf("the clock went from %v to %v in a pause", was, got)
				}
				now, paused = now.Add(d), paused+d
			}
			local := c.at(now).Add(time.Duration(r.Int64N(int64(10 * time.Minute))))
			at := c.real(local)
			if at < now || c.at(at) < local || at > now && c.at(at-1) >= local {
				t.Fatalf("at %v the clock shows %v: %v is to be shown at %v, where it shows %v, and %v before", now, c.at(now), local, at,
					c.at(at), c.at(at-1))
			}
			now = now.Add(time.Duration(r.Int64N(int64(10 * time.Minute))))
			real := now.Sub(start) - paused
			if off := c.at(now).Sub(base) - real; off.Abs() > real/1000+2 {
				t.Fatalf("after %v the clock is off by %v", real, off)
			}
		}
	}
}

// Events happen in the order of their time, and those of one instant in the order in which they were made.
func TestQueue(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	var q queue
	var last event
	for n := uint64(1); n <= 20_000; n++ {
		if q.push(event{at: last.at + lease.Instant(r.IntN(50)), order: n}); r.IntN(3) == 0 || len(q) > 500 {
			e := q.pop()
			if e.before(&last) {
				t.Fatalf("%v came after %v", e, last)
			}
			last = e
		}
	}
}

// An alarm rings once, when its last deadline has come, and not for one that was moved away.
func TestAlarm(t *testing.T) {
	w := &world{}
	var rang []lease.Instant
	a := w.newAlarm(func() { rang = append(rang, w.now) })
	move := func(at, to lease.Instant) { w.at(at, func() { a.set(to) }) }
	move(1, 10)
	move(2, 20) // later
	move(3, 15) // nearer
	move(16, 30)
	move(17, lease.Never)
	move(40, 35) // in the past: at once
	for len(w.queue) > 0 {
		w.next()
	}
	if want := []lease.Instant{15, 40}; !slices.Equal(rang, want) {
		t.Errorf("it rang at %v, want %v", rang, want)
	}
}

// The shortest list that fails is found when few of many faults are needed together.
func TestShrinkFindsTheFew(t *testing.T) {
	all := make([]int, 60)
	for i := range all {
		all[i] = i
	}
	for _, need := range [][]int{{}, {17}, {0, 59}, {3, 4, 41}} {
		got := smallest(all, func(only []int) []int {
			for _, n := range need {
				if !slices.Contains(only, n) {
					return nil
				}
			}
			return only
		})
		if !slices.Equal(got, need) {
			t.Errorf("of the faults %v are needed, found %v", need, got)
		}
	}
}
