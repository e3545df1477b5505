package agent

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/leasedog/leasedog/agent/control"
	"github.com/leasedog/leasedog/lease"
	"github.com/leasedog/leasedog/pcmk"
)

// The paces of looking at the cluster. It is looked at rarely, since its tools cost 20 ms of processor each, and
// often while something moves.
const (
	pollEvery = 5 * time.Second
	pollFast  = time.Second
	// pollHeard is the pace while every lease is held in peace and Pacemaker tells its alert agent what happens.
	pollHeard  = 2 * pollEvery
	surveyTime = 8 * time.Second
	// readingGood is how long a reading lets a node compete.
	readingGood = 3 * pollEvery
	// cibGood is how long the configuration is not read again while every lease is held and no change of it was seen.
	cibGood = time.Minute
)

// survey is what was last found about one lease's resources, for status.
type survey struct {
	at          lease.Instant
	whyNot      []string
	status      pcmk.Status
	known       bool      // status was read
	cannotRun   string    // why Pacemaker cannot run a resource here
	planned     bool      // an administrator wants that
	running     lease.Tri // they run here
	maintenance lease.Tri // it leaves them alone
	alarms      []control.Alarm
}

// watch looks at the cluster until ctx ends.
func (a *Agent) watch(ctx context.Context) {
	for ctx.Err() == nil {
		t := time.NewTimer(a.pace(a.surveyOnce(ctx)))
		select {
		case <-ctx.Done():
		case <-t.C:
		case <-a.poke:
			_ = pause(ctx, 50*time.Millisecond) // several pokes are one look
		}
		t.Stop()
	}
}

// pace is how long to wait after a look.
func (a *Agent) pace(restless, peace bool) time.Duration {
	switch {
	case restless:
		return pollFast
	case peace && a.lastCIB.HasAlert():
		return pollHeard
	}
	return pollEvery
}

func (a *Agent) pokeSurvey() {
	select {
	case a.poke <- struct{}{}:
	default:
	}
}

// cluster is what one look found; errors are kept with what they hide.
type cluster struct {
	cib       *pcmk.CIB
	cibErr    error
	status    pcmk.Status
	statusErr error
	down      bool
	stopping  bool     // Pacemaker's unit is being stopped
	nodeWhy   []string // what speaks against this node for every lease
}

// surveyOnce reads everything once and tells every keeper. It reports whether to look again soon, and whether every
// lease is held and the configuration known.
func (a *Agent) surveyOnce(ctx context.Context) (restless, peace bool) {
	ctx, cancel := context.WithTimeout(ctx, surveyTime)
	defer cancel()
	a.inLoop(a.adoptDefinitions)
	phases := a.phases()
	c := a.look(ctx, phases)
	if c.statusErr == nil {
		a.tellPeers(c.status)
	}
	a.tellCertificate()
	a.tellClock()
	for i, k := range a.keepers {
		if a.surveyKeeper(ctx, k, phases[i], c) {
			restless = true
		}
	}
	return restless, inPeace(phases) && c.cibErr == nil && c.statusErr == nil
}

// inPeace: nothing is being decided here.
func inPeace(phases []lease.Phase) bool {
	return !slices.ContainsFunc(phases, func(p lease.Phase) bool { return p != lease.Held && p != lease.Paused })
}

// stopLook bounds what is asked of a Pacemaker that is being stopped: a tool whose daemon ends meanwhile hangs.
const stopLook = 500 * time.Millisecond

// look reads the cluster.
func (a *Agent) look(ctx context.Context, phases []lease.Phase) (c cluster) {
	c.down, _ = a.pacemakerDown()
	c.stopping = a.stops.now.Load()
	tools := ctx
	if c.stopping {
		var cancel context.CancelFunc
		tools, cancel = context.WithTimeout(ctx, stopLook)
		defer cancel()
	}
	c.cib, c.cibErr = a.readCIB(tools, phases)
	c.status, c.statusErr = a.opt.Cluster.Status(tools)
	if slices.ContainsFunc(phases, mayWin) {
		c.nodeWhy = a.nodeGates(ctx, c)
	}
	return c
}

// readCIB reads the configuration, or repeats what was read within the last minute while every lease is held in
// peace: each reading costs 10 ms of processor, and only the rules and the plan come from it then.
func (a *Agent) readCIB(ctx context.Context, phases []lease.Phase) (*pcmk.CIB, error) {
	if changed := a.cibChanged.Swap(false); inPeace(phases) && !changed && a.lastCIB != nil && a.opt.Now().Sub(a.cibAt) < cibGood {
		return a.lastCIB, nil
	}
	cib, err := a.opt.Cluster.CIB(ctx)
	if err != nil {
		a.cibChanged.Store(true)
		return nil, err
	}
	a.lastCIB, a.cibAt = cib, a.opt.Now()
	return cib, nil
}

// mayWin: in these phases it matters whether this node may compete. "" is a keeper that has not begun.
func mayWin(p lease.Phase) bool { return p == lease.Standby || p == lease.Acquiring || p == "" }

// phases asks the loop.
func (a *Agent) phases() []lease.Phase {
	out := make([]lease.Phase, len(a.keepers))
	a.inLoop(func() {
		for i, k := range a.keepers {
			if k.begun {
				out[i] = k.holder.View().Phase
			}
		}
	})
	return out
}

// inLoop runs f in the loop and waits for it. It must not be called by the loop.
func (a *Agent) inLoop(f func()) {
	finished := make(chan struct{})
	select {
	case a.calls <- func() { f(); close(finished) }:
		<-finished
	case <-a.done:
	}
}

func (a *Agent) surveyKeeper(ctx context.Context, k *keeper, phase lease.Phase, c cluster) (restless bool) {
	if k.outdated && phase == lease.Standby {
		return false // it was left, and nothing comes after it
	}
	if c.cibErr == nil {
		plan, err := a.opt.Cluster.PlanFrom(c.cib, a.node, k.conf.Resources)
		k.learnPlan(plan, err)
	}
	plan, planErr := k.currentPlan()
	k.mu.Lock()
	if k.planErr != nil {
		planErr = k.planErr
	}
	k.mu.Unlock()

	s := survey{at: a.opt.Now(), status: c.status, known: c.statusErr == nil}
	reading := lease.Reading{FreshUntil: s.at.Add(readingGood)}
	if planErr != nil {
		s.whyNot = append(s.whyNot, planErr.Error())
	}
	blocker := ""
	if mayWin(phase) {
		if blocker = a.inTheWay(k); blocker != "" {
			s.whyNot = append(s.whyNot, "lease "+blocker+", which the configuration names no longer or with other resources, still "+
				"guards a resource of this one: it is left first")
		}
		gates := make(chan []string, 1)
		go func() { gates <- a.askGates(ctx, k) }() // beside what this node looks at itself
		bootGates := k.bootGates(ctx, plan)
		reading.Fit = planErr == nil && blocker == "" && len(c.nodeWhy)+len(bootGates) == 0
		s.whyNot = append(s.whyNot, c.nodeWhy...)
		s.whyNot = append(s.whyNot, k.ruleGates(plan, c)...)
		s.whyNot = append(s.whyNot, bootGates...)
		if planErr == nil {
			reading.Proven = lease.Yes
			if err := k.prove(ctx, plan); err != nil {
				reading.Proven = lease.No
				s.whyNot = append(s.whyNot, "the resources are not proven stopped here: "+err.Error())
			}
		}
		said := <-gates
		reading.Fit = reading.Fit && len(said) == 0
		s.whyNot = append(s.whyNot, said...)
	} else {
		k.serving(ctx, plan, planErr, c, &reading)
		if c.statusErr == nil {
			k.gate.saw(c.status.Attributes[a.node][k.gate.name])
		}
	}
	if s.alarms = k.ruleAlarms(phase, plan, planErr, c); len(s.alarms) > 0 {
		a.cibChanged.Store(true) // it is read again, so that the alarm ends soon after its reason
	}
	k.tellRuleAlarms(k.lastSurvey().alarms, s.alarms)
	s.cannotRun, s.planned, s.running = reading.CannotRun, reading.Planned, reading.Running
	s.maintenance, reading.WhyNot = reading.Maintenance, s.whyNot
	k.mu.Lock()
	k.survey = s
	k.mu.Unlock()
	a.inLoop(func() { k.holder.SetLeaveTimeout(k.leaveTimeout()) })
	if phase == "" {
		if blocker == "" && (planErr == nil || refused(planErr)) {
			k.post(lease.Found{Active: k.active(ctx, plan), Watched: k.watched,
				Unguarded: c.cibErr == nil && !c.cib.DependsOn(k.gate.name)})
			k.post(reading)
		}
		return true
	}
	k.post(reading)
	quiet := phase == lease.Held && reading.Running == lease.Yes || phase == lease.Paused || phase == lease.Acquiring
	return !quiet
}

// active asks the monitors whether a guarded resource runs here now.
func (k *keeper) active(ctx context.Context, plan pcmk.Plan) lease.Tri {
	prims := plan.Primitives()
	if len(prims) == 0 {
		return lease.Unknown
	}
	out := lease.No
	for _, p := range prims {
		if p.Class == "systemd" {
			u, err := k.a.opt.Units.Unit(ctx, p.Unit)
			switch {
			case err != nil:
				out = lease.Unknown
			case !u.Inactive():
				return lease.Yes
			}
			continue
		}
		got, err := k.a.opt.Cluster.RunAgent(ctx, plan, p, pcmk.Monitor)
		switch {
		case err != nil || got.Condition == pcmk.ConditionUnknown:
			out = lease.Unknown
		case !p.Inactive(got.Condition):
			return lease.Yes
		}
	}
	return out
}

// nodeGates are the reasons for which this node may not hold any lease now (ARCHITECTURE 4.4.8).
func (a *Agent) nodeGates(ctx context.Context, c cluster) (why []string) {
	one, cancel := context.WithTimeout(ctx, toolTime)
	defer cancel()
	why = a.clockGate()
	if err := a.opt.Units.Ping(one); err != nil {
		why = append(why, fmt.Sprintf("systemd (PID 1) does not answer: %v", err))
	}
	if err := a.checkGuard(ctx); err != nil {
		why = append(why, fmt.Sprintf("the guard could not run: %v", err))
	}
	if c.stopping {
		return append(why, "Pacemaker is being stopped on this node")
	}
	if c.statusErr != nil {
		return append(why, fmt.Sprintf("Pacemaker does not answer: %v", c.statusErr))
	}
	n, ok := c.status.Node(a.node)
	switch {
	case !ok:
		why = append(why, fmt.Sprintf("the cluster does not know a node %q", a.node))
	case n.Online != pcmk.Yes || n.Pending != pcmk.No:
		why = append(why, "this node has not joined the cluster")
	case n.Standby != pcmk.No || n.StandbyOnFail == pcmk.Yes:
		why = append(why, "this node is in standby: crm node online "+a.node+", or pcs node unstandby "+a.node)
	case n.Maintenance != pcmk.No:
		why = append(why, "this node is in maintenance")
	case n.Shutdown == pcmk.Yes:
		why = append(why, "this node is shutting down")
	}
	if c.status.MaintenanceMode == pcmk.Yes {
		why = append(why, "the cluster is in maintenance mode")
	}
	return why
}

// checkGuard runs the preflight and takes its findings into the budget of the next grant.
func (a *Agent) checkGuard(ctx context.Context) error {
	if err := a.writeGuardSetup(); err != nil {
		return err
	}
	p, err := a.opt.Preflight(ctx)
	if err != nil {
		return err
	}
	if p.Chances != 1 {
		return fmt.Errorf("it has no kill timer or no real-time priority here, so that a frozen guard could feed once "+
			"too late: %s", strings.Join(p.Warnings, "; "))
	}
	a.mu.Lock()
	changed := a.preflight.Chances != p.Chances || a.preflight.Watchdog != p.Watchdog
	a.preflight = p
	a.mu.Unlock()
	if !changed {
		return nil
	}
	b := a.effective(*a.base.Load())
	if v := b.Violations(); len(v) > 0 {
		return fmt.Errorf("with the watchdog of this node the budget does not hold: %v", v[0])
	}
	a.inLoop(func() {
		for _, k := range a.keepers {
			k.holder.SetBudget(b)
		}
	})
	a.bud.Store(&b)
	if b.Hold() != a.base.Load().Hold() {
		a.log.WithField("hold", b.Hold().String()).Warnf("the hold follows this node's watchdog (%v, c = %d)", b.Watchdog, b.Chances)
	}
	return nil
}

// bootGates: nothing guarded may start at boot, before anybody holds a lease.
func (k *keeper) bootGates(ctx context.Context, plan pcmk.Plan) (why []string) {
	for _, p := range plan.Primitives() {
		if p.Class == "systemd" {
			one, cancel := context.WithTimeout(ctx, toolTime)
			u, err := k.a.opt.Units.Unit(one, p.Unit)
			cancel()
			if err != nil {
				why = append(why, fmt.Sprintf("unit %s of %s: %v", p.Unit, p.ID, err))
			} else if u.StartsAtBoot() {
				why = append(why, fmt.Sprintf("unit %s of %s starts at boot, before anybody holds a lease: systemctl disable %s",
					p.Unit, p.ID, p.Unit))
			}
		}
		if p.Type == "Filesystem" {
			if line, err := mountedAtBoot(k.a.opt.Fstab, p.Params["directory"], p.Params["device"]); err != nil {
				why = append(why, err.Error())
			} else if line != "" {
				why = append(why, fmt.Sprintf("%s mounts what %s guards at boot: add noauto to the line %q", k.a.opt.Fstab, p.ID, line))
			}
		}
	}
	return why
}

// mountedAtBoot returns the line of fstab(5) that mounts the folder or device without noauto.
func mountedAtBoot(fstab, folder, device string) (string, error) {
	f, err := os.Open(fstab)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read fstab: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		w := strings.Fields(lines.Text())
		if len(w) < 4 || strings.HasPrefix(w[0], "#") {
			continue
		}
		same := folder != "" && filepath.Clean(w[1]) == filepath.Clean(folder) || device != "" && w[0] == device
		if same && !slices.Contains(strings.Split(w[3], ","), "noauto") {
			return strings.Join(w, " "), nil
		}
	}
	return "", lines.Err()
}

func samePlan(a, b pcmk.Plan) bool { return reflect.DeepEqual(a, b) }
