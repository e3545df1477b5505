package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/leasedog/leasedog/test/lab"
)

func benchCommand(o *options) *cobra.Command {
	length := time.Minute
	var asJSON, keep bool
	cmd := &cobra.Command{Use: "bench", Short: "Measure what holding a lease costs, beside Pacemaker's own daemons", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			c, err := o.open()
			if err != nil {
				return err
			}
			if err := c.Up(cmd.Context(), lab.DefaultConfig()); err != nil {
				return err
			}
			if !keep {
				defer func() { err = errors.Join(err, c.Down(cmd.Context())) }()
			}
			b, err := c.Bench(cmd.Context(), length)
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(b)
			}
			fmt.Fprint(cmd.OutOrStdout(), b)
			if !b.Good() {
				return errors.New("that is more than it may cost")
			}
			return nil
		}}
	cmd.Flags().DurationVar(&length, "for", length, "how long to measure")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the figures as JSON")
	cmd.Flags().BoolVar(&keep, "keep", false, "leave the cluster up")
	return cmd
}
