package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/leasedog/leasedog/agent/control"
	"github.com/leasedog/leasedog/agent/hooks"
	"github.com/leasedog/leasedog/boottime"
	"github.com/leasedog/leasedog/lease"
	"github.com/leasedog/leasedog/ntpaudit"
)

// wallLimit is how far the wall clock may be off before it is an alarm. No lease depends on it; certificates and logs do.
const wallLimit = time.Minute

// newAudit measures CLOCK_BOOTTIME. What it finds may keep this node from competing, and never shortens what it holds: an
// answer of NTP proves nothing about who gave it.
func (a *Agent) newAudit() *ntpaudit.Audit {
	query := a.opt.NTP
	if query == nil {
		query = func(ctx context.Context, server string) (ntpaudit.Sample, error) {
			return ntpaudit.Query(ctx, server, a.opt.Now)
		}
	}
	c := a.opt.Config.Clock
	return ntpaudit.New(ntpaudit.Options{Servers: c.NTP, Every: c.Every, Drift: func() int { return a.budget().DriftPPM }, Now: a.opt.Now,
		Wall: time.Now, Query: query})
}

// noteClock passes on what the arbiter's clock showed between two instants of ours.
func (a *Agent) noteClock(sent, received lease.Instant, r lease.ClockReading) {
	a.clock.Arbiter(r.ID, ntpaudit.Sample{Sent: sent, Received: received, In: r.In, Out: r.Out})
}

// clockGate is why this node may not compete on account of its clock. Deadlines and holds fit each other only while every
// clock's rate is within drift_ppm.
func (a *Agent) clockGate() []string {
	v := a.clock.View()
	if v.Level != ntpaudit.Off {
		return nil
	}
	return []string{fmt.Sprintf("the clock is off by more than drift_ppm (%d): %s", v.Drift, v.Text)}
}

// clockSaid is what was last told of the clock.
type clockSaid struct {
	level    ntpaudit.Level
	disagree bool
}

// tellClock is the survey's: one line of the log for each change of the verdict, and an alert for the one that counts.
func (a *Agent) tellClock() {
	v := a.clock.View()
	now := clockSaid{v.Level, v.Disagree}
	if was := a.clockTold; now == was || v.Level == ntpaudit.Unknown && was.level == "" {
		return
	}
	a.clockTold = now
	log := a.log.WithField("drift_ppm", v.Drift)
	switch {
	case v.Level == ntpaudit.Off:
		log.Errorf("the clock is off by more than drift_ppm: %s; this node keeps what it holds and does not compete", v.Text)
		a.raise(hooks.ClockOff, "", 0, v.Text)
	case v.Level == ntpaudit.Warning || v.Disagree:
		log.Warnf("the clock: %s", v.Text)
	default:
		log.Infof("the clock's rate is %s drift_ppm", v.Level)
	}
}

// describeClock is how the clock stands, for status, and what of it needs an administrator.
func (a *Agent) describeClock(now lease.Instant) (*control.Clock, []control.Alarm) {
	v := a.clock.View()
	c := &control.Clock{Verdict: string(v.Level), Disagree: v.Disagree, Text: v.Text, DriftPPM: v.Drift, Arbiter: clockSource(v.Arbiter, now),
		Servers: []control.ClockSource{}, Agree: v.Agree, Pauses: v.Pauses, PausedS: v.Paused.Seconds()}
	if v.Agree > 0 {
		c.NTP = clockRate(v.NTP)
	}
	for _, s := range v.Servers {
		c.Servers = append(c.Servers, clockSource(s, now))
	}
	// The two clocks are not read at once.
	if slept := boottime.Suspended() - a.slept; slept > time.Second/10 {
		c.SuspendedS = slept.Seconds()
	}
	if v.LastPause != 0 {
		c.LastPauseAgoS = control.Known(now.Sub(v.LastPause).Seconds())
	}
	var alarms []control.Alarm
	switch v.Level {
	case ntpaudit.Off:
		alarms = append(alarms, control.Alarm{Text: fmt.Sprintf("the clock is off by more than drift_ppm (%d): %s; this node does not compete, "+
			"and what it holds is not safe", v.Drift, v.Text), Hint: "mend the clock; leasedog switchover moves what this node holds"})
	case ntpaudit.Warning:
		alarms = append(alarms, control.Alarm{Text: fmt.Sprintf("the clock, whose rate may be off by %d ppm: %s", v.Drift, v.Text)})
	}
	if off, ok := v.WallOff(wallLimit); ok {
		alarms = append(alarms, control.Alarm{Text: fmt.Sprintf("by NTP the wall clock is off by %v: no lease depends on it, but dates of "+
			"certificates and logs do", off.Round(time.Second))})
	}
	return c, alarms
}

func clockRate(r ntpaudit.Rate) *control.ClockRate {
	return &control.ClockRate{LowPPM: r.Low, HighPPM: r.High}
}

func clockSource(s ntpaudit.Source, now lease.Instant) control.ClockSource {
	out := control.ClockSource{Name: s.Name, Enough: s.Enough, Problem: s.Problem, Steps: s.Steps, Differs: s.Differs}
	if s.RateKnown {
		out.Rate = clockRate(s.Rate)
	}
	if s.OffsetDoubt > 0 {
		out.OffsetS, out.OffsetDoubtS = control.Known(s.Offset.Seconds()), control.Known(s.OffsetDoubt.Seconds())
	}
	if s.AnsweredAt != 0 {
		out.AnsweredAgoS = control.Known(now.Sub(s.AnsweredAt).Seconds())
	}
	return out
}
