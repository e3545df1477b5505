package ntpaudit

import (
	"errors"
	"fmt"
	"time"

	"github.com/leasedog/leasedog/lease"
)

// Sample is one exchange with another clock. It showed In and Out at two moments in this order between Sent and Received of
// ours. What its zero is does not matter.
type Sample struct {
	Sent, Received lease.Instant
	In, Out        time.Duration
	Bound          time.Duration // how far it may itself be off, by its own word
}

const (
	// maxBound is what RFC 5905 calls the largest distance of a server that is synchronised (MAXDIST is far below).
	maxBound = 16 * time.Second
	// maxExchange bounds an exchange, so that no sum of ours can overflow: a long poll of the arbiter takes seconds.
	maxExchange = time.Hour
)

// check says what no exchange between two clocks can be.
func (s Sample) check() error {
	took, kept := s.Received.Sub(s.Sent), s.Out-s.In
	switch {
	case s.Sent <= 0 || took < 0 || took > maxExchange:
		return fmt.Errorf("the exchange took %v", took)
	case s.In < 0 || kept < 0:
		return errors.New("its clock went backwards while it answered")
	case kept > 2*took+time.Millisecond:
		return fmt.Errorf("it says that it took %v to answer, and all took %v", kept, took)
	case s.Bound < 0 || s.Bound > maxBound:
		return fmt.Errorf("its clock may be off by %v", s.Bound)
	}
	return nil
}

// doubt is how little a sample says: the time for which nobody knows where the message was, and the other clock's own doubt.
func (s Sample) doubt() time.Duration {
	return max(0, s.Received.Sub(s.Sent)-(s.Out-s.In)) + 2*s.Bound
}

// Rate bounds how fast this machine's clock runs against another one, in parts per million: with 1000 it gains 1 ms in a
// second, with -1000 it loses as much.
type Rate struct{ Low, High float64 }

// unbounded stands for a bound that is not known. It is finite, for JSON.
const unbounded = 1e12

const million = 1e6

// between bounds the rate from one exchange to a later one; false: the other clock has certainly not gone forward. Between
// its readings a.Out and b.In at least b.Sent - a.Received passed here, and between a.In and b.Out at most
// b.Received - a.Sent: that is all, and it needs no assumption about the way of a message.
func between(a, b Sample) (Rate, bool) {
	doubt := a.Bound + b.Bound
	most, least := b.In-a.Out+doubt, b.Out-a.In-doubt
	if most <= 0 {
		return Rate{}, false
	}
	r := Rate{Low: ppm(b.Sent.Sub(a.Received), most), High: unbounded}
	if least > 0 {
		r.High = ppm(b.Received.Sub(a.Sent), least)
	}
	// A clock that was set while it answered contradicts itself: then nothing in between is excluded.
	return Rate{min(r.Low, r.High), max(r.Low, r.High)}, true
}

func ppm(here, there time.Duration) float64 {
	return min(unbounded, (float64(here)/float64(there)-1)*million)
}

// beyond reports whether all of r is further from 0 than a bound, in the direction of a sign.
func (r Rate) beyond(bound, sign float64) bool {
	if sign < 0 {
		return r.High < -bound
	}
	return r.Low > bound
}

// inside reports whether all of r is at most a bound away from 0.
func (r Rate) inside(bound float64) bool { return r.Low >= -bound && r.High <= bound }

// hull is the smallest interval with both in it.
func (r Rate) hull(o Rate) Rate { return Rate{min(r.Low, o.Low), max(r.High, o.High)} }

func (r Rate) meets(o Rate) bool { return r.Low <= o.High && o.Low <= r.High }

// String says it in words that need no sign.
func (r Rate) String() string {
	switch {
	case r.Low > million:
		return "more than twice as fast"
	case r.High >= unbounded:
		return fmt.Sprintf("at least %+.0f ppm", r.Low)
	case r.High-r.Low < 1:
		return fmt.Sprintf("%+.0f ppm", r.Low)
	}
	return fmt.Sprintf("%+.0f to %+.0f ppm", r.Low, r.High)
}

const (
	// keepWindows is how many windows in a row a verdict needs. A clock that is stepped makes one wrong, or two if it is
	// stepped twice, or on their border.
	keepWindows = 3
	// finest is the width below which a window is not made longer, in ppm: nobody's drift_ppm needs more.
	finest = 10
)

// series measures against one clock in windows that follow each other. Each is as long as it must be to say something.
type series struct {
	begin   Sample // of the open window
	open    bool
	since   lease.Instant // exchanges that began earlier say nothing: this machine stood still
	windows []Rate        // the newest last
	steps   int           // how often the other clock was found to have gone back
}

// add takes one exchange. A window ends with it if it is as long as least and proves something about rho (in ppm), or is
// narrow enough for a verdict.
func (s *series) add(x Sample, least time.Duration, rho float64) {
	if x.Sent < s.since {
		return
	}
	if !s.open {
		s.begin, s.open = x, true
		return
	}
	elapsed := x.Sent.Sub(s.begin.Received)
	if elapsed <= 0 { // exchanges that overlap: of two leases, or a poll and a renewal
		return
	}
	r, ok := between(s.begin, x)
	if !ok {
		s.begin = x
		s.steps++
		return
	}
	wide := max(rho/2, finest)
	if elapsed >= least && (r.beyond(rho, 1) || r.beyond(rho, -1) || r.High-r.Low <= wide) {
		s.windows = append(s.windows, r)
		s.windows = s.windows[max(0, len(s.windows)-keepWindows):]
		s.begin = x
		return
	}
	// A window that began with a bad exchange is given up where one that begins here will be narrow sooner.
	if float64(s.begin.doubt()-x.doubt()) > float64(elapsed)*wide/million {
		s.begin = x
	}
}

// cut gives the open window up, and every exchange that begins before an Instant.
func (s *series) cut(until lease.Instant) {
	s.since = lease.Later(s.since, until)
	s.open = false
}

// rate is what all of the newest windows say together, and whether there are enough of them for a verdict.
func (s *series) rate() (r Rate, known, enough bool) {
	for i, w := range s.windows {
		if i == 0 {
			r = w
		}
		r = r.hull(w)
	}
	return r, len(s.windows) > 0, len(s.windows) == keepWindows
}
