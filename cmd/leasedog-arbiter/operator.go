package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/leasedog/leasedog/arbiter/api"
	"github.com/leasedog/leasedog/lease"
)

// What only a human can know: that a node is off. These verbs ask for it in words that cannot be typed by habit.

func newRecoverCommand(o *options) *cobra.Command {
	yes := false
	cmd := &cobra.Command{
		Use: "recover CLUSTER", Short: "end a recovery although not every node has reported", Args: exactly(1),
		Long: "End a recovery although not every node has reported. You vouch that a node which has not reported holds no\n" +
			"lease: it is off, or was never part of the cluster. A node that runs and holds would run everything twice.",
		RunE: func(cmd *cobra.Command, args []string) error {
			cluster := args[0]
			if !yes {
				if err := confirm(cmd, "the cluster's name", cluster, fmt.Sprintf("Every node of cluster %s that has not reported must "+
					"be off, or everything may run twice.", cluster)); err != nil {
					return err
				}
			}
			if _, err := order(cmd, o, operatorPath(api.PathRecover, cluster, "", ""), struct{}{}); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "cluster %s: recovery ended\n", cluster)
			return err
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

func newFreeCommand(o *options) *cobra.Command {
	var node string
	yes, dry := false, false
	cmd := &cobra.Command{
		Use: "free CLUSTER LEASE --holder-is-off NODE", Short: "give away a lease whose holder is off", Args: exactly(2),
		Long: "Give away a lease whose holder is off, such as one that is paused without an end by a node that will not come back.\n" +
			"You vouch that the holder is off. If it runs, everything runs twice, and nothing resets it. It is refused while\n" +
			"the holder is heard.",
		RunE: func(cmd *cobra.Command, args []string) error {
			cluster, name := args[0], args[1]
			if node == "" {
				return usageError("free needs --holder-is-off NODE: only of a node that is off may a lease be taken")
			}
			path := operatorPath(api.PathFree, cluster, name, "")
			a, err := order(cmd, o, path, api.Free{HolderIsOff: node, Check: true})
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			what := fmt.Sprintf("lease %s of cluster %s, epoch %d, is taken from %s", name, cluster, a.Epoch, node)
			if dry {
				_, err := fmt.Fprintf(out, "would do: %s; %s\n", what, a.Reason)
				return err
			}
			if !yes {
				if err := confirm(cmd, "the node's name", node, fmt.Sprintf("%s, and %s.\n%s must be off: if it runs, everything runs "+
					"twice, and nothing resets it.", upper(what), a.Reason, node)); err != nil {
					return err
				}
			}
			if a, err = order(cmd, o, path, api.Free{HolderIsOff: node}); err != nil {
				return err
			}
			_, err = fmt.Fprintf(out, "lease %s of cluster %s is free: %s\n%s may come back by a boot only: its agent then waits "+
				"like any other\n", name, cluster, a.Reason, node)
			return err
		},
	}
	cmd.Flags().StringVar(&node, "holder-is-off", "", "the node that holds the lease, and is off")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say what would be done")
	return cmd
}

func newUnbarCommand(o *options) *cobra.Command {
	yes := false
	cmd := &cobra.Command{
		Use: "unbar CLUSTER NODE", Short: "let a barred node ask for leases again", Args: exactly(2),
		Long: "Let a barred node ask for leases again without a new boot. Its peer was told that this node is as good as off: what no\n" +
			"lease guards may run on both. A reboot of the node ends the bar too, and is the better way.",
		RunE: func(cmd *cobra.Command, args []string) error {
			cluster, node := args[0], args[1]
			if !yes {
				if err := confirm(cmd, "the node's name", node, fmt.Sprintf("Node %s of cluster %s was fenced, and its peer counts on "+
					"that: what no lease guards may run on both.\nA reboot of %s ends the bar too.", node, cluster, node)); err != nil {
					return err
				}
			}
			if _, err := order(cmd, o, operatorPath(api.PathUnbar, cluster, "", node), struct{}{}); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "node %s of cluster %s may ask for leases again\n", node, cluster)
			return err
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

func operatorPath(path, cluster, name, node string) string {
	return strings.NewReplacer("{cluster}", url.PathEscape(cluster), "{lease}", url.PathEscape(name), "{node}", url.PathEscape(node)).
		Replace(path)
}

// order has the running arbiter carry out a human's word. What is not done is an error.
func order(cmd *cobra.Command, o *options, path string, body any) (api.Answer, error) {
	var a api.Answer
	if err := control(cmd.Context(), o.configPath, http.MethodPost, path, body, &a); err != nil {
		return a, err
	}
	switch lease.Verdict(a.Verdict) {
	case lease.OK:
		return a, nil
	case lease.Unavailable:
		return a, &exitError{code: exitTryAgain, err: fmt.Errorf("%s: not now: %s", cmd.Name(), a.Reason)}
	}
	return a, fmt.Errorf("%s: %s", cmd.Name(), a.Reason)
}

// confirm asks on a terminal for a word to be typed, and refuses elsewhere.
func confirm(cmd *cobra.Command, whose, word, warning string) error {
	nobody := usageError("%s asks before it acts, and this is no terminal: add --yes", cmd.Name())
	in, ok := cmd.InOrStdin().(*os.File)
	if !ok {
		return nobody
	}
	if info, err := in.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return nobody
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s\nType %s to go on: ", warning, whose)
	line, err := bufio.NewReader(io.LimitReader(in, 1024)).ReadString('\n')
	if err != nil && line == "" { // /dev/null
		return nobody
	}
	if err != nil || strings.TrimSpace(line) != word {
		return &exitError{code: exitFailure, err: fmt.Errorf("%s: not confirmed, nothing was done", cmd.Name())}
	}
	return nil
}

func upper(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
