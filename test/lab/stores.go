package lab

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// The arbiter's store, and the second arbiter of arbiter-moved-old-still-up.
const (
	storeFile    = "/var/lib/leasedog-arbiter/arbiter.db"
	storeCopy    = "/var/lib/leasedog-arbiter/lab-copy.db"
	movedUnit    = "lab-arbiter-moved.service"
	movedPort    = lanNet + "9:7444"
	movedFolder  = "/var/lib/lab-arbiter-moved"
	movedConfig  = "/etc/leasedog/lab-moved.toml"
	recoveryWait = 20 * time.Second // longer than H: a lease that only waits for its hold is granted within it
)

// storeScenarios are the rows in which the arbiter loses its memory, or there are two of it.
func storeScenarios() []Scenario {
	lan := lanConfig()
	// Nobody may be granted for recoveryWait after the holder's death, then an operator's word ends the recovery.
	bound := recoveryWait + takeoverBound(lan) + 10*time.Second
	return []Scenario{
		{Name: "store-deleted", Config: lan, Bound: bound, Run: playStoreDeleted,
			About: "the arbiter's store is deleted: the holder goes on; it dies, and nobody is granted before the recovery ends"},
		{Name: "store-rolled-back", Config: lan, Bound: bound, Run: playStoreRolledBack,
			About: "an older copy of the store, which names the other node, is put back: the holder goes on, the other stands by"},
		{Name: "arbiter-moved-old-still-up", Config: lan, Bound: noTransition, Run: playArbiterMoved,
			About: "a copy of the store serves on another machine, and the standby asks there while the holder renews at the old one"},
	}
}

// onArbiter runs a script on the arbiter's host.
func (c *Cluster) onArbiter(ctx context.Context, script string) error {
	_, err := c.Exec(ctx, Arbiter, "/bin/sh", "-ec", script)
	return err
}

// withArbiterStopped runs a script between a stop and a start of the arbiter, quickly: the holder must not lose for it.
func (c *Cluster) withArbiterStopped(ctx context.Context, script string) error {
	return c.onArbiter(ctx, fmt.Sprintf("systemctl stop %s; %s; systemctl start %s", arbiterUnit, script, arbiterUnit))
}

// step notes and does what is not the fault that times count from.
func (r *Run) step(what string, do func() error) error {
	r.Event("%s", what)
	if err := do(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// expectRecovery fails unless the arbiter says, in its status, that the cluster's record is being rebuilt.
func (r *Run) expectRecovery(ctx context.Context) {
	err := waitFor(ctx, "the arbiter's alarm", 10*time.Second, func() error {
		recovery, _, err := r.arbiterSays(ctx)
		if recovery == "" {
			return fmt.Errorf("leasedog-arbiter status says nothing of a recovery (%v)", err)
		}
		r.Event("leasedog-arbiter status: %s", recovery)
		return nil
	})
	if err != nil {
		r.Fail("%v", err)
	}
}

// endRecovery is the operator's word. Both nodes have reported, so that nothing unknown holds.
func (r *Run) endRecovery(ctx context.Context, args ...string) error {
	argv := append([]string{"leasedog-arbiter", "recover", "lab", "--yes"}, args...)
	return waitFor(ctx, "leasedog-arbiter recover", 10*time.Second, func() error {
		_, err := r.Exec(ctx, Arbiter, argv...)
		return err
	})
}

// expectGoesOn fails unless node's canary lives and the other node's does not, all the while.
func (r *Run) expectGoesOn(ctx context.Context, node string, length time.Duration) error {
	from := Now()
	if err := pause(ctx, length); err != nil {
		return err
	}
	beats, err := r.Beats(node, from)
	if err != nil {
		return err
	}
	if gap := Gap(Served(beats), Interval{from, Now()}); gap > serveGap {
		r.Fail("%s did not run the group for %.2f s", node, gap.Seconds())
	}
	other, err := r.Beats(Peer(node), from)
	if err != nil {
		return err
	}
	if len(other) > 0 {
		r.Fail("%s runs the group too", Peer(node))
	}
	return nil
}

func playStoreDeleted(ctx context.Context, r *Run) error {
	_, lease, err := r.agentOf(ctx, r.Holder)
	if err != nil {
		return err
	}
	if err := r.Phase(ctx); err != nil {
		return err
	}
	err = r.step("delete the arbiter's store", func() error { return r.withArbiterStopped(ctx, "rm "+storeFile) })
	if err != nil {
		return err
	}
	if err := r.expectGoesOn(ctx, r.Holder, budgetOf(r.Config.Profile).hold+3*time.Second); err != nil {
		return err
	}
	r.expectRecovery(ctx)
	if _, l, err := r.agentOf(ctx, r.Holder); err != nil || l.State != "held" || l.Epoch != lease.Epoch {
		r.Fail("the lease on %s is %s with epoch %d, it was held with epoch %d (%v)", r.Holder, l.State, l.Epoch, lease.Epoch, err)
	}
	r.expectNoReset()
	return r.holderDiesInRecovery(ctx, r.Holder)
}

// holderDiesInRecovery: the hold runs out, and the peer waits all the same, until max_hold is over or an operator speaks.
func (r *Run) holderDiesInRecovery(ctx context.Context, holder string) error {
	if err := r.StayDown(holder, true); err != nil {
		return err
	}
	if err := r.Fault(holder+" loses power", func() error { return r.Crash(ctx, holder) }); err != nil {
		return err
	}
	if err := pause(ctx, recoveryWait); err != nil {
		return err
	}
	if runs, err := r.Runs(); err != nil || len(runs) > 0 {
		r.Fail("%v run the group in a recovery that has not ended (%v)", runs, err)
	}
	if err := r.endRecovery(ctx); err != nil {
		return err
	}
	r.Event("an operator ended the recovery")
	if took := r.Takeover(ctx, Peer(holder), 30*time.Second); took > recoveryWait+5*time.Second {
		r.Fail("%s runs the group only %.2f s after the fault", Peer(holder), took.Seconds())
	}
	return nil
}

func playStoreRolledBack(ctx context.Context, r *Run) error {
	err := r.withArbiterStopped(ctx, fmt.Sprintf("cp -p %s %s", storeFile, storeCopy))
	if err = errors.Join(err, r.renewals(ctx, 3)); err != nil { // before, the arbiter moves nothing
		return err
	}
	// The lease moves on, so that the copy names a node that holds no more.
	was, holder := r.Holder, r.Standby()
	if _, err := r.Exec(ctx, was, "leasedog", "switchover", leaseName, "--to", holder, "--wait", "--yes"); err != nil {
		return err
	}
	if err := r.WaitSettled(ctx); err != nil {
		return err
	}
	_, lease, err := r.agentOf(ctx, holder)
	if err != nil {
		return err
	}
	err = r.step("put the old store back", func() error {
		return r.withArbiterStopped(ctx, fmt.Sprintf("mv %s %s", storeCopy, storeFile))
	})
	if err != nil {
		return err
	}
	if err := r.expectGoesOn(ctx, holder, budgetOf(r.Config.Profile).hold+3*time.Second); err != nil {
		return err
	}
	r.expectRecovery(ctx)
	if _, l, err := r.agentOf(ctx, holder); err != nil || l.State != "held" || l.Epoch != lease.Epoch {
		r.Fail("the lease on %s is %s with epoch %d, it was held with epoch %d (%v)", holder, l.State, l.Epoch, lease.Epoch, err)
	}
	r.expectNoReset()
	return r.holderDiesInRecovery(ctx, holder)
}

// askAt has a node's agent ask at another address from now on.
func (c *Cluster) askAt(ctx context.Context, node, hostPort string) error {
	_, err := c.Exec(ctx, node, "/bin/sh", "-ec", fmt.Sprintf(
		`sed -i 's|^urls = .*|urls = ["https://%s"]|' %s; systemctl restart %s`, hostPort, agentConfig, agentUnit))
	return err
}

// startMoved serves a copy of the store as another machine would: with a machine-id of its own. Its max_hold is short, so
// that the row need not wait for long.
func (c *Cluster) startMoved(ctx context.Context) error {
	if _, err := c.ExecInput(ctx, Arbiter, fmt.Sprintf("listen = \":7444\"\n"+
		"store = %q\ncontrol = %q\nmax_hold = \"10s\"\n", movedFolder+"/arbiter.db", movedFolder+"/arbiter.sock"),
		"/bin/sh", "-ec", "cat > "+movedConfig); err != nil {
		return err
	}
	if err := c.onArbiter(ctx, fmt.Sprintf("install -d -o leasedog-arbiter -m 700 %[1]s; echo %[2]s > %[1]s/machine-id",
		movedFolder, strings.TrimSpace(newMachineID()))); err != nil {
		return err
	}
	if err := c.withArbiterStopped(ctx, fmt.Sprintf("cp -p %s %s/arbiter.db", storeFile, movedFolder)); err != nil {
		return err
	}
	return c.onArbiter(ctx, fmt.Sprintf("systemd-run --quiet --unit=%s -p User=leasedog-arbiter -p Type=notify "+
		"-p BindReadOnlyPaths=%s/machine-id:/etc/machine-id /usr/sbin/leasedog-arbiter serve --config %s",
		movedUnit, movedFolder, movedConfig))
}

// stopMoved makes the arbiter's own place the only one again, with the newest store: the nodes never listen to the old
// one any more. It has come to another machine, so there is a recovery once more.
func (r *Run) stopMoved(ctx context.Context) error {
	return errors.Join(
		r.withArbiterStopped(ctx, fmt.Sprintf("systemctl stop %s; cp -p %s/arbiter.db %s", movedUnit, movedFolder, storeFile)),
		r.askAt(ctx, r.Holder, arbiterPort), r.askAt(ctx, r.Standby(), arbiterPort),
		r.WaitSettled(ctx), r.renewals(ctx, 4), r.endRecovery(ctx),
		r.onArbiter(ctx, "rm -r "+movedFolder+" "+movedConfig))
}

// playArbiterMoved: whoever has not reported to the new arbiter blocks its grants; then the holder moves over too.
func playArbiterMoved(ctx context.Context, r *Run) (err error) {
	_, lease, err := r.agentOf(ctx, r.Holder)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.stopMoved(ctx)) }()
	if err := r.startMoved(ctx); err != nil {
		return err
	}
	err = r.Fault(r.Standby()+" asks at the new arbiter", func() error { return r.askAt(ctx, r.Standby(), movedPort) })
	if err != nil {
		return err
	}
	// Longer than the new one's max_hold: only what the holder has not told it still keeps it from granting.
	if err := r.expectGoesOn(ctx, r.Holder, 2*recoveryWait); err != nil {
		return err
	}
	l, _, err := r.Status(ctx, r.Standby())
	r.Event("%s: %s %q (%v)", r.Standby(), l.State, l.WhyNot, err)
	if err := r.step(r.Holder+" asks at the new arbiter too", func() error { return r.askAt(ctx, r.Holder, movedPort) }); err != nil {
		return err
	}
	if err := r.expectGoesOn(ctx, r.Holder, budgetOf(r.Config.Profile).hold+3*time.Second); err != nil {
		return err
	}
	if _, l, err := r.agentOf(ctx, r.Holder); err != nil || l.State != "held" || l.Epoch != lease.Epoch {
		r.Fail("the lease on %s is %s with epoch %d, it was held with epoch %d (%v)", r.Holder, l.State, l.Epoch, lease.Epoch, err)
	}
	r.expectNoReset()
	return nil
}
