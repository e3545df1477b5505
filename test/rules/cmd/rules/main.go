// Command rules takes one rule of the protocol after the other out of the code and requires a red test; see package rules.
// It is to be run at the root of the project.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/leasedog/leasedog/test/rules"
	"github.com/leasedog/leasedog/test/section"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	only := flag.String("only", "", "try the rules whose number, a space and words contain this")
	write := flag.String("write", "", "write the section Rules of this Markdown file")
	goTool := flag.String("go", "go", "the go command")
	jobs := flag.Int("jobs", runtime.NumCPU(), "rules side by side")
	flag.Parse()
	var table []rules.Rule
	for _, r := range rules.Table() {
		if strings.Contains(r.ID+" "+r.Without, *only) {
			table = append(table, r)
		}
	}
	start := time.Now()
	results := rules.Runner{Root: ".", Go: *goTool, Jobs: *jobs, Log: os.Stdout}.Run(ctx, table)
	took := time.Since(start)
	fmt.Printf("%d removals, %d without a red test, %.0f s\n", len(results), rules.Survivors(results), took.Seconds())
	if *write != "" {
		if err := section.Write(*write, "Rules", rules.Markdown(results, took)); err != nil {
			fmt.Fprintln(os.Stderr, "rules:", err)
			return 1
		}
	}
	if rules.Survivors(results) > 0 || len(results) == 0 {
		return 1
	}
	return 0
}
