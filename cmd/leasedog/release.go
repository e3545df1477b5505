package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/leasedog/leasedog/agent/control"
)

func newReleaseCommand(o *options) *cobra.Command {
	var yes, dryRun bool
	cmd := &cobra.Command{
		Use: "release LEASE", Args: oneLease,
		Short: "stop a lease's resources here and give the lease back",
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := find(cmd.Context(), o, args[0])
			if err != nil {
				return err
			}
			what := fmt.Sprintf("now: %s\nplan: stop %s on this node and release the lease; a waiting node may take it",
				headline(l), resourceList(l))
			if dryRun {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), what)
				return err
			}
			if err := confirm(cmd, yes, what); err != nil {
				return err
			}
			return act(cmd, o, control.Request{Verb: control.VerbRelease, Lease: l.Name})
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only print what would be done")
	return cmd
}
