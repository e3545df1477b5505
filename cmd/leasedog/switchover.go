package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/leasedog/leasedog/agent/control"
)

func newSwitchoverCommand(o *options) *cobra.Command {
	var (
		to                string
		wait, yes, dryRun bool
		limit             time.Duration
	)
	cmd := &cobra.Command{
		Use: "switchover LEASE --to NODE", Args: oneLease,
		Short: "move a lease and its resources to the other node",
		Long: "Moves a lease to another node: the holder stops its resources in Pacemaker's own order, proves them stopped " +
			"and releases the lease, then the other node starts them. The lease is renewed meanwhile; nothing is forced.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if to == "" {
				return usageError("switchover needs --to NODE")
			}
			l, err := find(cmd.Context(), o, args[0])
			if err != nil {
				return err
			}
			if l.HolderKnown && l.Holder == to {
				return &exitError{code: exitFailure, err: fmt.Errorf("%s holds lease %s already", to, l.Name)}
			}
			what := fmt.Sprintf("now: %s\nplan: stop %s, release the lease, start on %s", headline(l), resourceList(l), to)
			if dryRun {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), what)
				return err
			}
			if err := confirm(cmd, yes, what); err != nil {
				return err
			}
			if err := act(cmd, o, control.Request{Verb: control.VerbSwitchover, Lease: l.Name, To: to}); err != nil || !wait {
				return err
			}
			return settle(cmd, o, l.Name, limit, func(l control.Lease) bool { return l.HolderKnown && l.Holder == to })
		},
	}
	f := cmd.Flags()
	f.StringVar(&to, "to", "", "the `node` that is to hold")
	f.BoolVar(&wait, "wait", false, "wait until that node holds")
	f.DurationVar(&limit, "timeout", defaultWait, "wait no longer than `duration`")
	f.BoolVar(&yes, "yes", false, "do not ask")
	f.BoolVar(&dryRun, "dry-run", false, "only print what would be done")
	return cmd
}
