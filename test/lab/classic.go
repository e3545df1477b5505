package lab

import (
	"context"
	"fmt"
	"time"
)

// classicScenarios are the old agent of the naive controls, unchanged, with our arbiter behind its three URLs. It has no
// guard, so no stop may hang here.
func classicScenarios() []Scenario {
	classic := Config{Stack: StackClassic, Insecure: true, Token: time.Second}
	return []Scenario{
		{
			Name: "classic-lock-arbiter-killed", Config: classic, Bound: 15 * time.Second,
			About: "an old agent at the classic listener; the heartbeat is cut and the arbiter killed five times: one holder",
			Run:   playClassicKilled,
		},
		{
			Name: "classic-lock-isolated", Config: classic, Bound: 30 * time.Second,
			About: "an old agent at the classic listener; the holder is isolated: the other node takes over after 8 s",
			Run:   playClassicIsolated,
		},
	}
}

func playClassicKilled(ctx context.Context, r *Run) error {
	if err := r.CutOff(ctx, heartbeatLink); err != nil {
		return err
	}
	for i := range 5 {
		if err := pause(ctx, 3*time.Second+time.Duration(r.Random.Int64N(int64(3*time.Second)))); err != nil {
			return err
		}
		if err := r.Fault(fmt.Sprintf("kill -9 the arbiter (%d)", i+1), func() error { return r.Kill(Arbiter, "arbiter") }); err != nil {
			return err
		}
	}
	if err := pause(ctx, 10*time.Second); err != nil {
		return err
	}
	r.expectNeverRan(r.Standby())
	return nil
}

func playClassicIsolated(ctx context.Context, r *Run) error {
	if err := r.CutOff(ctx, r.Holder); err != nil {
		return err
	}
	if took := r.Takeover(ctx, r.Standby(), 30*time.Second); took < 4*time.Second {
		r.Fail("%s took over after %.2f s: the lock cannot have run out", r.Standby(), took.Seconds())
	}
	return pause(ctx, 10*time.Second)
}
