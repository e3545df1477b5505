package main

import (
	"errors"

	"github.com/spf13/cobra"
)

func newAgentCommand(*options) *cobra.Command {
	return &cobra.Command{Use: "agent", Short: "the node daemon (started by systemd)", Hidden: true, Args: noArgs,
		RunE: func(*cobra.Command, []string) error { return errors.New("the agent is not part of this build") }}
}
