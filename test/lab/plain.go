package lab

import (
	"context"
	"time"
)

// plainScenarios are the controls without leasedog. They must overlap.
func plainScenarios() []Scenario {
	plain := Config{Stack: StackPlain, Token: time.Second}
	naive := Config{Stack: StackNaive, Token: time.Second}
	return []Scenario{
		{
			Name: "plain-pair", Control: true, InTest: true, Config: plain,
			About: "Pacemaker alone, without fencing; the heartbeat is cut: both nodes run the group",
			Run: func(ctx context.Context, r *Run) error {
				if err := r.CutOff(ctx, heartbeatLink); err != nil {
					return err
				}
				r.Takeover(ctx, r.Standby(), 20*time.Second)
				return pause(ctx, 8*time.Second)
			},
		},
		{
			Name: "naive-lock-hanging-stop", Control: true, Config: naive,
			About: "a lock service and an order-first agent; the holder is isolated and its stop hangs",
			Run: func(ctx context.Context, r *Run) error {
				if err := r.Steer(r.Holder, StopHang, ""); err != nil {
					return err
				}
				if err := r.CutOff(ctx, r.Holder); err != nil {
					return err
				}
				r.Takeover(ctx, r.Standby(), 40*time.Second)
				return pause(ctx, 15*time.Second)
			},
		},
		{
			Name: "naive-lock-pacemaker-frozen", Control: true, Config: naive,
			About: "the same lock; the holder is isolated and its Pacemaker is frozen for 30 s",
			Run: func(ctx context.Context, r *Run) error {
				if err := r.CutOff(ctx, r.Holder); err != nil {
					return err
				}
				if err := r.Freeze(r.Holder, "pacemaker"); err != nil {
					return err
				}
				r.Takeover(ctx, r.Standby(), 40*time.Second)
				return pause(ctx, 15*time.Second)
			},
		},
	}
}
