package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/leasedog/leasedog/agent/control"
)

func newPauseCommand(o *options) *cobra.Command {
	var (
		length      time.Duration
		yes, dryRun bool
	)
	cmd := &cobra.Command{
		Use: "pause LEASE", Args: oneLease,
		Short: "keep a lease on this node without a guard, for work on the cluster",
		Long: "Pauses a lease that this node holds: its resources run on, the other node is denied the lease, and neither the " +
			"agent nor the guard stops or resets anything, whatever happens. Without --for it lasts until leasedog resume; " +
			"with --for it ends by itself, and if the arbiter cannot be reached then, the resources are stopped. Pacemaker's " +
			"maintenance mode pauses by itself.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("for") && length <= 0 {
				return usageError("--for %v: a pause has a length above 0; leave it out for one without an end", length)
			}
			l, err := find(cmd.Context(), o, args[0])
			if err != nil {
				return err
			}
			until := "until leasedog resume " + l.Name
			if length > 0 {
				until = fmt.Sprintf("for %v", length)
			}
			what := fmt.Sprintf("now: %s\nplan: pause it %s: %s on, the peer is denied, and nothing resets this node if it hangs",
				headline(l), until, runs(l))
			if dryRun {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), what)
				return err
			}
			if err := confirm(cmd, yes, what); err != nil {
				return err
			}
			return act(cmd, o, control.Request{Verb: control.VerbPause, Lease: l.Name, ForS: length.Seconds()})
		},
	}
	f := cmd.Flags()
	f.DurationVar(&length, "for", 0, "end it by itself after `duration`")
	f.BoolVar(&yes, "yes", false, "do not ask")
	f.BoolVar(&dryRun, "dry-run", false, "only print what would be done")
	return cmd
}

// runs is "a runs" or "a and b run".
func runs(l control.Lease) string {
	verb := " runs"
	if len(l.Resources) > 1 {
		verb = " run"
	}
	return resourceList(l) + verb
}

func newResumeCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use: "resume LEASE", Args: oneLease,
		Short: "end a pause",
		Long: "Ends a pause of this node: a renewal is acknowledged and the guard armed before the arbiter is told. At another " +
			"node it only asks the holder, by way of the arbiter; with a silent holder nothing changes.",
		RunE: func(cmd *cobra.Command, args []string) error {
			return act(cmd, o, control.Request{Verb: control.VerbResume, Lease: args[0]})
		},
	}
}
