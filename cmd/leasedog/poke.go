package main

import (
	"github.com/spf13/cobra"

	"github.com/leasedog/leasedog/agent/control"
)

func newPokeCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use: "poke", Args: noArgs,
		Short: "let the agent look at the cluster now (Pacemaker's alert agent runs it)",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return act(cmd, o, control.Request{Verb: control.VerbPoke})
		},
	}
}
