package main

import (
	"errors"
	"fmt"
	"net/http"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/leasedog/leasedog/arbiter/api"
)

// newRemovableCommand is what the packages ask before they go: without its arbiter every holder stops its resources.
func newRemovableCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use: "removable", Short: "say whether the arbiter may be removed (the packages ask before they go)", Args: exactly(0),
		Long: "Fails, and names them, while the arbiter runs and keeps leases that somebody holds. One that was stopped may be removed.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var s api.Status
			err := control(cmd.Context(), o.configPath, http.MethodGet, api.PathClusters, nil, &s)
			if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED) {
				return nil // nobody listens
			}
			if err != nil {
				return err
			}
			held := 0
			for _, c := range s.Clusters {
				for _, l := range c.Leases {
					if l.Holder == "" || l.State == "free" || l.State == "expired" || l.State == "lapsed" {
						continue
					}
					held++
					fmt.Fprintf(cmd.ErrOrStderr(), "leasedog-arbiter: lease %s of cluster %s is %s, holder %s\n", l.Lease, c.Cluster, l.State, l.Holder)
				}
			}
			if held > 0 {
				return &exitError{code: exitFailure, err: errors.New("the arbiter must not be removed now: whoever holds a lease would lose it and " +
					"stop its resources; nothing was changed"), hint: "move those clusters to another arbiter, or stop this one first: " +
					"systemctl disable --now leasedog-arbiter"}
			}
			return nil
		},
	}
}
