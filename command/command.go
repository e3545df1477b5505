package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// DefaultMaxOutput limits stdout when Cmd.MaxOutput is 0. A status of a large two-node cluster is some
	// 100 KiB.
	DefaultMaxOutput = 16 << 20
	// StderrTail is how many last bytes of stderr are kept.
	StderrTail = 4 << 10
	// KillGrace is how long Run waits after SIGKILL for the program to be reaped.
	KillGrace = time.Second
	// PipeGrace is how long Run waits, after the program has ended, for a descendant that keeps its pipes
	// open.
	PipeGrace = 300 * time.Millisecond
)

// path is what every program gets as PATH: resource agents call their tools by name.
const path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"

// ErrNoDeadline says that the caller's context has no deadline; nothing was started.
var ErrNoDeadline = errors.New("context has no deadline")

// Cmd is one run of one program.
type Cmd struct {
	Path      string   // absolute
	Args      []string // without the program's name
	Env       []string // KEY=VALUE, added to PATH and LC_ALL=C; a later one wins
	Stdin     []byte   // nil reads from /dev/null
	MaxOutput int      // bytes of stdout; 0 is DefaultMaxOutput
}

// String is the command line for logs and messages, quoted for reading, not for a shell.
func (c Cmd) String() string {
	words := make([]string, 0, len(c.Args)+1)
	for _, w := range append([]string{c.Path}, c.Args...) {
		if w == "" || strings.ContainsAny(w, " \t\n\"'\\<>") {
			w = fmt.Sprintf("%q", w)
		}
		words = append(words, w)
	}
	return strings.Join(words, " ")
}

// Result is what a program said. It is filled as far as known when Run returns an *Error, too.
type Result struct {
	Stdout []byte
	Stderr string // the last StderrTail bytes
}

// Exec runs programs on this machine. The zero value is ready; it has no state and any number of goroutines
// may use it.
type Exec struct{}

// Run runs cmd and waits for its end. It returns nil only if the program exited with 0 and its whole output
// was read; every other outcome is an *Error, except ErrNoDeadline and a Path that is not absolute. It
// returns at the latest KillGrace + PipeGrace after the deadline of ctx. Any number of goroutines may call
// it.
func (Exec) Run(ctx context.Context, cmd Cmd) (Result, error) {
	if _, ok := ctx.Deadline(); !ok {
		return Result{}, fmt.Errorf("run %s: %w", cmd.Path, ErrNoDeadline)
	}
	if !filepath.IsAbs(cmd.Path) {
		return Result{}, fmt.Errorf("run %q: path is not absolute", cmd.Path)
	}
	if ctx.Err() != nil {
		return Result{}, newError(cmd, ctx)
	}
	max := cmd.MaxOutput
	if max <= 0 {
		max = DefaultMaxOutput
	}
	overflow := make(chan struct{})
	out := &head{max: max, full: overflow}
	tail := &tail{max: StderrTail}
	p := start(cmd, out, tail)

	var failure *Error
	select {
	case <-p.ended:
	case <-ctx.Done():
		failure = newError(cmd, ctx)
	case <-overflow:
		failure = newError(cmd, ctx)
		failure.OutputLimit = true
		failure.cause = fmt.Errorf("output is longer than %d bytes", max)
	}
	if failure != nil {
		close(p.kill)
		grace := time.NewTimer(KillGrace)
		defer grace.Stop()
		select {
		case <-p.ended:
		case <-grace.C:
			failure.Unreaped = true
			failure.Stderr = tail.String()
			return Result{Stdout: out.Bytes(), Stderr: failure.Stderr}, failure
		}
	}
	<-p.reaped
	res := Result{Stdout: out.Bytes(), Stderr: tail.String()}
	if failure != nil {
		failure.Stderr = res.Stderr
		return res, failure
	}
	return res, p.outcome(cmd, out.Full(), res)
}

// process is a program that was, or is being, started. A goroutine of its own owns it: even starting can
// hang, since the exec itself reads from storage.
type process struct {
	kill   chan struct{} // closed by Run: SIGKILL to the group
	ended  chan struct{} // closed when the program is known to have ended (or not to have started)
	reaped chan struct{} // closed when it is reaped and its output read; err may be read
	err    error
}

func start(cmd Cmd, out *head, tail *tail) *process {
	p := &process{kill: make(chan struct{}), ended: make(chan struct{}), reaped: make(chan struct{})}
	c := exec.Command(cmd.Path, cmd.Args...)
	c.Env = append([]string{path, "LC_ALL=C"}, cmd.Env...)
	c.Dir = "/"
	c.Stdout, c.Stderr = out, tail
	if cmd.Stdin != nil {
		c.Stdin = bytes.NewReader(cmd.Stdin)
	}
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.WaitDelay = PipeGrace
	go p.run(c)
	return p
}

func (p *process) run(c *exec.Cmd) {
	defer close(p.reaped)
	if p.err = c.Start(); p.err != nil {
		close(p.ended)
		return
	}
	pid := c.Process.Pid
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		// WNOWAIT leaves the zombie in place: until Wait below its pid, which names the group, cannot be
		// reused.
		for unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
		}
	}()
	select {
	case <-exited:
	case <-p.kill:
		// An error means that nothing is left to kill. The group, so that what the program started dies too.
		_ = syscall.Kill(-pid, syscall.SIGKILL)
		<-exited
	}
	close(p.ended)
	p.err = c.Wait()
}

// outcome turns the end of a program that was not killed by us into an error.
func (p *process) outcome(cmd Cmd, full bool, res Result) error {
	if p.err == nil && !full {
		return nil
	}
	e := &Error{Path: cmd.Path, Args: cmd.Args, ExitCode: -1, Stderr: res.Stderr, cause: p.err}
	var exit *exec.ExitError
	switch {
	case p.err == nil:
		e.ExitCode, e.OutputLimit = 0, true
		e.cause = errors.New("output is too long")
	case errors.As(p.err, &exit):
		e.ExitCode = exit.ExitCode()
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			e.Signal = ws.Signal()
		}
		e.cause = nil
	case errors.Is(p.err, exec.ErrWaitDelay):
		// The program itself exited with 0, a descendant kept its output open.
		e.ExitCode, e.PipeHeld = 0, true
	default:
		e.NotStarted = true
	}
	return e
}
