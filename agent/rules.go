package agent

import (
	"errors"
	"fmt"
	"slices"

	"github.com/leasedog/leasedog/agent/control"
	"github.com/leasedog/leasedog/lease"
	"github.com/leasedog/leasedog/pcmk"
)

// refused tells a resource that can never be guarded from a configuration that cannot be read now.
func refused(err error) bool {
	var r *pcmk.RefusedError
	return errors.As(err, &r)
}

// ruleFaults says of each rule that does not keep its resource from a node without the lease what is wrong with it. A rule
// may be missing or changed; or it stands, and Pacemaker makes nothing of it: of each node in the cluster that is without
// the attribute Pacemaker itself must say that the resource is banned there. Both nodes look, so that a node without an
// agent is looked at too.
func (k *keeper) ruleFaults(plan pcmk.Plan, c cluster) (faults []string) {
	if c.cibErr != nil {
		return nil
	}
	rules := plan.Rules(k.name)
	for _, s := range c.cib.CheckRules(rules) {
		if !s.Intact {
			faults = append(faults, s.Reason+": without it Pacemaker runs "+s.Resource+" on any node")
		}
	}
	if len(faults) > 0 || c.statusErr != nil || c.status.Attributes[k.a.node] == nil {
		return faults // without attributes of this node the reading shows none of anybody
	}
	for _, n := range c.status.Nodes {
		if _, open := c.status.Attributes[n.Name][k.gate.name]; open || n.Online != pcmk.Yes || n.Pending != pcmk.No {
			continue
		}
		for _, g := range c.status.EffectiveBans(rules, n.Name) {
			if !g.Closed {
				faults = append(faults, fmt.Sprintf("constraint %s stands, and Pacemaker does not apply it: it shows no ban of %s on %s",
					g.ID(), g.Resource, g.Node))
			}
		}
	}
	return faults
}

// ruleGates: without its rule Pacemaker runs a resource whoever holds.
func (k *keeper) ruleGates(plan pcmk.Plan, c cluster) (why []string) {
	for _, fault := range k.ruleFaults(plan, c) {
		why = append(why, fault+"; leasedog constraints "+k.name+" --apply")
	}
	return why
}

// ruleAlarms are what an administrator must mend about the rules and the guarded resources, whoever holds.
func (k *keeper) ruleAlarms(phase lease.Phase, plan pcmk.Plan, planErr error, c cluster) (out []control.Alarm) {
	if refused(planErr) && c.cibErr == nil {
		hint := "mend the lease's resources in the configuration of both nodes and restart the agents"
		if !mayWin(phase) {
			hint = "what was guarded when the lease was won still is, and nobody takes over: " + hint
		}
		return []control.Alarm{{Text: "lease " + k.name + ": " + planErr.Error(), Hint: hint}}
	}
	if planErr != nil {
		return nil
	}
	for _, fault := range k.ruleFaults(plan, c) {
		out = append(out, control.Alarm{Text: "lease " + k.name + ": " + fault + ", and nobody takes over",
			Hint: "leasedog constraints " + k.name + " --apply"})
	}
	return out
}

// tellRuleAlarms writes to the log what came and what went. It is the survey's.
func (k *keeper) tellRuleAlarms(before, after []control.Alarm) {
	for _, al := range after {
		if !slices.Contains(before, al) {
			k.a.log.WithField("lease", k.name).Errorf("%s: %s", al.Text, al.Hint)
		}
	}
	for _, al := range before {
		if !slices.Contains(after, al) {
			k.a.log.WithField("lease", k.name).Infof("mended: %s", al.Text)
		}
	}
}
