package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// fencedRows are rows that are played with fencing too.
func fencedRows() []string {
	return []string{"heartbeat-cut", "holder-isolated", "holder-crash", "switchover", "stop-hangs", "arbiter-down-60s", "two-leases",
		"habit-controld-crash"}
}

// fenceScenarios are the rows of fence_leasedog.
func fenceScenarios() []Scenario {
	var rows []Scenario
	for _, s := range slices.Concat(leaseScenarios(), faultScenarios(), habitScenarios()) {
		if slices.Contains(fencedRows(), s.Name) {
			rows = append(rows, fenced(s))
		}
	}
	alone, beside, besides := lanConfig(), lanConfig(), lanConfig()
	alone.Fence, beside.Fence, besides.Fence = FenceAlone, FenceBeside, FenceBesides
	return append(rows,
		Scenario{Name: "fence-race", Config: beside, Bound: noTransition, Run: playFenceRace,
			About: "the heartbeat is cut, with a second device in the same level: it shoots once, at the node that does not hold"},
		Scenario{Name: "fence-standby-then-holder-dies", Config: alone, Bound: takeoverBound(alone) + 10*time.Second, Run: playFencedThenAlone,
			About: "the standby is fenced, comes back alone, and the holder dies: it takes over"},
		Scenario{Name: "fence-unguarded", Config: besides, Bound: 2 * time.Minute, Run: playFenceUnguarded,
			About: "something in the cluster has no lease: a standby counts as fenced only after its new boot"})
}

// fenced is a row with fencing on, and fence_leasedog the only device.
func fenced(s Scenario) Scenario {
	s.Name, s.InTest = "fence-"+s.Name, false
	s.Alone = true // an isolated holder's coordinator fences: its proof is that of isolate-holder-with-stonith-no-reset
	s.About += "; with fence_leasedog"
	s.Config.Fence = FenceAlone
	if s.Bound > noTransition {
		s.Bound += 1500*time.Millisecond + unanswered()[strings.TrimPrefix(s.Name, "fence-")]
	}
	return s
}

// unfit are rows whose expectation is another with fencing.
func unfit() map[string]string {
	return map[string]string{"lose-while-unguarded-start-60s": "it starts what no lease guards, so that only a new boot of a node that is " +
		"cut off from the arbiter ends its fencing; see fence-unguarded"}
}

// unanswered are rows that stop the agent of the node that is to fence. Pacemaker asks the target's own fencer next, which is gone,
// and gives up after its stonith-timeout of 60 s and a fifth.
func unanswered() map[string]time.Duration {
	return map[string]time.Duration{"found-active-stop-hangs": 72 * time.Second}
}

// WithFencing is every row with fencing on.
func WithFencing(rows []Scenario) ([]Scenario, error) {
	var out []Scenario
	for _, s := range rows {
		if s.Config.Stack != StackLeasedog || s.Config.Fence != NoFencing {
			return nil, fmt.Errorf("%s cannot be played with fence_leasedog: it is another stack, or has fencing already", s.Name)
		}
		if why := unfit()[s.Name]; why != "" {
			return nil, fmt.Errorf("%s cannot be played with fence_leasedog: %s", s.Name, why)
		}
		out = append(out, fenced(s))
	}
	return out, nil
}

// fenceDevice is a fencing resource of one type.
func fenceDevice(id, agent, params string) string {
	return fmt.Sprintf(`<primitive id="%[1]s" class="stonith" type="%[2]s"><instance_attributes id="%[1]s-params">`+
		`<nvpair id="%[1]s-hosts" name="pcmk_host_list" value="node1 node2"/><nvpair id="%[1]s-once" name="pcmk_reboot_retries" value="1"/>%[3]s</instance_attributes>`+
		`<meta_attributes id="%[1]s-meta"><nvpair id="%[1]s-tries" name="migration-threshold" value="3"/>`+
		`<nvpair id="%[1]s-forget" name="failure-timeout" value="60s"/></meta_attributes>`+
		`<operations><op id="%[1]s-monitor" name="monitor" interval="60s" timeout="20s"/></operations></primitive>`, id, agent, params)
}

// enableFencing configures the devices as fence_leasedog(8) says.
func (c *Cluster) enableFencing(ctx context.Context, cfg Config) error {
	if cfg.Fence == NoFencing {
		return nil
	}
	// A node that is back before the fencing of its earlier boot has ended is told that it was fenced, and its Pacemaker stops.
	for _, node := range Nodes() {
		if err := c.StartsSlowly(node, 12*time.Second); err != nil {
			return err
		}
	}
	// In a level with others Pacemaker turns a reboot into off and on, and only the other device can switch on.
	params := ""
	if cfg.Fence == FenceBeside {
		params = `<nvpair id="fence-off" name="pcmk_off_action" value="reboot"/>`
	}
	if _, err := c.addResource(ctx, "fence", fenceDevice("fence", "fence_leasedog", params)); err != nil {
		return err
	}
	switch cfg.Fence {
	case FenceBeside:
		if _, err := c.addResource(ctx, "record", fenceDevice("record", "fence_lab_record", "")); err != nil {
			return err
		}
		levels := "<fencing-topology>"
		for _, node := range Nodes() {
			levels += fmt.Sprintf(`<fencing-level id="level-%[1]s" target="%[1]s" index="1" devices="fence,record"/>`, node)
		}
		if _, err := c.Exec(ctx, Node1, "cibadmin", "--modify", "--allow-create", "-o", "fencing-topology", "--xml-text",
			levels+"</fencing-topology>"); err != nil {
			return err
		}
	case FenceBesides:
		if _, err := c.addResource(ctx, "beside", `<primitive id="beside" class="ocf" provider="pacemaker" type="Dummy"/>`); err != nil {
			return err
		}
	}
	return c.setOptions(ctx, map[string]string{"stonith-enabled": "true", "batch-limit": "-1"})
}

// wasFenced reports whether a node says that a bar made it reset itself.
func (r *Run) wasFenced(node string) bool {
	cause, err := r.Cause(node)
	if err == nil && !strings.Contains(cause, "fencing") {
		cause, err = r.agentCause(node)
	}
	r.Event("%s ended; it says: %s", node, cause)
	return err == nil && strings.Contains(cause, "fencing")
}

// agentCause is what the agent wrote ahead.
func (r *Run) agentCause(node string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return r.Exec(ctx, node, "cat", "/var/lib/leasedog/cause-agent.json")
}

// expectFenced waits until a node was reset, once, because of its bar.
func (r *Run) expectFenced(ctx context.Context, node string, limit time.Duration) error {
	err := waitFor(ctx, node+" to reset itself", limit, func() error {
		if len(r.Ends(node)) == 0 {
			return errors.New("it lives")
		}
		return nil
	})
	if err != nil {
		r.Fail("%v", err)
		return nil
	}
	if err := r.awaitBoot(ctx, node); err != nil {
		return err
	}
	return waitFor(ctx, node+" to say why", 30*time.Second, func() error {
		if !r.wasFenced(node) {
			return errors.New("it does not speak of a fencing")
		}
		return nil
	})
}

// shots are what the recording device was told.
func (c *Cluster) shots() ([]string, error) {
	text, err := os.ReadFile(filepath.Join(c.Shared(), "shots"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n"), err
}

func playFenceRace(ctx context.Context, r *Run) error {
	if err := os.Remove(filepath.Join(r.Shared(), "shots")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := r.Phase(ctx); err != nil {
		return err
	}
	if err := r.CutOff(ctx, heartbeatLink); err != nil {
		return err
	}
	if err := r.expectFenced(ctx, r.Standby(), 20*time.Second); err != nil {
		return err
	}
	// Its new boot is alone, and tries to fence the holder in its turn.
	if err := pause(ctx, 25*time.Second); err != nil {
		return err
	}
	shots, err := r.shots()
	if err != nil {
		return err
	}
	r.Event("shots: %q", shots)
	if len(shots) != 1 || !strings.HasSuffix(shots[0], " "+r.Standby()) {
		r.Fail("the second device was told %q, expected one shot at %s", shots, r.Standby())
	}
	r.expectStays()
	r.expectNoReset()
	return nil
}

// playFencedThenAlone: the bar of a node that ran nothing ends with its new boot, and that one's own fencing, which fails for
// as long as the holder renews, does not keep it from taking over (attack2 13).
func playFencedThenAlone(ctx context.Context, r *Run) error {
	if err := r.CutOff(ctx, heartbeatLink); err != nil {
		return err
	}
	if err := r.expectFenced(ctx, r.Standby(), 20*time.Second); err != nil {
		return err
	}
	if err := waitFor(ctx, r.Standby()+" to wait for the lease", time.Minute, func() error {
		l, _, err := r.Status(ctx, r.Standby())
		if err == nil && l.State != "acquiring" {
			err = errors.New("it is " + l.State + ": " + strings.Join(l.WhyNot, "; "))
		}
		return err
	}); err != nil {
		return err
	}
	if err := pause(ctx, 5*time.Second); err != nil {
		return err
	}
	if err := r.StayDown(r.Holder, true); err != nil {
		return err
	}
	r.mu.Lock()
	r.At = Now() // what follows counts from here
	r.mu.Unlock()
	if err := r.step(r.Holder+" loses power", func() error { return r.Crash(ctx, r.Holder) }); err != nil {
		return err
	}
	r.expectTakeoverWithin(ctx, takeoverBound(r.Config)+10*time.Second)
	return nil
}

// playFenceUnguarded: a standby that hangs, from the arbiter's and the peer's view, holds nothing and may run what has no
// lease. It is no success before it has booted anew.
func playFenceUnguarded(ctx context.Context, r *Run) error {
	if err := r.Phase(ctx); err != nil {
		return err
	}
	if err := r.CutOff(ctx, r.Standby()); err != nil {
		return err
	}
	if err := pause(ctx, 12*time.Second); err != nil {
		return err
	}
	if out, err := r.Exec(ctx, r.Holder, "fence_leasedog", "-n", r.Standby(), "--power-timeout", "2"); err == nil {
		r.Fail("%s counts as fenced while nobody knows what it runs: %s", r.Standby(), out)
	}
	out, err := r.Exec(ctx, r.Holder, "fence_leasedog", "-o", "status", "-n", r.Standby())
	r.Event("status: %s (%v)", strings.TrimSpace(out), err)
	if err := r.step("heal", func() error { return r.Heal(ctx) }); err != nil {
		return err
	}
	if err := r.expectFenced(ctx, r.Standby(), 40*time.Second); err != nil {
		return err
	}
	r.expectStays()
	return r.startIfFenced(ctx, r.Standby())
}

// startIfFenced does what an administrator does after a fencing that ended when its target was back: Pacemaker there was told
// that it was fenced, and stays down.
func (r *Run) startIfFenced(ctx context.Context, node string) error {
	return waitFor(ctx, node+" to run Pacemaker, once it is started", joinLimit, func() error {
		if err := r.systemctl(ctx, node, "is-active", "--quiet", pacemakerUnit); err == nil {
			return r.together(ctx)
		}
		r.Event("systemctl start pacemaker on %s", node)
		return errors.Join(r.systemctl(ctx, node, "start", pacemakerUnit), errors.New("it was started just now"))
	})
}
