package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
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
	n           int
	seed        uint64
	output      string
	suite       string
	keep, short bool
	reuse       bool
}

func runCommand(o *options) *cobra.Command {
	f := runFlags{seed: uint64(time.Now().UnixNano())}
	cmd := &cobra.Command{Use: "run SCENARIO...|all", Short: "Play scenarios and judge them", Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			selected, err := lab.Select(args, f.short)
			if err != nil {
				return err
			}
			c, err := o.open()
			if err != nil {
				return err
			}
			return play(cmd, c, selected, f)
		}}
	cmd.Flags().IntVarP(&f.n, "runs", "n", 1, "how often to play each")
	cmd.Flags().Uint64Var(&f.seed, "seed", f.seed, "of everything random")
	cmd.Flags().StringVarP(&f.output, "output", "o", "text", "text or json")
	cmd.Flags().StringVar(&f.suite, "suite", "bookworm", "Debian release")
	cmd.Flags().BoolVar(&f.keep, "keep", false, "leave the last cluster up")
	cmd.Flags().BoolVar(&f.reuse, "reuse", false, "start on the cluster that is up, with the programs it was booted with")
	cmd.Flags().BoolVar(&f.short, "short", false, "only the rows of make test")
	return cmd
}

// play runs the scenarios one after the other; one that could not be played is a failed row, not the end.
func play(cmd *cobra.Command, c *lab.Cluster, selected []lab.Scenario, f runFlags) error {
	ctx := cmd.Context()
	if !f.reuse { // what is up may have been booted with older programs
		if err := c.Down(ctx); err != nil {
			return err
		}
	}
	fmt.Fprintf(os.Stderr, "%d scenarios, %d runs each, seed %d\n", len(selected), f.n, f.seed)
	say := func(line string) { fmt.Fprintln(os.Stderr, "  "+line) }
	results, pass := []lab.Result{}, true
	for i, s := range selected {
		fmt.Fprintf(os.Stderr, "[%d/%d] %s: %s\n", i+1, len(selected), s.Name, s.About)
		res, err := c.Play(ctx, s, f.suite, f.n, f.seed, say)
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			res.Pass = false
			res.Evidence = append(res.Evidence, err.Error())
			say(err.Error())
		}
		results = append(results, res)
		pass = pass && res.Pass
	}
	if !f.keep {
		// A signal ends the plays; the cluster is taken down all the same.
		if err := c.Down(context.WithoutCancel(ctx)); err != nil {
			fmt.Fprintln(os.Stderr, "lab:", err)
		}
	}
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
