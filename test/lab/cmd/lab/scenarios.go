package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/leasedog/leasedog/test/lab"
)

func listCommand() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List the scenarios", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
			for _, s := range lab.Scenarios() {
				mark := " "
				if s.InTest {
					mark = "●"
				}
				bound := "must overlap"
				if !s.Control {
					bound = fmt.Sprintf("gap ≤ %.2f s", s.Bound.Seconds())
				}
				fmt.Fprintf(w, "%s %s\t%s\t%s\n", mark, s.Name, bound, s.About)
			}
			return w.Flush()
		}}
}

// runFlags are what "lab run" takes.
type runFlags struct {
	n, jobs     int
	seed        uint64
	output      string
	suite       string
	keep, short bool
	reuse       bool
	fence       bool
}

func runCommand(o *options) *cobra.Command {
	f := runFlags{seed: uint64(time.Now().UnixNano())}
	cmd := &cobra.Command{Use: "run SCENARIO...|all", Short: "Play scenarios and judge them", Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			selected, err := lab.Select(args, f.short)
			if err != nil {
				return err
			}
			if f.fence {
				if selected, err = lab.WithFencing(selected); err != nil {
					return err
				}
			}
			clusters, err := o.openAll(min(f.jobs, len(selected)))
			if err != nil {
				return err
			}
			return play(cmd, clusters, selected, f)
		}}
	cmd.Flags().IntVarP(&f.n, "runs", "n", 1, "how often to play each")
	cmd.Flags().IntVarP(&f.jobs, "jobs", "j", 1, "how many clusters play side by side")
	cmd.Flags().Uint64Var(&f.seed, "seed", f.seed, "of everything random")
	cmd.Flags().StringVarP(&f.output, "output", "o", "text", "text or json")
	cmd.Flags().StringVar(&f.suite, "suite", "bookworm", "Debian release")
	cmd.Flags().BoolVar(&f.keep, "keep", false, "leave the last cluster up")
	cmd.Flags().BoolVar(&f.reuse, "reuse", false, "start on the cluster that is up, with the programs it was booted with")
	cmd.Flags().BoolVar(&f.fence, "fence", false, "play the rows with stonith-enabled=true and fence_leasedog as the only device")
	cmd.Flags().BoolVar(&f.short, "short", false, "only the rows of make test")
	return cmd
}

// openAll returns as many clusters as are to play side by side: NAME, NAME2, NAME3, …
func (o *options) openAll(jobs int) ([]*lab.Cluster, error) {
	if jobs < 1 || jobs > maxJobs {
		return nil, fmt.Errorf("--jobs %d: must be 1 to %d", jobs, maxJobs)
	}
	clusters := make([]*lab.Cluster, jobs)
	for i := range clusters {
		name := o.name
		if i > 0 {
			name += strconv.Itoa(i + 1)
		}
		var err error
		if clusters[i], err = lab.Open(name, os.Stderr); err != nil {
			return nil, err
		}
	}
	return clusters, nil
}

// maxJobs keeps the names within what the kernel allows; no machine that the lab was tried on has work for more.
const maxJobs = 8

// play plays the scenarios and prints the table.
func play(cmd *cobra.Command, clusters []*lab.Cluster, selected []lab.Scenario, f runFlags) error {
	ctx := cmd.Context()
	if !f.reuse { // what is up may have been booted with older programs
		if err := lab.DownAll(ctx, clusters); err != nil {
			return err
		}
	}
	fmt.Fprintf(os.Stderr, "%d scenarios, %d runs each, %d side by side, seed %d\n", len(selected), f.n, len(clusters), f.seed)
	results := lab.PlayAll(ctx, clusters, selected, f.suite, f.n, f.seed, sayWith(clusters))
	if !f.keep {
		// A signal ends the plays; the clusters are taken down all the same.
		if err := lab.DownAll(context.WithoutCancel(ctx), clusters); err != nil {
			fmt.Fprintln(os.Stderr, "lab:", err)
		}
	}
	pass := !slices.ContainsFunc(results, func(r lab.Result) bool { return !r.Pass })
	if f.output == "json" {
		enc := json.NewEncoder(os.Stdout)
		enc.SetIndent("", "  ")
		if err := enc.Encode(results); err != nil {
			return err
		}
	} else {
		printResults(results)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if !pass {
		return errFailed
	}
	return nil
}

// sayWith prints what happens, with the cluster's name where several play.
func sayWith(clusters []*lab.Cluster) func(*lab.Cluster, string) {
	return func(c *lab.Cluster, line string) {
		if len(clusters) > 1 {
			line = fmt.Sprintf("%-6s %s", c.ID, line)
		}
		fmt.Fprintln(os.Stderr, line)
	}
}

func printResults(results []lab.Result) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "scenario\truns\toverlap s\tgap s\tallowed s\tvoid\t")
	for _, r := range results {
		verdict, bound := "ok", fmt.Sprintf("%.2f", r.Bound)
		if r.Control {
			verdict, bound = "ok (control: must overlap)", "-"
		}
		if !r.Pass {
			verdict = "FAILED"
		}
		fmt.Fprintf(w, "%s\t%d\t%.3f\t%.2f\t%s\t%d\t%s\n", r.Name, r.N, r.Overlap, r.Gap, bound, r.Voids, verdict)
	}
	w.Flush()
	for _, r := range results {
		if !r.Pass {
			for _, line := range r.Evidence {
				fmt.Printf("%s: %s\n", r.Name, line)
			}
		}
	}
}

func demoCommand(o *options) *cobra.Command {
	return &cobra.Command{Use: "demo", Short: "Tell the whole story: a split that is survived with one copy", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := o.open()
			if err != nil {
				return err
			}
			ok, err := c.Demo(cmd.Context(), os.Stdout)
			if err == nil && !ok {
				err = errFailed
			}
			return err
		}}
}
