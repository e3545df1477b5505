package ntpaudit

import (
	"fmt"
	"strings"
	"time"

	"github.com/leasedog/leasedog/lease"
)

// Level says how this machine's clock stands to ρ, the bound that a lease counts on.
type Level string

// Levels. What is not proven to be wrong is Within; Unknown is what was not measured, and speaks for nobody.
const (
	Unknown Level = "unknown"
	Within  Level = "within"
	Warning Level = "warning" // its rate is beyond ρ/2, or those who should know disagree
	Off     Level = "off"     // its rate is beyond ρ
)

// Source is one clock that was measured against.
type Source struct {
	Name        string
	Rate        Rate          // of this machine's clock against it, if RateKnown
	RateKnown   bool          // at least one window
	Enough      bool          // as many as a verdict needs
	Offset      time.Duration // of the wall clock: positive, it is ahead of the server
	OffsetDoubt time.Duration // Offset may be off by as much; 0: not known
	AnsweredAt  lease.Instant // of the newest usable answer; 0: none
	Problem     string        // with the newest answer, or why there is none; ""
	Steps       int           // how often its clock was found to have gone back
	Differs     bool          // from what the majority of the servers agrees on
}

// says reports whether all windows put the rate beyond a bound in a sign's direction.
func (s Source) says(bound, sign float64) bool { return s.Enough && s.Rate.beyond(bound, sign) }

// clears reports whether all windows put the rate within a bound.
func (s Source) clears(bound float64) bool { return s.Enough && s.Rate.inside(bound) }

// Verdict is what the sources say together.
type Verdict struct {
	Level    Level
	Disagree bool   // of those who should know
	Text     string // in words; "" if there is nothing to say
}

// most reports whether more than half of all servers that are configured do: one that is silent is on nobody's side, so a
// single liar never has a majority but where it is the only one.
func most(servers []Source, do func(Source) bool) bool {
	n := 0
	for _, s := range servers {
		if do(s) {
			n++
		}
	}
	return 2*n > len(servers)
}

// judge weighs the sources. rho is in ppm.
//
// The arbiter's word is enough: it is authenticated, and the two clocks are the ones that the arithmetic is about. NTP servers
// need a majority. One server alone that says "off" is overruled by an arbiter whose clock runs like ours: then the holds and
// deadlines that were promised fit each other, and one of two clocks that nobody can tell apart is wrong.
func judge(servers []Source, arbiter Source, rho float64) Verdict {
	v := vote(servers, rho)
	if v.Level == Off && len(servers) == 1 && arbiter.clears(rho) {
		v = Verdict{Warning, true, v.Text + ", and against the arbiter's it runs " + arbiter.Rate.String() +
			": one of the two is wrong; a single server does not keep this node from competing"}
	}
	a := Verdict{Level: Unknown}
	switch {
	case arbiter.says(rho, 1), arbiter.says(rho, -1):
		a = Verdict{Level: Off, Text: "this node's clock runs " + arbiter.Rate.String() + " against the arbiter's"}
		if most(servers, func(s Source) bool { return s.clears(rho) }) {
			a.Text += ", and the NTP servers find nothing wrong with it: look at the arbiter's clock"
			a.Disagree = true
		}
	case arbiter.says(rho/2, 1), arbiter.says(rho/2, -1):
		a = Verdict{Level: Warning, Text: "this node's clock runs " + arbiter.Rate.String() + " against the arbiter's"}
	case arbiter.Enough:
		a.Level = Within
	}
	if v.Level == Off && arbiter.clears(rho) {
		v.Text += "; the arbiter's clock runs as wrong as this one, or the servers are wrong"
		v.Disagree = true
	}
	return join(a, v)
}

// join is the worse of two verdicts, with what both say.
func join(a, b Verdict) Verdict {
	rank := map[Level]int{Unknown: 0, Within: 1, Warning: 2, Off: 3}
	if rank[b.Level] > rank[a.Level] {
		a.Level = b.Level
	}
	a.Disagree = a.Disagree || b.Disagree
	if a.Text != "" && b.Text != "" {
		a.Text += "; "
	}
	a.Text += b.Text
	return a
}

// vote is the verdict of the NTP servers alone.
func vote(servers []Source, rho float64) Verdict {
	var off []string // who says so
	for _, s := range servers {
		if s.says(rho, 1) || s.says(rho, -1) {
			off = append(off, fmt.Sprintf("%s (%v)", s.Name, s.Rate))
		}
	}
	said := "by NTP server " + strings.Join(off, ", ") + " this node's clock is off"
	for _, sign := range []float64{1, -1} {
		if most(servers, func(s Source) bool { return s.says(rho, sign) }) {
			return Verdict{Level: Off, Text: said}
		}
	}
	trusted := most(servers, func(s Source) bool { return s.clears(rho) })
	switch {
	case len(off) > 0 && trusted:
		return Verdict{Within, true, said + "; most of the servers say that it is not: it is that server's clock"}
	case len(off) > 0:
		return Verdict{Warning, true, said + "; that is not a majority of the servers"}
	}
	for _, sign := range []float64{1, -1} {
		if most(servers, func(s Source) bool { return s.says(rho/2, sign) }) {
			r, _ := agreed(servers)
			return Verdict{Level: Warning, Text: "this node's clock runs " + r.String() + " against NTP"}
		}
	}
	if len(servers) > 0 && most(servers, func(s Source) bool { return s.Enough }) {
		return Verdict{Level: Within}
	}
	return Verdict{Level: Unknown}
}

// WallOff is how far the wall clock is ahead, at least, by a majority of the servers, if that is more than a limit.
func (v View) WallOff(limit time.Duration) (time.Duration, bool) {
	for _, sign := range []time.Duration{1, -1} {
		least := time.Duration(0)
		off := func(s Source) bool {
			by := sign*s.Offset - s.OffsetDoubt
			if s.OffsetDoubt == 0 || by <= limit {
				return false
			}
			if least == 0 || by < least {
				least = by
			}
			return true
		}
		if most(v.Servers, off) {
			return sign * least, true
		}
	}
	return 0, false
}

// agreed is the rate that as many servers as possible can be right about at once, and how many these are (Marzullo): the
// clocks of servers that tell the truth are one clock.
func agreed(servers []Source) (best Rate, n int) {
	for _, s := range servers {
		if !s.RateKnown {
			continue
		}
		at, here, with := s.Rate.Low, s.Rate, 0
		for _, o := range servers {
			if o.RateKnown && o.Rate.Low <= at && at <= o.Rate.High {
				here = Rate{max(here.Low, o.Rate.Low), min(here.High, o.Rate.High)}
				with++
			}
		}
		if with > n {
			best, n = here, with
		}
	}
	return best, n
}
