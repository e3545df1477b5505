package agent

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/leasedog/leasedog/agent/cause"
	"github.com/leasedog/leasedog/agent/control"
	"github.com/leasedog/leasedog/config"
	"github.com/leasedog/leasedog/lease"
	"github.com/leasedog/leasedog/pcmk"
)

// handler answers the control socket.
type handler struct{ a *Agent }

// Status describes this node.
func (h handler) Status(ctx context.Context) (control.Status, error) {
	a := h.a
	var out control.Status
	a.inLoop(func() { out = a.describe() })
	if out.Node == "" {
		return out, control.Refuse(control.CodeTryAgain, "", "the agent is ending")
	}
	gs, err := a.opt.Guard.Status(ctx)
	for i := range out.Leases {
		l := &out.Leases[i]
		if err == nil {
			for _, armed := range gs.Armed {
				if armed.Lease == l.Name {
					l.Guard = control.Guard{State: "armed", Armed: true, UntilS: control.Known(armed.Until.Sub(a.opt.Now()).Seconds())}
				}
			}
		}
	}
	if err == nil {
		out.Watchdog.PauseProtection = gs.PauseProtection
		out.Watchdog.KillTimer = control.Known(gs.KillTimer)
		out.Watchdog.TimeoutS = control.Known(gs.Watchdog.Seconds())
		if gs.Device != "" {
			out.Watchdog.Device = gs.Device + " (" + gs.Identity + ")"
		}
	}
	return out, nil
}

// describe is the loop's.
func (a *Agent) describe() control.Status {
	now := a.opt.Now()
	a.mu.Lock()
	pre, contact, token := a.preflight, a.contact, a.token
	rtts := slices.Clone(contact.rtts)
	a.mu.Unlock()
	b := a.budget()
	s := control.Status{
		Schema: control.Schema, Cluster: a.opt.Config.Cluster, Node: a.node, Version: a.opt.Version,
		Boot: lease.BootMark(a.self.BootID), Instance: a.self.Instance.String(), UptimeS: now.Sub(a.started).Seconds(),
		ConfigDigest: a.opt.Config.Digest(), Insecure: a.opt.Config.Insecure,
		Watchdog: control.Watchdog{Mode: string(a.opt.Config.Watchdog.Mode), Device: a.opt.Config.Watchdog.Device,
			PauseProtection: "unknown", Layers: layers(a.opt.Config.Watchdog.Mode)},
		Arbiter: control.Arbiter{URLs: a.opt.Config.Arbiter.URLs, LastError: contact.err},
		Budget: control.Budget{Profile: b.Profile, RenewEveryS: b.RenewEvery.Seconds(), LossAfterS: b.LossAfter.Seconds(),
			StopBudgetS: b.StopBudget.Seconds(), HardDeadlineS: b.HardDeadline().Seconds(), HoldS: b.Hold().Seconds()},
		Alarms: []control.Alarm{}, Leases: []control.Lease{},
	}
	if pre.Chances != 0 {
		s.Watchdog.KillTimer = control.Known(pre.Chances == 1)
	}
	for _, w := range pre.Warnings {
		s.Alarms = append(s.Alarms, control.Alarm{Text: w})
	}
	if contact.at != 0 || contact.err != "" {
		s.Arbiter.Reachable = control.Known(contact.err == "")
	}
	if contact.at != 0 {
		s.Arbiter.LastAnswerAgoS = control.Known(now.Sub(contact.at).Seconds())
	}
	if n := len(rtts); n > 0 {
		s.Arbiter.RTTS = control.Known(rtts[n-1].Seconds())
		slices.Sort(rtts)
		s.Arbiter.RTTP99S = control.Known(rtts[(n*99+99)/100-1].Seconds())
	}
	if token != nil {
		s.Budget.TokenS = control.Known(token.Seconds())
		if v, ok := b.Comfort(*token, 200*time.Millisecond); !ok {
			s.Budget.Warning = v.String()
		}
	}
	if a.opt.Config.Insecure {
		s.Alarms = append(s.Alarms, control.Alarm{Text: "insecure = true: anybody on the arbiter's network may take the leases"})
	}
	if a.opt.Certificate != nil {
		c, alarms := a.opt.Certificate(a.node)
		s.Certificate = c
		s.Alarms = append(s.Alarms, alarms...)
	}
	clock, alarms := a.describeClock(now)
	s.Clock = clock
	s.Alarms = append(s.Alarms, alarms...)
	for _, k := range a.keepers {
		l := k.describe(now)
		s.Leases = append(s.Leases, l)
		s.Alarms = append(s.Alarms, k.pauseAlarms(now)...)
		s.Alarms = append(s.Alarms, k.lastSurvey().alarms...)
	}
	return s
}

func layers(m config.WatchdogMode) []string {
	l := []string{"guard", "kill timer and systemd"}
	if m == config.WatchdogRequired {
		l = append(l, "kernel watchdog")
	}
	return append(l, "systemd watchdog")
}

func (k *keeper) lastSurvey() survey {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.survey
}

// describe is the loop's.
func (k *keeper) describe(now lease.Instant) control.Lease {
	v, s, last := k.holder.View(), k.lastSurvey(), k.last
	l := control.Lease{Name: k.name, State: control.State(v.Phase), Epoch: uint64(v.Epoch), WhyNot: []string{},
		Waiters: []string{}, Resources: k.resources(s), Guard: control.Guard{State: "off"}, LastTransition: &last}
	switch v.Phase {
	case lease.Winning:
		l.State = control.StateAcquiring
	case lease.Resuming:
		l.State = control.StatePaused
	case "":
		l.State = control.StateStandby
		if l.WhyNot = append(l.WhyNot, s.whyNot...); len(s.whyNot) == 0 {
			l.WhyNot = append(l.WhyNot, "the agent has just started and has not seen the cluster yet")
		}
	}
	if _, err := k.currentPlan(); refused(err) {
		l.State = control.StateRefused
	}
	switch v.Phase {
	case lease.Held, lease.Leaving, lease.Paused, lease.Resuming:
		l.Holder, l.HolderKnown = k.a.node, true
		if s.cannotRun != "" {
			l.WhyNot = append(l.WhyNot, "the resources are not to run here: "+s.cannotRun)
		}
	case lease.Standby, lease.Acquiring:
		l.Holder, l.HolderKnown = v.LastDenial.Holder, v.LastDenial.Verdict == lease.Denied
		l.WhyNot = append(l.WhyNot, s.whyNot...)
		if v.LastError != "" && v.LastDenial.Verdict != lease.Denied {
			l.WhyNot = append(l.WhyNot, v.LastError)
		}
		if v.LastFailure != "" {
			l.WhyNot = append(l.WhyNot, fmt.Sprintf("the last grant could not be used: %s; next try in %.0f s",
				v.LastFailure, max(0, v.NotBefore.Sub(now).Seconds())))
		}
		switch onDemand := k.conf.Acquire == config.AcquireOnDemand; {
		case onDemand && !v.Asked && v.Phase == lease.Standby:
			l.WhyNot = append(l.WhyNot, `acquire = "on-demand", and Pacemaker does not start its resource ocf:leasedog:lease here`)
		case v.Retired:
			l.WhyNot = append(l.WhyNot, "this node was told to release it: leasedog acquire "+k.name)
		}
	}
	if v.Sent != 0 && v.Phase != lease.Standby {
		l.RenewedAgoS = control.Known(now.Sub(v.Sent).Seconds())
	}
	if v.LoseAt != lease.Never && v.LoseAt != 0 {
		l.ExpiresInS = control.Known(v.LoseAt.Sub(now).Seconds())
	}
	if v.ResetAt != lease.Never {
		l.MarginS = control.Known(v.ResetAt.Sub(now).Seconds())
		l.Guard = control.Guard{State: "armed", Armed: true, UntilS: l.MarginS}
	}
	for _, w := range v.Waiters {
		l.Waiters = append(l.Waiters, w.Node)
	}
	if attr, err := k.gate.shown(); err == nil {
		l.Attribute = &attr.Value
	}
	l.Next = k.next(now, v, s)
	return l
}

// next tells what happens next and by when.
func (k *keeper) next(now lease.Instant, v lease.View, s survey) string {
	in := func(at lease.Instant) string { return fmt.Sprintf("in %.1f s", max(0, at.Sub(now).Seconds())) }
	missing := ""
	if err := k.ladder.missing(); err != nil {
		missing = "; not proven stopped yet: " + err.Error()
	}
	switch v.Phase {
	case lease.Standby:
		if k.outdated {
			return "was left; the configuration does not name it any more: remove its rules with leasedog constraints " +
				k.name + " --remove"
		}
		if v.NotBefore > now {
			return "stands back; competes " + in(v.NotBefore) + " if nothing speaks against it then"
		}
		return "competes as soon as nothing speaks against it"
	case lease.Acquiring:
		if v.LastDenial.FreeIn > 0 {
			return fmt.Sprintf("waits for the lease; without renewals it is free within %.1f s", v.LastDenial.FreeIn.Seconds())
		}
		if v.StandBack > now {
			return fmt.Sprintf("waits for the lease; stands back for %.1f s, behind a node that has not given it up", v.StandBack.Sub(now).Seconds())
		}
		return "waits for the lease"
	case lease.Winning:
		return "was granted the lease; the attribute is set once the guard is armed"
	case lease.Held:
		return "without a renewal it stops its resources " + in(v.LoseAt) + " and is reset " + in(v.ResetAt) + k.nextNotHere(now, v, s)
	case lease.Leaving:
		return "Pacemaker stops the resources, then the lease is released" + missing
	case lease.Losing:
		if v.ResetAt == lease.Never {
			return "stops its resources; no reset will come, the guard is not armed" + missing
		}
		return "stops its resources, or is reset " + in(v.ResetAt) + missing
	case lease.Stopped:
		return "proven stopped; disarms and releases"
	case lease.Paused:
		return k.nextPaused(now, v)
	case lease.Resuming:
		return "resumes: the pause ends once a renewal is acknowledged and the guard is armed"
	}
	return ""
}

// nextNotHere tells what comes of a lease whose resources are not to run on its holder.
func (k *keeper) nextNotHere(now lease.Instant, v lease.View, s survey) string {
	switch {
	case v.GiveUpAt != 0:
		return fmt.Sprintf("; gives the lease up in %.1f s unless they run here again", max(0, v.GiveUpAt.Sub(now).Seconds()))
	case s.cannotRun == "":
		return ""
	case s.running == lease.Yes:
		return "; Pacemaker runs them here all the same, and the lease stays"
	case !s.planned && k.conf.GiveUpAfter <= 0:
		return "; give_up_after is 0, and the lease stays"
	}
	return "; the lease stays until another node waits that could run them"
}

func (k *keeper) resources(s survey) []control.Resource {
	out := []control.Resource{}
	plan, err := k.currentPlan()
	if err != nil {
		for _, id := range k.conf.Resources {
			out = append(out, control.Resource{ID: id, State: "unknown"})
		}
		return out
	}
	for _, g := range plan.Resources {
		r := control.Resource{ID: g.ID, Kind: kindName(g), Role: string(g.Role), State: "unknown"}
		if s.known {
			k.whereabouts(g, s.status, &r)
		}
		out = append(out, r)
	}
	return out
}

func kindName(g pcmk.Guarded) string {
	switch {
	case g.Role == pcmk.RolePromoted:
		return "promotable"
	case g.Kind == pcmk.KindPrimitive:
		return "primitive"
	}
	return string(g.Kind)
}

// whereabouts fills in where Pacemaker says that a guarded resource is.
func (k *keeper) whereabouts(g pcmk.Guarded, st pcmk.Status, r *control.Resource) {
	r.State = "stopped"
	for _, p := range g.Primitives {
		for found := range st.Primitives() {
			if pcmk.BaseID(found.ID) != p.ID {
				continue
			}
			r.Disabled = r.Disabled || found.Target == pcmk.RoleStopped
			active := found.Active == pcmk.Yes && (g.Role != pcmk.RolePromoted || found.Role == pcmk.RolePromoted)
			if active && len(found.Nodes) > 0 {
				r.Node = found.Nodes[0]
			}
			switch {
			case !slices.Contains(found.Nodes, k.a.node):
			case found.Failed == pcmk.Yes:
				r.State = "failed"
			case found.Role == pcmk.RolePromoted:
				r.State = "promoted"
			case active:
				r.State = "running"
			}
		}
	}
}

// Why tells what happened: the records that were written ahead of a reset, then this agent's transitions.
func (h handler) Why(context.Context) ([]control.Event, error) {
	records, err := cause.Read(h.a.opt.StateDir)
	var out []control.Event
	for _, r := range records {
		if r.Stage == cause.Closed {
			continue
		}
		out = append(out, control.Event{At: r.Written.UTC().Format(time.RFC3339Nano), Lease: r.Lease, Epoch: r.Epoch,
			What: string(r.Stage), Cause: r.Text(h.a.kernelBoot)})
	}
	h.a.mu.Lock()
	out = append(out, h.a.events...)
	h.a.mu.Unlock()
	return out, err
}

// Do decides about a command of an administrator.
func (h handler) Do(ctx context.Context, r control.Request) (string, error) {
	if r.Verb == control.VerbPoke {
		h.a.pokeSurvey()
		return "looking", nil
	}
	if r.Verb == control.VerbHandover {
		return h.handOver(ctx)
	}
	i := slices.IndexFunc(h.a.keepers, func(k *keeper) bool { return k.name == r.Lease })
	if i < 0 {
		return "", control.Refuse(control.CodeNoLease, "leasedog status lists them", "there is no lease %q", r.Lease)
	}
	k := h.a.keepers[i]
	switch r.Verb {
	case control.VerbSwitchover:
		return h.switchover(ctx, k, r.To)
	case control.VerbRelease:
		return h.release(k)
	case control.VerbOrderedStart:
		return h.orderedStart(ctx, k, r)
	case control.VerbOrderedStop:
		return h.orderedStop(ctx, k, r)
	case control.VerbOrderedCheck:
		return h.orderedCheck(ctx, k, r)
	case control.VerbPause:
		return h.pause(ctx, k, r.ForS)
	case control.VerbResume:
		return h.resume(ctx, k)
	case control.VerbAcquire:
		err := error(control.Refuse(control.CodeTryAgain, "", "the agent is ending"))
		h.a.inLoop(func() { err = k.compete() })
		if err != nil {
			return "", err
		}
		h.a.pokeSurvey()
		return "this node competes for lease " + k.name + " from now on", nil
	}
	return "", control.Refuse(control.CodeBadRequest, "", "this agent does not know %q", r.Verb)
}

// compete is the loop's. An agent that is being stopped takes no lease anew: its stop would never end.
func (k *keeper) compete() error {
	if k.a.leaving {
		return control.Refuse(control.CodeTryAgain, "", "the agent is being stopped and leaves every lease")
	}
	k.step(lease.AcquireAsked{})
	return nil
}

// switchover asks the arbiter, which knows whether the target waits; the holder hears of it with its next renewal.
func (h handler) switchover(ctx context.Context, k *keeper, to string) (string, error) {
	if to == "" {
		return "", control.Refuse(control.CodeBadRequest, "", "switchover needs a node")
	}
	var v lease.View
	h.a.inLoop(func() { v = k.holder.View() })
	if to == h.a.node && v.Phase == lease.Held {
		return "", control.Refuse(control.CodeRefused, "", "%s holds lease %s already", to, k.name)
	}
	ctx, cancel := context.WithTimeout(ctx, h.a.budget().RequestTimeout+time.Second)
	defer cancel()
	answer, err := h.a.opt.Arbiter.Ask(ctx, k.name, lease.Switchover{To: to})
	if err != nil {
		return "", control.Refuse(control.CodeTryAgain, "", "the arbiter does not answer: %v", err)
	}
	if answer.Verdict != lease.OK {
		return "", control.Refuse(control.CodeRefused, "", "%s", answer.Reason)
	}
	return fmt.Sprintf("lease %s moves to %s: the holder stops its resources in Pacemaker's order, then releases", k.name, to), nil
}

func (h handler) release(k *keeper) (string, error) {
	var v lease.View
	h.a.inLoop(func() {
		v = k.holder.View()
		if v.Phase == "" {
			return
		}
	})
	unguarded := false
	if v.Phase != "" && v.Phase != lease.Paused && v.Phase != lease.Resuming {
		unguarded = k.leave("release asked")
	}
	if v.Phase == lease.Held && unguarded {
		return "lease " + k.name + " is released, and its resources are left as they are: no rule of Pacemaker depends on it; " +
			"this node does not compete for it until leasedog acquire " + k.name, nil
	}
	switch v.Phase {
	case "":
		return "", control.Refuse(control.CodeTryAgain, "", "the agent has just started and has not seen the cluster yet")
	case lease.Paused, lease.Resuming:
		return "", control.Refuse(control.CodeRefused, "leasedog resume "+k.name, "lease %s is paused: resume it first", k.name)
	case lease.Held:
		return "lease " + k.name + ": Pacemaker stops the resources, then the lease is released; this node does not " +
			"compete for it until leasedog acquire " + k.name, nil
	}
	return "this node holds nothing of lease " + k.name + " and does not compete for it until leasedog acquire", nil
}

// oneLine is what systemctl status shows.
func (a *Agent) oneLine() string {
	out := ""
	for _, k := range a.keepers {
		if out != "" {
			out += ", "
		}
		v := k.holder.View()
		phase := string(v.Phase)
		if phase == "" {
			phase = "starting"
		}
		out += k.name + ": " + phase
		if v.Epoch != 0 {
			out += fmt.Sprintf(" epoch %d", v.Epoch)
		}
		if v.Phase == lease.Leaving || v.Phase == lease.Losing {
			if err := k.ladder.missing(); err != nil {
				out += " (" + err.Error() + ")"
			}
		}
	}
	return out
}
