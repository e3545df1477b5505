package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/leasedog/leasedog/test/lab"
)

func matrixCommand(o *options) *cobra.Command {
	f := runFlags{seed: uint64(time.Now().UnixNano())}
	suites := lab.Suites()
	cmd := &cobra.Command{Use: "matrix SCENARIO...|all", Short: "Play scenarios on every supported release", Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			selected, err := lab.Select(args, f.short)
			if err != nil {
				return err
			}
			clusters, err := o.openAll(min(f.jobs, len(selected)))
			if err != nil {
				return err
			}
			return playMatrix(cmd, clusters, selected, suites, f)
		}}
	cmd.Flags().StringSliceVar(&suites, "suite", suites, "Debian releases")
	cmd.Flags().IntVarP(&f.n, "runs", "n", 1, "how often to play each")
	cmd.Flags().IntVarP(&f.jobs, "jobs", "j", 1, "how many clusters play side by side")
	cmd.Flags().Uint64Var(&f.seed, "seed", f.seed, "of everything random")
	cmd.Flags().StringVarP(&f.output, "output", "o", "text", "text or json")
	cmd.Flags().BoolVar(&f.short, "short", false, "only the rows of make test")
	return cmd
}

// playMatrix plays release after release and prints the table of all. What could not be built is an error at the end, so that
// the other releases are seen.
func playMatrix(cmd *cobra.Command, clusters []*lab.Cluster, selected []lab.Scenario, suites []string, f runFlags) error {
	ctx := cmd.Context()
	fmt.Fprintf(os.Stderr, "%d scenarios, %d runs each, on %s, %d side by side, seed %d\n", len(selected), f.n,
		strings.Join(suites, ", "), len(clusters), f.seed)
	var results []lab.SuiteResult
	var errs []error
	for _, suite := range suites {
		res, err := playSuite(cmd, clusters, selected, suite, f)
		if err != nil {
			res.NotRun = err.Error()
			errs = append(errs, fmt.Errorf("%s: %w", suite, err))
		}
		results = append(results, res)
		if ctx.Err() != nil {
			break
		}
	}
	if f.output == "json" {
		enc := json.NewEncoder(os.Stdout)
		enc.SetIndent("", "  ")
		errs = append(errs, enc.Encode(results))
	} else {
		errs = append(errs, lab.WriteMatrix(os.Stdout, selected, results))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if !lab.Passed(results) {
		return errFailed
	}
	return nil
}

// playSuite begins and ends with no cluster up, also after a signal.
func playSuite(cmd *cobra.Command, clusters []*lab.Cluster, selected []lab.Scenario, suite string, f runFlags) (lab.SuiteResult, error) {
	ctx := cmd.Context()
	res := lab.SuiteResult{Suite: suite}
	if err := lab.DownAll(ctx, clusters); err != nil {
		return res, err
	}
	res, err := lab.PlaySuite(ctx, clusters, selected, suite, f.n, f.seed, sayWith(clusters))
	return res, errors.Join(err, lab.DownAll(context.WithoutCancel(ctx), clusters))
}

func rootsCommand(o *options) *cobra.Command {
	suites := lab.Suites()
	cmd := &cobra.Command{Use: "roots", Short: "Print the folder with each release's root file system, built when it is not there", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := o.open()
			if err != nil {
				return err
			}
			for _, suite := range suites {
				root, err := c.Offered(cmd.Context(), suite)
				if errors.Is(err, lab.ErrNotOffered) {
					fmt.Fprintf(os.Stderr, "%s is skipped: %v\n", suite, err)
					continue
				}
				if err != nil {
					return err
				}
				fmt.Println(root)
			}
			return nil
		}}
	cmd.Flags().StringSliceVar(&suites, "suite", suites, "Debian releases")
	return cmd
}
