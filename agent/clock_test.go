package agent

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/leasedog/leasedog/agent/hooks"
	"github.com/leasedog/leasedog/guard/guardapi"
	"github.com/leasedog/leasedog/lease"
	"github.com/leasedog/leasedog/ntpaudit"
)

// against gives the audit what the arbiter's clock shows for some minutes if this node's runs at a rate against it.
func against(a *Agent, ppm float64) {
	for at := time.Duration(0); at < 5*time.Minute; at += 5 * time.Second {
		sent := lease.Instant(time.Hour + at + time.Duration(float64(at)*ppm/1e6))
		a.noteClock(sent, sent.Add(time.Millisecond), lease.ClockReading{ID: "c", In: at, Out: at})
	}
}

func clockReason(why []string) bool {
	return slices.ContainsFunc(why, func(s string) bool { return strings.Contains(s, "off by more than drift_ppm (1000)") })
}

// awake is a systemd that answers.
type awake struct{ *fakeUnits }

func (awake) Ping(context.Context) error { return nil }

// A node whose clock is off does not compete. What it holds is asked nothing.
func TestClockGate(t *testing.T) {
	for _, tc := range []struct {
		ppm  float64
		gate bool
	}{{0, false}, {800, false}, {1500, true}, {-1500, true}} {
		k := testKeeper(t, idleCluster(), procDir(t, controlled))
		against(k.a, tc.ppm)
		if got := clockReason(k.a.clockGate()); got != tc.gate {
			t.Errorf("%v ppm: %q", tc.ppm, k.a.clockGate())
		}
		k.a.opt.Units = awake{&fakeUnits{active: "inactive"}}
		fit := Preflight{Chances: 1}
		k.a.preflight, k.a.opt.Preflight = fit, func(context.Context) (Preflight, error) { return fit, nil }
		if c := k.a.look(t.Context(), []lease.Phase{lease.Held, lease.Standby}); clockReason(c.nodeWhy) != tc.gate {
			t.Errorf("%v ppm: a node that stands by: %q", tc.ppm, c.nodeWhy)
		}
		if c := k.a.look(t.Context(), []lease.Phase{lease.Held, lease.Leaving, lease.Paused}); len(c.nodeWhy) > 0 {
			t.Errorf("%v ppm: a node that holds is asked: %q", tc.ppm, c.nodeWhy)
		}
	}
}

func TestTellClock(t *testing.T) {
	k := testKeeper(t, idleCluster(), procDir(t))
	h := &heard{}
	k.a.alerts = h
	k.a.tellClock()
	h.expect(t, "nothing measured")
	for _, tc := range []struct {
		ppm  float64
		want []string
	}{{0, nil}, {700, nil}, {2000, []string{hooks.ClockOff}}, {0, nil}, {-2000, []string{hooks.ClockOff}}} {
		k.a.clock = k.a.newAudit()
		against(k.a, tc.ppm)
		k.a.tellClock()
		k.a.tellClock()
		h.expect(t, time.Duration(tc.ppm).String(), tc.want...)
	}
}

func TestDescribeClock(t *testing.T) {
	k := testKeeper(t, idleCluster(), procDir(t))
	now := k.a.opt.Now()
	if c, alarms := k.a.describeClock(now); c.Verdict != "unknown" || len(alarms) != 0 || c.Arbiter.Rate != nil || c.Servers == nil {
		t.Errorf("nothing measured: %+v, %v", c, alarms)
	}
	for ppm, want := range map[float64]string{0: "within", 700: "warning", 2000: "off"} {
		k.a.clock = k.a.newAudit()
		against(k.a, ppm)
		c, alarms := k.a.describeClock(now)
		if c.Verdict != want || (want == "within") != (len(alarms) == 0) || c.DriftPPM != 1000 || c.Arbiter.AnsweredAgoS == nil ||
			c.Arbiter.Rate == nil || c.Arbiter.Rate.LowPPM > ppm+1 || c.Arbiter.Rate.HighPPM < ppm-1 {
			t.Errorf("%v ppm: %+v %+v, %v", ppm, c, c.Arbiter.Rate, alarms)
		}
	}
}

// The guard's pauses reach the audit, each once.
func TestClockHearsOfPauses(t *testing.T) {
	k := testKeeper(t, idleCluster(), procDir(t))
	j := guardapi.Jump{S1: 5, S2: 9, Size: 3 * time.Second}
	k.a.noteJumps([]guardapi.Jump{j})
	k.a.noteJumps([]guardapi.Jump{j, {S1: 20, S2: 21, Size: 2 * time.Second}})
	if v := k.a.clock.View(); v.Pauses != 2 || v.Paused != 5*time.Second || v.LastPause != 21 {
		t.Errorf("%+v", v)
	}
	if c, _ := k.a.describeClock(lease.Instant(time.Second)); c.Pauses != 2 || c.PausedS != 5 || c.LastPauseAgoS == nil {
		t.Errorf("%+v", c)
	}
}

// Servers that disagree, and one that is silent, are shown.
func TestDescribeClockServers(t *testing.T) {
	s := clockSource(ntpaudit.Source{Name: "ntp1", Problem: "no answer in time", Steps: 2, Differs: true, AnsweredAt: 5,
		Rate: ntpaudit.Rate{Low: 3, High: 4}, RateKnown: true, Enough: true, Offset: time.Second, OffsetDoubt: time.Millisecond}, lease.Instant(time.Second)+5)
	if s.Name != "ntp1" || s.Problem == "" || s.Steps != 2 || !s.Differs || *s.AnsweredAgoS != 1 || s.Rate.LowPPM != 3 || *s.OffsetS != 1 ||
		*s.OffsetDoubtS != 0.001 || !s.Enough {
		t.Errorf("%+v", s)
	}
}
