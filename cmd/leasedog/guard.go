package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/spf13/cobra"

	"github.com/leasedog/leasedog/guard"
	"github.com/leasedog/leasedog/guard/guardapi"
)

// newGuardCommand returns "leasedog guard", which leasedog-guard.service runs and nobody types. It reads no
// configuration file: the agent has written what the guard must know to /run/leasedog/guard.json.
func newGuardCommand() *cobra.Command {
	var preflight, asJSON bool
	opt := guard.Options{Version: version}
	cmd := &cobra.Command{
		Use:           "guard",
		Short:         "the dead man's switch (started by systemd)",
		Hidden:        true,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			opt.Logf = func(format string, args ...any) {
				fmt.Fprintf(cmd.ErrOrStderr(), "leasedog-guard: "+format+"\n", args...)
			}
			if preflight {
				return runPreflight(cmd, opt, asJSON)
			}
			// Always exit code 0: a guard that ends by itself has nothing armed, and a unit that enters the failed
			// state resets the node.
			runtime.GOMAXPROCS(1) // as in the agent
			if err := guard.Run(opt); err != nil {
				opt.Logf("ended: %v", err)
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&preflight, "preflight", false, "try everything that a guard needs, without harm, and exit")
	flags.BoolVar(&asJSON, "json", false, "with --preflight: print the report as JSON")
	flags.StringVar(&opt.SetupPath, "setup", guardapi.SetupPath, "what the agent wrote for the guard")
	flags.StringVar(&opt.SocketPath, "socket", guardapi.SocketPath, "where to listen")
	flags.StringVar(&opt.StateDir, "state-dir", "/var/lib/leasedog", "where cause records are kept")
	return cmd
}

// errPreflight makes the exit code 1, which ExecCondition= takes as "skip", never as "failed".
var errPreflight = errors.New("the guard cannot run here")

func runPreflight(cmd *cobra.Command, opt guard.Options, asJSON bool) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), 5*time.Second)
	defer cancel()
	report, err := guard.Preflight(ctx, opt)
	if asJSON {
		if err := json.NewEncoder(cmd.OutOrStdout()).Encode(report); err != nil {
			return fmt.Errorf("print the report: %w", err)
		}
	}
	for _, warning := range report.Warnings {
		opt.Logf("warning: %s", warning)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errPreflight, err)
	}
	return nil
}
