package rules

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/leasedog/leasedog/command"
)

// limit is for one package under one rule, on a busy machine.
const limit = 20 * time.Minute

// Result is what came of one rule.
type Result struct {
	Rule
	Test string // the first test that turned red, with its package; "": none
	Took time.Duration
	Err  error // it could not be tried
}

// Red reports whether a test noticed that the rule is gone.
func (r Result) Red() bool { return r.Err == nil && r.Test != "" }

// Survivors counts the rules that no test has.
func Survivors(results []Result) int {
	n := 0
	for _, r := range results {
		if !r.Red() {
			n++
		}
	}
	return n
}

// Runner tries rules.
type Runner struct {
	Root string // of the project
	Go   string // the go command
	Jobs int    // side by side
	Log  io.Writer
}

// Run tries every rule and returns the results in the same order.
func (r Runner) Run(ctx context.Context, table []Rule) []Result {
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

func (r Runner) one(ctx context.Context, rule Rule) Result {
	start := time.Now()
	test, err := r.try(ctx, rule)
	return Result{Rule: rule, Test: test, Err: err, Took: time.Since(start)}
}

// try returns the first test that turns red without the rule.
func (r Runner) try(ctx context.Context, rule Rule) (string, error) {
	dir, err := os.MkdirTemp("", "leasedog-rules-")
	if err != nil {
		return "", fmt.Errorf("make a folder for rule %s: %w", rule.ID, err)
	}
	defer os.RemoveAll(dir)
	root, err := filepath.Abs(r.Root)
	if err != nil {
		return "", fmt.Errorf("find the project: %w", err)
	}
	overlay, err := rule.overlay(root, dir)
	if err != nil {
		return "", err
	}
	for _, pkg := range rule.packages() {
		out, failed, err := r.test(ctx, root, overlay, pkg, rule.Hangs)
		if err != nil {
			return "", err
		}
		test, err := judge(out, failed, rule.Hangs)
		if err != nil || test != "" {
			return pkg + ": " + test, err
		}
	}
	return "", nil
}

// test runs the tests of one package behind everything else that the machine does. Vetting would find fault with the
// changed text, and is not what is asked.
func (r Runner) test(ctx context.Context, root, overlay, pkg string, hangs bool) (out []byte, failed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	timeout := "15m"
	if hangs {
		timeout = "2m"
	}
	args := []string{"-C", root, "nice", "-n", "19", r.Go, "test", "-vet=off", "-count=1", "-failfast", "-timeout", timeout,
		"-overlay", overlay, "./" + pkg}
	res, err := command.Exec{}.Run(ctx, command.Cmd{Path: "/usr/bin/env", Args: args, Env: environment(), MaxOutput: 64 << 20})
	var exit *command.Error
	switch {
	case err == nil:
		return res.Stdout, false, nil
	case errors.As(err, &exit) && exit.ExitCode == 1:
		return res.Stdout, true, nil
	}
	return nil, false, fmt.Errorf("test %s: %w", pkg, err)
}

// environment is what the go command needs of this one.
func environment() []string {
	var out []string
	for _, kv := range os.Environ() {
		key, _, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(key, "GO") || key == "HOME" || key == "PATH" {
			out = append(out, kv)
		}
	}
	return out
}

var (
	redTest  = regexp.MustCompile(`(?m)^ *--- FAIL: (\S+)`)
	hungTest = regexp.MustCompile(`panic: test timed out[^\n]*\n\s*running tests:\n\s*(\S+)`)
)

// judge returns the name of the test that failed, the innermost one. A change that does not compile, or ends the program
// outside of a test, has not been noticed by a test; nor has one that hangs, unless the rule is one against hanging.
func judge(out []byte, failed, hangs bool) (string, error) {
	if !failed {
		return "", nil
	}
	if m := hungTest.FindSubmatch(out); m != nil && hangs {
		return string(m[1]) + " (does not end)", nil
	}
	name := ""
	for _, m := range redTest.FindAllSubmatch(out, -1) {
		if n := string(m[1]); name == "" || strings.HasPrefix(n, name+"/") {
			name = n
		}
	}
	if name == "" {
		return "", fmt.Errorf("no test failed, but the run did: %s", out[:min(len(out), 600)])
	}
	return name, nil
}
