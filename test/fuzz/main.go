// Command fuzz runs every fuzz target of the module for an equal share of a time, as many at once as there are
// processors. The targets are those that the test binaries list, so nobody has to name a new one. It fails if one fails,
// after the others have had their share; what it found is in that package's testdata/fuzz then, where it is a test.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("fuzz", flag.ContinueOnError)
	flags.SetOutput(stderr)
	total := flags.Duration("time", 10*time.Minute, "for all targets together")
	jobs := flags.Int("jobs", runtime.NumCPU(), "targets at once")
	only := flags.String("run", "", "only targets whose name contains this")
	if flags.Parse(args) != nil || *jobs < 1 || *total <= 0 {
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	all, err := discover(ctx, *only)
	if err != nil {
		fmt.Fprintf(stderr, "fuzz: %v\n", err)
		return 1
	}
	*jobs = min(*jobs, len(all))
	share := max(*total*time.Duration(*jobs)/time.Duration(len(all)), time.Second).Round(time.Second)
	fmt.Fprintf(stdout, "%d targets, %v each, %d at once\n", len(all), share, *jobs)
	failed := 0
	for f := range results(ctx, all, share, *jobs) {
		if f.err != nil {
			failed++
			fmt.Fprintf(stdout, "FAIL %-24s %s: %v\n%s\n", f.name, f.pkg, f.err, f.output)
			continue
		}
		fmt.Fprintf(stdout, "ok   %-24s %-18s %s\n", f.name, f.pkg, lastProgress(f.output))
	}
	if failed > 0 || ctx.Err() != nil {
		fmt.Fprintf(stderr, "fuzz: %d of %d targets failed\n", failed, len(all))
		return 1
	}
	return 0
}

// target is one fuzz test of a package.
type target struct{ pkg, name string }

// discover asks the test binaries.
func discover(ctx context.Context, only string) ([]target, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-list", "^Fuzz", "./...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("list the targets: %w", err)
	}
	module, err := exec.CommandContext(ctx, "go", "list", "-m").Output()
	if err != nil {
		return nil, fmt.Errorf("name the module: %w", err)
	}
	return parse(string(out), strings.TrimSpace(string(module)), only)
}

// parse reads what go test -list prints: names, and then a line with "ok" and their package.
func parse(out, module, only string) ([]target, error) {
	var all []target
	var names []string
	lines := bufio.NewScanner(strings.NewReader(out))
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		switch {
		case len(f) == 1 && strings.HasPrefix(f[0], "Fuzz"):
			names = append(names, f[0])
		case len(f) >= 2 && f[0] == "ok":
			for _, n := range names {
				if strings.Contains(n, only) {
					all = append(all, target{"." + strings.TrimPrefix(f[1], module), n})
				}
			}
			names = nil
		}
	}
	if len(names) > 0 {
		return nil, fmt.Errorf("%v belong to no package", names)
	}
	if len(all) == 0 {
		return nil, errors.New("there is no fuzz target")
	}
	return all, lines.Err()
}

type finding struct {
	target
	output string
	err    error
}

// results builds each package's binary once, and fuzzes all targets, jobs at once. One target has one worker: the
// processors are shared out already.
func results(ctx context.Context, all []target, share time.Duration, jobs int) <-chan finding {
	out, todo := make(chan finding), make(chan job)
	var workers sync.WaitGroup
	for range jobs {
		workers.Go(func() {
			for r := range todo {
				text, err := r.fuzz(ctx, share)
				out <- finding{r.target, text, err}
			}
		})
	}
	go func() {
		defer close(out)
		dir, err := os.MkdirTemp("", "fuzz")
		if err != nil {
			close(todo)
			out <- finding{all[0], "", err}
			return
		}
		defer os.RemoveAll(dir) // after the last of them has ended
		defer workers.Wait()
		defer close(todo)
		binaries := map[string]string{}
		for i, t := range all {
			if ctx.Err() != nil {
				return
			}
			if binaries[t.pkg] == "" {
				binaries[t.pkg] = filepath.Join(dir, fmt.Sprintf("%d.test", i))
				cmd := exec.CommandContext(ctx, "go", "test", "-c", "-fuzz", "^"+t.name+"$", "-o", binaries[t.pkg], t.pkg)
				if text, err := cmd.CombinedOutput(); err != nil {
					out <- finding{t, string(text), fmt.Errorf("build: %w", err)}
				}
			}
			todo <- job{t, binaries[t.pkg]}
		}
	}()
	return out
}

type job struct {
	target
	binary string
}

// fuzz runs one target in its package's folder, where its corpus is.
func (r job) fuzz(ctx context.Context, share time.Duration) (string, error) {
	found, err := exec.CommandContext(ctx, "go", "env", "GOCACHE").Output()
	if err != nil {
		return "", fmt.Errorf("find the cache: %w", err)
	}
	cache := filepath.Join(strings.TrimSpace(string(found)), "fuzz", "leasedog", r.pkg)
	// fuzzminimizetime bounds what follows a finding: the input may be long, and the time is for all.
	cmd := exec.CommandContext(ctx, r.binary, "-test.run=^$", "-test.fuzz=^"+r.name+"$", "-test.fuzztime="+share.String(),
		"-test.fuzzminimizetime=10s", "-test.parallel=1", "-test.fuzzcachedir="+cache)
	cmd.Dir = r.pkg
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it ends its worker
	cmd.WaitDelay = 10 * time.Second
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() { // many targets write files, and some sync them
		cmd.Env = append(os.Environ(), "TMPDIR=/dev/shm")
	}
	text, err := cmd.CombinedOutput()
	return string(text), err
}

// lastProgress is what a target said of its work last.
func lastProgress(output string) string {
	said := ""
	for line := range strings.Lines(output) {
		if _, rest, ok := strings.Cut(line, "execs: "); ok {
			said = "execs: " + strings.TrimSpace(rest)
		}
	}
	return said
}
