package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/leasedog/leasedog/agent/control"
)

// handoverPace is how often the agent is asked whether it is done.
const handoverPace = 50 * time.Millisecond

func newHandoverCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use: "handover", Args: noArgs,
		Short: "wait until the leases are left before Pacemaker is stopped (leasedog-handover.service runs it)",
		Long: "Returns at once when Pacemaker is not being stopped or no lease is held here. Else the agent leaves every lease, " +
			"and this waits for the end of that: the peer then starts the resources while Pacemaker still runs here. " +
			"It changes nothing by itself; leasedog-handover.service bounds how long it waits.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			message, err := waitForHandover(cmd.Context(), control.NewClient(o.socketPath), handoverPace)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), message)
			return err
		},
	}
}

type doer interface {
	Do(ctx context.Context, r control.Request) (string, error)
}

// waitForHandover asks until the agent has nothing left to wait for, or cannot be asked.
func waitForHandover(ctx context.Context, agent doer, pace time.Duration) (string, error) {
	for {
		message, err := agent.Do(ctx, control.Request{Verb: control.VerbHandover})
		var refusal *control.Error
		if !errors.As(err, &refusal) || refusal.Code != control.CodeTryAgain {
			return message, err
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(pace):
		}
	}
}
