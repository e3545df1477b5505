package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/leasedog/leasedog/agent/cause"
	"github.com/leasedog/leasedog/agent/control"
)

// stateDir is where the guard and the agent keep what must outlive a reset.
const stateDir = "/var/lib/leasedog"

const bootIDPath = "/proc/sys/kernel/random/boot_id"

func newWhyCommand(o *options) *cobra.Command {
	dir := stateDir
	cmd := &cobra.Command{
		Use: "why", Args: noArgs,
		Short: "say why this node was reset, or what happened to its leases",
		Long: "Reads the record that is written ahead of every reset, which needs no running agent, and asks the agent for " +
			"what happened since it started.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			boot, err := os.ReadFile(bootIDPath)
			if err != nil {
				return fmt.Errorf("read the boot id: %w", err)
			}
			records, damage := cause.Read(dir)
			if damage != nil {
				fmt.Fprintf(cmd.ErrOrStderr(), "leasedog: %v\n", damage)
			}
			events, err := control.NewClient(o.socketPath).Why(cmd.Context())
			if err != nil {
				fmt.Fprintf(cmd.ErrOrStderr(), "leasedog: %v; only the record of resets is shown\n", err)
			}
			if err := printWhy(cmd, o, records, strings.TrimSpace(string(boot)), events); err != nil {
				return err
			}
			if damage != nil || err != nil && !errors.Is(err, control.ErrNotRunning) {
				return &exitError{code: exitFailure}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "state-dir", stateDir, "`folder` of the record")
	return cmd
}

func printWhy(cmd *cobra.Command, o *options, records []cause.Record, boot string, events []control.Event) error {
	w := cmd.OutOrStdout()
	if o.output == outputJSON {
		return json.NewEncoder(w).Encode(struct {
			Schema  int             `json:"schema"`
			BootID  string          `json:"boot_id"`
			Records []cause.Record  `json:"records"`
			Events  []control.Event `json:"events"`
		}{1, boot, append([]cause.Record{}, records...), append([]control.Event{}, events...)})
	}
	text, ok := cause.Why(records, boot)
	if !ok {
		text = "no reset of this node is on record"
	}
	fmt.Fprintln(w, text)
	for _, e := range events {
		fmt.Fprintln(w, eventLine(e))
	}
	return nil
}

func eventLine(e control.Event) string {
	line := e.At
	if e.Lease != "" {
		line += "  " + e.Lease
	}
	if e.Epoch > 0 {
		line += fmt.Sprintf(" epoch %d", e.Epoch)
	}
	line += "  " + e.What
	if e.Cause != "" {
		line += ": " + e.Cause
	}
	return line
}
