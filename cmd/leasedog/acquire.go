package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/leasedog/leasedog/agent/control"
)

func newAcquireCommand(o *options) *cobra.Command {
	var (
		wait  bool
		limit time.Duration
	)
	cmd := &cobra.Command{
		Use: "acquire LEASE", Args: oneLease,
		Short: "let this node ask for a lease (acquire = manual, or after a release)",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := act(cmd, o, control.Request{Verb: control.VerbAcquire, Lease: args[0]}); err != nil || !wait {
				return err
			}
			return settle(cmd, o, args[0], limit, func(l control.Lease) bool { return l.State == control.StateHeld })
		},
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until this node holds")
	cmd.Flags().DurationVar(&limit, "timeout", defaultWait, "wait no longer than `duration`")
	return cmd
}
