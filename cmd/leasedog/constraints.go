package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/leasedog/leasedog/command"
	"github.com/leasedog/leasedog/config"
	"github.com/leasedog/leasedog/pcmk"
)

// allLeases is the word for every lease of the configuration, which config refuses as a lease's name.
const allLeases = "all"

// pacemakerTime bounds everything that constraints asks of Pacemaker's tools, which hang when a daemon does.
const pacemakerTime = time.Minute

// constraints is one run of the verb.
type constraints struct {
	o                             *options
	format                        string
	apply, remove, clusterOptions bool
	dryRun, yes, force            bool
	tools                         []string
	cluster                       *pcmk.Cluster
	cib                           *pcmk.CIB
	leases                        []config.Lease
	rules                         []pcmk.Rule
	version                       string
	out                           io.Writer
}

func newConstraintsCommand(o *options) *cobra.Command {
	c := &constraints{o: o}
	cmd := &cobra.Command{
		Use: "constraints LEASE|all", Args: oneLease,
		Short: "print or apply the Pacemaker rules that keep guarded resources off nodes without the lease",
		Long: "Prints the location rules of a lease for pcs, crmsh or as XML. With --apply they are written and read back; that " +
			"is refused while a guarded resource runs on a node that does not hold the lease, since the rule would stop it there. " +
			"--remove takes away exactly what --apply made, with the last rule the alert agent too. --cluster-options does the same for the cluster's properties and the " +
			"alert agent.",
		RunE: func(cmd *cobra.Command, args []string) error {
			c.out = cmd.OutOrStdout()
			if err := c.checkFlags(); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), pacemakerTime)
			defer cancel()
			if err := c.read(ctx, args[0]); err != nil {
				return err
			}
			switch {
			case c.remove:
				return c.runRemove(cmd)
			case c.apply:
				return c.runApply(ctx, cmd)
			}
			return c.print()
		},
	}
	f := cmd.Flags()
	f.StringVar(&c.format, "format", "pcs", "print for `pcs`, crmsh or xml")
	f.BoolVar(&c.apply, "apply", false, "write the rules")
	f.BoolVar(&c.remove, "remove", false, "remove the rules that --apply wrote")
	f.BoolVar(&c.clusterOptions, "cluster-options", false, "also the cluster's properties and the alert agent, each with its reason")
	f.BoolVar(&c.dryRun, "dry-run", false, "only print what would be done")
	f.BoolVar(&c.yes, "yes", false, "do not ask")
	f.BoolVar(&c.force, "force", false, "apply although resources will stop; they are named")
	f.StringSliceVar(&c.tools, "tools", nil, "look for Pacemaker's tools in these `folders`")
	return cmd
}

func (c *constraints) checkFlags() error {
	if err := c.o.noJSON("constraints"); err != nil {
		return err
	}
	switch {
	case c.format != "pcs" && c.format != "crmsh" && c.format != "xml":
		return usageError("--format %s: use pcs, crmsh or xml", c.format)
	case c.apply && c.remove:
		return usageError("--apply and --remove exclude each other")
	case c.remove && c.clusterOptions:
		return usageError("--remove leaves the cluster's properties alone: what they were before is not known")
	case c.force && !c.apply:
		return usageError("--force is for --apply")
	}
	return nil
}

// read loads the configuration, and from Pacemaker what the rules depend on.
func (c *constraints) read(ctx context.Context, name string) error {
	a, err := config.LoadAgent(c.o.configPath)
	if err != nil {
		return err
	}
	l, configured := a.Lease(name)
	switch {
	case name == allLeases:
		c.leases = a.Leases
	case configured:
		c.leases = []config.Lease{l}
	case c.remove: // a lease that the configuration names no longer leaves its rules behind
		c.leases = []config.Lease{{Name: name}}
	default:
		return c.unknown(name, a)
	}
	if err := c.connect(ctx); err != nil {
		return err
	}
	node := a.Node
	if node == "" {
		if node, err = c.cluster.LocalNode(ctx); err != nil {
			return err
		}
	}
	if !c.remove {
		return c.makeRules(node)
	}
	if name != allLeases && !configured && len(c.cib.LeaseConstraints(name)) == 0 {
		return c.unknown(name, a)
	}
	return nil // also for resources that do not exist any more
}

// connect finds Pacemaker's tools, and reads its version and configuration.
func (c *constraints) connect(ctx context.Context) error {
	tools, err := pcmk.FindTools(c.tools...)
	if err != nil {
		return err
	}
	c.cluster = pcmk.New(command.Exec{}, tools, pcmk.Options{})
	if c.version, err = c.cluster.Version(ctx); err != nil {
		return err
	}
	if c.cib, err = c.cluster.CIB(ctx); err != nil {
		return err
	}
	c.version = c.cib.RuleVersion(c.version)
	return nil
}

// makeRules makes the rules of every lease, as the configuration that was read has its resources.
func (c *constraints) makeRules(node string) error {
	var refused []error
	for _, l := range c.leases {
		plan, err := c.cluster.PlanFrom(c.cib, node, l.Resources)
		if err != nil {
			refused = append(refused, fmt.Errorf("lease %s: %w", l.Name, err))
			continue
		}
		c.rules = append(c.rules, plan.Rules(l.Name)...)
	}
	return errors.Join(refused...)
}

func (c *constraints) unknown(name string, a config.Agent) error {
	return &exitError{code: exitFailure, err: fmt.Errorf("there is no lease %q in %s", name, c.o.configPath),
		hint: "the leases are: " + strings.Join(leaseNames(a), ", ") + `; "all" means each`}
}

func leaseNames(a config.Agent) []string {
	var names []string
	for _, l := range a.Leases {
		names = append(names, l.Name)
	}
	return names
}

func (c *constraints) print() error {
	for _, r := range c.rules {
		text := ""
		switch c.format {
		case "pcs":
			text = r.Pcs(c.version)
		case "crmsh":
			text = r.Crmsh(c.version)
		case "xml":
			text = r.XML(c.version)
		}
		if _, err := fmt.Fprintln(c.out, text); err != nil {
			return err
		}
	}
	if c.clusterOptions {
		c.printOptions()
	}
	return nil
}

// printOptions prints every property with its reason, and the command for those that must change.
func (c *constraints) printOptions() {
	begin, end := "# ", ""
	if c.format == "xml" {
		begin, end = "<!-- ", " -->"
	}
	for _, o := range c.cib.OptionChanges() {
		fmt.Fprintf(c.out, "%s%s: %s%s\n", begin, optionLine(o), o.Reason, end)
		if !o.Needed() {
			continue
		}
		switch c.format {
		case "pcs":
			fmt.Fprintf(c.out, "pcs property set %s=%s\n", o.Name, o.After)
		case "crmsh":
			fmt.Fprintf(c.out, "crm configure property %s=%s\n", o.Name, o.After)
		case "xml":
			fmt.Fprintf(c.out, "<nvpair id=\"cib-bootstrap-options-%[1]s\" name=\"%[1]s\" value=\"%[2]s\"/>\n", o.Name, o.After)
		}
	}
	if c.cib.HasAlert() {
		return
	}
	fmt.Fprintf(c.out, "%salert agent: %s%s\n", begin, alertReason, end)
	switch c.format {
	case "pcs":
		fmt.Fprintf(c.out, "pcs alert create path=%s id=leasedog\n", pcmk.AlertAgent)
	case "crmsh":
		fmt.Fprintf(c.out, "crm configure alert leasedog %s\n", pcmk.AlertAgent)
	case "xml":
		fmt.Fprintln(c.out, pcmk.AlertXML)
	}
}

// alertReason is why Pacemaker should tell the agent what happens.
const alertReason = "leasedog hears of a failed resource at once, and has to look at the cluster half as often"

func optionLine(o pcmk.OptionChange) string {
	before := "not set"
	if o.Before.State == pcmk.Present {
		before = o.Before.Value
	}
	if !o.Needed() {
		return fmt.Sprintf("%s stays %s", o.Name, before)
	}
	return fmt.Sprintf("%s from %s to %s", o.Name, before, o.After)
}
