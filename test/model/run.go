package model

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"time"

	"github.com/leasedog/leasedog/command"
)

const (
	// limit is for one configuration; far above what the largest takes, since the machine may be busy.
	limit = 30 * time.Minute
	// depth is the longest run that is followed, far above any that exists; pan says when one is longer.
	depth = 3_000_000
	// memory that one search may use, in MB.
	memory = 4000
)

// Result is what came of one configuration.
type Result struct {
	Config
	Counterexample bool
	States         int
	Took           time.Duration
	Err            error // no verdict at all
}

// AsExpected reports whether the verdict is the expected one.
func (r Result) AsExpected() bool { return r.Err == nil && r.Counterexample != r.Holds() }

// Runner runs configurations.
type Runner struct {
	Models string // the folder of the models
	Jobs   int    // side by side
	Log    io.Writer
}

// Run runs every configuration and returns the results in the same order.
func (r Runner) Run(ctx context.Context, table []Config) []Result {
	results := make([]Result, len(table))
	next := make(chan int)
	var workers sync.WaitGroup
	var log sync.Mutex
	for range max(1, r.Jobs) {
		workers.Go(func() {
			for i := range next {
				results[i] = r.one(ctx, table[i])
				log.Lock()
				fmt.Fprintln(r.Log, results[i].line())
				log.Unlock()
			}
		})
	}
	for i := range table {
		next <- i
	}
	close(next)
	workers.Wait()
	return results
}

func (r Runner) one(ctx context.Context, c Config) Result {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	start := time.Now()
	out, err := r.search(ctx, c)
	res := Result{Config: c, Took: time.Since(start)}
	if err == nil {
		res.Counterexample, res.States, err = verdict(out)
	}
	res.Err = err
	return res
}

// search makes a program of the model and runs it. pan exits with 0 whatever it finds.
func (r Runner) search(ctx context.Context, c Config) ([]byte, error) {
	dir, err := os.MkdirTemp("", "leasedog-model-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for %s: %w", c.Name, err)
	}
	defer os.RemoveAll(dir)
	spin := []string{"/usr/bin/spin", "-a"}
	for _, d := range c.Defines {
		spin = append(spin, "-D"+d)
	}
	path, err := filepath.Abs(filepath.Join(r.Models, c.Model))
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", c.Model, err)
	}
	out, err := in(ctx, dir, append(spin, path)...)
	if err != nil || bytes.Contains(out, []byte("rror:")) {
		return nil, fmt.Errorf("translate %s: %w: %s", c.Model, errors.Join(err, errModel), firstLines(out))
	}
	// Without partial order reduction: there is one process, which it cannot reduce. Without optimization: that takes longer than
	// it saves up to some million states; above them it pays, and states are kept in parts that many of them share.
	how, table := []string{"-O0", "-DSFH"}, "-w24"
	if c.Large {
		how, table = []string{"-O2", "-DCOLLAPSE"}, "-w26"
	}
	compile := append([]string{"/usr/bin/gcc", "-DSAFETY", "-DNOREDUCE", fmt.Sprintf("-DMEMLIM=%d", memory), "-o", "pan", "pan.c"}, how...)
	if _, err := in(ctx, dir, compile...); err != nil {
		return nil, fmt.Errorf("compile %s: %w", c.Model, err)
	}
	out, err = in(ctx, dir, "./pan", fmt.Sprintf("-m%d", depth), table)
	if err != nil {
		return nil, fmt.Errorf("search %s: %w", c.Model, err)
	}
	return out, nil
}

var errModel = errors.New("spin does not take the model")

// in runs a program in dir, behind everything else that the machine does.
func in(ctx context.Context, dir string, argv ...string) ([]byte, error) {
	args := append([]string{"-C", dir, "nice", "-n", "19"}, argv...)
	res, err := command.Exec{}.Run(ctx, command.Cmd{Path: "/usr/bin/env", Args: args})
	return res.Stdout, err
}

func firstLines(out []byte) string { return string(out[:min(len(out), 400)]) }

var (
	errorsFound = regexp.MustCompile(`errors: (\d+)\n`)
	stored      = regexp.MustCompile(`(?m)^ *([0-9.e+]+) states, stored`)
	violated    = regexp.MustCompile(`(?m)^pan:1: assertion violated`)
	cutShort    = regexp.MustCompile(`Search not completed|max search depth too small|out of memory|memory limit|hash[^\n]*overflow`)
)

// verdict reads what pan says. It is a counterexample only if an assertion of the model is violated, and it holds only if
// the search was complete: anything else, a blocked model included, is no verdict.
func verdict(out []byte) (counterexample bool, states int, err error) {
	found, n := errorsFound.FindSubmatch(out), stored.FindSubmatch(out)
	if found == nil || n == nil {
		return false, 0, fmt.Errorf("pan gave no verdict: %s", firstLines(out))
	}
	count, err := strconv.ParseFloat(string(n[1]), 64)
	if err != nil {
		return false, 0, fmt.Errorf("read the number of states: %w", err)
	}
	switch {
	case violated.Match(out) && string(found[1]) == "1":
		return true, int(count), nil
	case string(found[1]) != "0":
		return false, int(count), fmt.Errorf("an error that is no violated assertion: %s", firstLines(out))
	case cutShort.Match(out):
		return false, int(count), fmt.Errorf("the search was cut short: %s", firstLines(out))
	}
	return false, int(count), nil
}
