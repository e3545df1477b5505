// Command model checks the Promela models of test/model; see package model. It is to be run at the root of the project.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/leasedog/leasedog/command"
	"github.com/leasedog/leasedog/test/model"
	"github.com/leasedog/leasedog/test/section"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	only := flag.String("only", "", "run the configurations whose names contain this")
	flip := flag.String("flip", "", "expect the opposite of this one configuration, to see that a surprise fails")
	write := flag.String("write", "", "write the section Models of this Markdown file")
	jobs := flag.Int("jobs", runtime.NumCPU(), "searches side by side; one may take 2 GB")
	flag.Parse()
	if err := tools(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "model:", err)
		return 1
	}
	var table []model.Config
	for _, c := range model.Table() {
		if c.Name == *flip {
			c = flipped(c)
		}
		if strings.Contains(c.Name, *only) {
			table = append(table, c)
		}
	}
	start := time.Now()
	results := model.Runner{Models: "test/model", Jobs: *jobs, Log: os.Stderr}.Run(ctx, table)
	took := time.Since(start)
	if err := report(results, took, *write); err != nil {
		fmt.Fprintln(os.Stderr, "model:", err)
		return 1
	}
	if n := model.Surprises(results); n > 0 || len(results) == 0 {
		fmt.Fprintf(os.Stderr, "model: %d of %d verdicts are not as expected\n", n, len(results))
		return 1
	}
	return 0
}

func report(results []model.Result, took time.Duration, write string) error {
	if err := model.Print(os.Stdout, results); err != nil {
		return err
	}
	fmt.Printf("%d configurations, %d surprises, %.0f s\n", len(results), model.Surprises(results), took.Seconds())
	if write == "" {
		return nil
	}
	return section.Write(write, "Models", model.Markdown(results, took))
}

func flipped(c model.Config) model.Config {
	if c.Holds() {
		c.Without = "nothing: the expectation is wrong on purpose"
		return c
	}
	c.Without = ""
	return c
}

// tools installs spin and a C compiler where they are missing. It needs root for that.
func tools(ctx context.Context) error {
	var missing []string
	for path, pkg := range map[string]string{"/usr/bin/spin": "spin", "/usr/bin/gcc": "gcc", "/usr/include/stdio.h": "libc6-dev"} {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			missing = append(missing, pkg)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	fmt.Fprintf(os.Stderr, "installing %s\n", strings.Join(missing, " "))
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	install := append([]string{"install", "-y", "--no-install-recommends"}, missing...)
	for _, args := range [][]string{{"update"}, install} {
		cmd := command.Cmd{Path: "/usr/bin/apt-get", Args: args, Env: []string{"DEBIAN_FRONTEND=noninteractive"}}
		if res, err := (command.Exec{}).Run(ctx, cmd); err != nil {
			return fmt.Errorf("install the model checker: %w: %s", err, res.Stderr)
		}
	}
	return nil
}
