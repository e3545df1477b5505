package ntpaudit

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/leasedog/leasedog/lease"
)

// Options of New. Everything is required, but Servers.
type Options struct {
	Servers []string      // HOST or HOST:PORT; none: only the arbiter's clock is measured against
	Every   time.Duration // how often each server is asked
	Drift   func() int    // ρ in ppm, as it is in force
	Now     func() lease.Instant
	Wall    func() time.Time
	Query   func(ctx context.Context, server string) (Sample, error)
}

const (
	// arbiterWindow is the least length of a window against the arbiter, whose answers come with every renewal.
	arbiterWindow = 20 * time.Second
	// leftAlone is how many times longer a server waits for the next question that answered with a kiss of death.
	leftAlone = 16
)

// Pause is a while for which this machine stood still, as the guard's detector found it.
type Pause struct {
	Until lease.Instant // found by then
	Size  time.Duration
}

// View is how things stand.
type View struct {
	Verdict
	Drift     int  // ρ in ppm
	NTP       Rate // what as many servers as possible agree on, if Agree > 0
	Agree     int  // how many that are
	Servers   []Source
	Arbiter   Source // Name is ""
	Pauses    int    // found since this agent started
	Paused    time.Duration
	LastPause lease.Instant // 0: none
}

// Audit measures. Any number of goroutines may use it.
type Audit struct {
	opt Options

	mu      sync.Mutex
	servers []source
	arbiter source
	clock   string // which clock the arbiter's is
	pauses  int
	paused  time.Duration
	last    lease.Instant // a pause was found
}

// source is a clock elsewhere and what was measured of it.
type source struct {
	series
	Source
}

// New returns an Audit that asks nobody until Work runs.
func New(opt Options) *Audit {
	a := &Audit{opt: opt}
	for _, name := range opt.Servers {
		s := source{}
		s.Name, s.Problem = name, "not asked yet"
		a.servers = append(a.servers, s)
	}
	return a
}

// Work asks every server until ctx ends, each in a goroutine of its own: a name server that hangs is one server's.
func (a *Audit) Work(ctx context.Context) {
	var all sync.WaitGroup
	for i := range a.servers {
		all.Go(func() {
			for ctx.Err() == nil {
				wait := a.ask(ctx, i)
				t := time.NewTimer(wait)
				select {
				case <-ctx.Done():
				case <-t.C:
				}
				t.Stop()
			}
		})
	}
	all.Wait()
}

// ask asks one server and returns how long to leave it alone.
func (a *Audit) ask(ctx context.Context, i int) time.Duration {
	x, err := a.opt.Query(ctx, a.opt.Servers[i])
	if err == nil {
		err = x.check()
	}
	now, wall := a.opt.Now(), a.opt.Wall()
	a.mu.Lock()
	defer a.mu.Unlock()
	s := &a.servers[i]
	switch {
	case ctx.Err() != nil:
	case errors.Is(err, errKiss):
		s.Problem = err.Error()
		return leftAlone * a.opt.Every
	case err != nil:
		s.Problem = err.Error() // what was measured before stands: silence heals no clock
	default:
		s.Problem, s.AnsweredAt = "", x.Received
		s.Offset, s.OffsetDoubt = offset(x, now, wall)
		s.add(x, a.opt.Every/2, a.rho())
	}
	return a.opt.Every
}

// offset is how far the wall clock is ahead of a server. The middle of both intervals is the best guess; the doubt is half of
// what nobody knows.
func offset(x Sample, now lease.Instant, wall time.Time) (off, doubt time.Duration) {
	middle := x.In/2 + x.Out/2
	here := x.Sent.Add(x.Received.Sub(x.Sent) / 2)
	return sinceEpoch(wall) - now.Sub(here) - middle, max(1, x.doubt()/2)
}

// Arbiter takes one exchange with the arbiter's clock. id names that clock: another one (another arbiter, or one that was
// started anew) begins a new window.
func (a *Audit) Arbiter(id string, x Sample) {
	if id == "" {
		return
	}
	err := x.check()
	a.mu.Lock()
	defer a.mu.Unlock()
	if id != a.clock {
		a.clock = id
		a.arbiter.cut(x.Sent)
	}
	if err != nil {
		a.arbiter.Problem = err.Error()
		return
	}
	a.arbiter.Problem, a.arbiter.AnsweredAt = "", x.Received
	a.arbiter.add(x, arbiterWindow, a.rho())
}

// Paused takes a pause of this machine that was found. What was measured across it says nothing about the clock's rate.
func (a *Audit) Paused(p Pause) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.pauses++
	a.paused += p.Size
	a.last = lease.Later(a.last, p.Until)
	a.arbiter.cut(p.Until)
	for i := range a.servers {
		a.servers[i].cut(p.Until)
	}
}

func (a *Audit) rho() float64 { return float64(a.opt.Drift()) }

// View says how things stand.
func (a *Audit) View() View {
	a.mu.Lock()
	defer a.mu.Unlock()
	v := View{Drift: a.opt.Drift(), Arbiter: a.arbiter.view(), Pauses: a.pauses, Paused: a.paused, LastPause: a.last}
	for i := range a.servers {
		v.Servers = append(v.Servers, a.servers[i].view())
	}
	v.NTP, v.Agree = agreed(v.Servers)
	if 2*v.Agree > len(v.Servers) {
		for i := range v.Servers {
			s := &v.Servers[i]
			s.Differs = s.RateKnown && !s.Rate.meets(v.NTP)
		}
	}
	v.Verdict = judge(v.Servers, v.Arbiter, float64(v.Drift))
	return v
}

func (s *source) view() Source {
	out := s.Source
	out.Rate, out.RateKnown, out.Enough = s.rate()
	out.Steps = s.steps
	return out
}
