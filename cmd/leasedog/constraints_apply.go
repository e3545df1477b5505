package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/leasedog/leasedog/lease"
	"github.com/leasedog/leasedog/pcmk"
)

func (c *constraints) runApply(ctx context.Context, cmd *cobra.Command) error {
	status, err := c.cluster.Status(ctx)
	if err != nil {
		return err
	}
	stops := c.wouldStop(status)
	if len(stops) > 0 && !c.force {
		return &exitError{code: exitFailure, err: fmt.Errorf("nothing was written, since the rules would stop running resources:\n  %s",
			strings.Join(stops, "\n  ")), hint: "start leasedog on that node and wait until \"leasedog status\" shows the lease as held, " +
			"or stop the resources with \"leasedog constraints LEASE --apply --force\""}
	}
	plan := c.plan(stops)
	if len(plan) == 0 {
		_, err := fmt.Fprintln(c.out, "nothing to do: every rule is in place")
		return err
	}
	if c.dryRun {
		_, err := fmt.Fprintln(c.out, strings.Join(plan, "\n"))
		return err
	}
	if err := confirm(cmd, c.yes, strings.Join(plan, "\n")); err != nil {
		return err
	}
	// Asking took time: what was true before the question is asked again, now that there is an answer.
	ctx, cancel := context.WithTimeout(cmd.Context(), pacemakerTime)
	defer cancel()
	if c.cib, err = c.cluster.CIB(ctx); err != nil {
		return err
	}
	if status, err = c.cluster.Status(ctx); err != nil {
		return err
	}
	if now := c.wouldStop(status); !c.force && len(now) > 0 {
		return &exitError{code: exitTryAgain, err: fmt.Errorf("nothing was written, since the cluster changed meanwhile:\n  %s",
			strings.Join(now, "\n  "))}
	}
	return c.write(ctx)
}

// plan says in words what apply does.
func (c *constraints) plan(stops []string) []string {
	var lines []string
	for _, s := range c.cib.CheckRules(c.rules) {
		switch {
		case s.Intact:
		case s.Exists:
			lines = append(lines, "replace "+s.Reason+": "+s.XML(c.version))
		default:
			lines = append(lines, "create "+s.XML(c.version))
		}
	}
	if c.clusterOptions {
		for _, o := range c.cib.OptionChanges() {
			if o.Needed() {
				lines = append(lines, fmt.Sprintf("set %s (%s)", optionLine(o), o.Reason))
			}
		}
		if !c.cib.HasAlert() {
			lines = append(lines, "add "+pcmk.AlertXML+" ("+alertReason+")")
		}
	}
	for _, s := range stops {
		lines = append(lines, "STOPS: "+s)
	}
	return lines
}

func (c *constraints) write(ctx context.Context) error {
	if err := c.cluster.ApplyRules(ctx, c.version, c.rules); err != nil {
		return err
	}
	for _, r := range c.rules {
		fmt.Fprintf(c.out, "in place: %s\n", r.ID())
	}
	if !c.clusterOptions {
		return nil
	}
	for _, o := range c.cib.OptionChanges() {
		if !o.Needed() {
			continue
		}
		if err := c.cluster.SetOption(ctx, o.Name, o.After); err != nil {
			return err
		}
		fmt.Fprintf(c.out, "in place: %s\n", optionLine(o))
	}
	if c.cib.HasAlert() {
		return nil
	}
	if err := c.cluster.AddAlert(ctx); err != nil {
		return err
	}
	fmt.Fprintf(c.out, "in place: alert %s\n", pcmk.AlertAgent)
	return nil
}

func (c *constraints) runRemove(cmd *cobra.Command) error {
	var ids []string
	for _, l := range c.leases {
		ids = append(ids, c.cib.LeaseConstraints(l.Name)...)
	}
	what := fmt.Sprintf("remove %s: Pacemaker may then run the resources on any node, with or without a lease", strings.Join(ids, ", "))
	switch {
	case len(ids) == 0 && c.cib.LeftAlert():
		what = "remove the alert agent, which the last rule has left behind"
	case len(ids) == 0:
		_, err := fmt.Fprintln(c.out, "nothing to do: there is no rule of leasedog")
		return err
	}
	if c.dryRun {
		_, err := fmt.Fprintln(c.out, what)
		return err
	}
	if err := confirm(cmd, c.yes, what); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), pacemakerTime)
	defer cancel()
	var failed []error
	for _, l := range c.leases {
		gone, err := c.cluster.RemoveRules(ctx, l.Name)
		for _, id := range gone {
			fmt.Fprintf(c.out, "removed: %s\n", id)
		}
		failed = append(failed, err)
	}
	gone, err := c.cluster.RemoveAlert(ctx)
	if gone {
		fmt.Fprintf(c.out, "removed: alert %s\n", pcmk.AlertAgent)
	}
	return errors.Join(append(failed, err)...)
}

// wouldStop names every guarded resource that runs, or may run, on a node which does not hold its lease.
func (c *constraints) wouldStop(status pcmk.Status) []string {
	var out []string
	for _, r := range c.rules {
		top, ok := status.Find(r.Resource)
		if !ok {
			out = append(out, fmt.Sprintf("%s is not in the cluster's status: where it runs is unknown", r.Resource))
			continue
		}
		nodes, known := activeNodes(top, r.Role)
		if !known {
			out = append(out, fmt.Sprintf("where %s runs is unknown", r.Resource))
		}
		for _, n := range nodes {
			if !c.holds(n, r.Lease) {
				out = append(out, fmt.Sprintf("%s runs on %s, which does not hold lease %s", r.Resource, n, r.Lease))
			}
		}
	}
	return out
}

// holds reports whether the rule of a lease is open on a node: its attribute is an epoch. What cannot be read is not.
func (c *constraints) holds(node, name string) bool {
	a, err := c.cib.Attribute(node, pcmk.AttributeName(name))
	if err != nil || a.State != pcmk.Present {
		return false
	}
	epoch, err := strconv.ParseUint(a.Value, 10, 64)
	return err == nil && epoch > 0 && epoch <= uint64(lease.MaxEpoch)
}

// activeNodes lists the nodes on which a part of r is active in the guarded role, and whether that could be told.
func activeNodes(r pcmk.Resource, guarded pcmk.Role) (nodes []string, known bool) {
	if r.Kind != pcmk.KindPrimitive {
		known = true
		for _, child := range r.Children {
			more, ok := activeNodes(child, guarded)
			nodes, known = append(nodes, more...), known && ok
		}
		slices.Sort(nodes)
		return slices.Compact(nodes), known
	}
	if r.Active == pcmk.No {
		return nil, true
	}
	if guarded == pcmk.RolePromoted && (r.Role == pcmk.RoleUnpromoted || r.Role == pcmk.RoleStopped) {
		return nil, true
	}
	return r.Nodes, r.Active == pcmk.Yes && r.Role != pcmk.RoleUnknown
}
