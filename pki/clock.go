package pki

import (
	"crypto/x509"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/leasedog/leasedog/lease"
)

// Clock is the time by which certificates are judged. It has two opinions: the wall clock, and the wall clock of this
// process's start moved on by a clock that nobody steps. So a wall clock that is stepped while connections come and go
// takes nothing away from a holder.
type Clock struct {
	wall   func() time.Time
	steady func() lease.Instant
	start  time.Time
	since  lease.Instant
	floor  atomic.Int64 // Unix nanoseconds
}

// NewClock returns a clock of a wall clock and a steady one.
func NewClock(wall func() time.Time, steady func() lease.Instant) *Clock {
	return &Clock{wall: wall, steady: steady, start: wall(), since: steady()}
}

// notBefore tells that it is t or later: a certificate that began at t is there.
func (c *Clock) notBefore(t time.Time) { c.floor.Store(max(c.floor.Load(), t.UnixNano())) }

// Now is the wall clock, but never before what is known to be past: a machine whose clock begins in 1970 still knows its
// own certificate.
func (c *Clock) Now() time.Time {
	if floor := time.Unix(0, c.floor.Load()); c.wall().Before(floor) {
		return floor
	}
	return c.wall()
}

// Behind says by how much the wall clock is provably behind.
func (c *Clock) Behind() time.Duration { return max(0, time.Unix(0, c.floor.Load()).Sub(c.wall())) }

func (c *Clock) steadyNow() time.Time { return c.start.Add(c.steady().Sub(c.since)) }

// Standing is what a certificate's dates allow. The zero Standing allows nothing.
type Standing int

// The standings, worst first.
const (
	Outside Standing = iota // not yet, or no longer
	Grace                   // only to keep what is held, and to be renewed
	Valid
)

// maxGrace is how long before its begin and after its end a certificate still keeps a held lease, or a quarter of its
// life if that is less.
const maxGrace = 7 * 24 * time.Hour

func grace(c *x509.Certificate) time.Duration { return min(maxGrace, c.NotAfter.Sub(c.NotBefore)/4) }

func standing(c *x509.Certificate, now time.Time) Standing {
	g := grace(c)
	switch {
	case !now.Before(c.NotBefore) && !now.After(c.NotAfter):
		return Valid
	case !now.Before(c.NotBefore.Add(-g)) && !now.After(c.NotAfter.Add(g)):
		return Grace
	}
	return Outside
}

// Standing judges a certificate's dates. Only a wall clock that says so makes one Valid; Grace is given by either clock.
func (c *Clock) Standing(cert *x509.Certificate) Standing {
	now := standing(cert, c.Now())
	if now == Outside && standing(cert, c.steadyNow()) != Outside {
		return Grace
	}
	return now
}

// dates says what is wrong with the dates of a certificate that is not Valid.
func (c *Clock) dates(cert *x509.Certificate) string {
	now := c.Now()
	if now.Before(cert.NotBefore) {
		return fmt.Sprintf("the certificate is not valid before %s, and it is %s: is this clock right?", stamp(cert.NotBefore), stamp(now))
	}
	return fmt.Sprintf("the certificate expired at %s, and it is %s", stamp(cert.NotAfter), stamp(now))
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
