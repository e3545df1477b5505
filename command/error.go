package command

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
)

// Error is every way in which a run did not end with exit code 0 and complete output.
type Error struct {
	Path string
	Args []string
	// ExitCode is the program's, or -1 if it has none (killed by a signal, by us, or never started).
	ExitCode int
	// Signal ended the program, not sent by us; 0 if none.
	Signal syscall.Signal
	// TimedOut: the deadline passed (or the context was cancelled) before the program ended; it was killed.
	// What it had asked for may have happened or not.
	TimedOut bool
	// Unreaped: SIGKILL was sent, or the exec itself hung, and the program was not gone after KillGrace. It
	// runs no further instruction of its own, but it is not proven gone; it is reaped in the background.
	Unreaped bool
	// OutputLimit: it wrote more than Cmd.MaxOutput.
	OutputLimit bool
	// PipeHeld: the program exited with 0, but a descendant kept its output open; the output may be
	// incomplete.
	PipeHeld bool
	// NotStarted: it could not be executed (missing, not executable, no process left).
	NotStarted bool
	// Stderr is the last part of what it wrote there.
	Stderr string

	cause error
}

func newError(cmd Cmd, ctx context.Context) *Error {
	return &Error{Path: cmd.Path, Args: cmd.Args, ExitCode: -1, TimedOut: ctx.Err() != nil, cause: ctx.Err()}
}

// Error names the tool, its first arguments and what happened, with the last line of stderr.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(Cmd{Path: filepath.Base(e.Path), Args: e.Args}.String())
	b.WriteString(": ")
	switch {
	case e.TimedOut && errors.Is(e.cause, context.Canceled):
		b.WriteString("cancelled")
	case e.TimedOut:
		b.WriteString("no answer within its deadline")
	case e.OutputLimit:
		b.WriteString("output is too long")
	case e.PipeHeld:
		b.WriteString("ended, but a descendant keeps its output open")
	case e.NotStarted:
		fmt.Fprintf(&b, "not started: %v", e.cause)
	case e.Signal != 0:
		fmt.Fprintf(&b, "killed by signal %d (%v)", int(e.Signal), e.Signal)
	default:
		fmt.Fprintf(&b, "exit code %d", e.ExitCode)
	}
	if e.Unreaped {
		b.WriteString(", killed but not gone")
	}
	if line := lastLine(e.Stderr); line != "" {
		b.WriteString(": ")
		b.WriteString(line)
	}
	return b.String()
}

// Unwrap gives the context's error after a timeout, or why the program could not be started.
func (e *Error) Unwrap() error { return e.cause }

// Exited reports whether the program ran to its own end, so that ExitCode is its answer.
func (e *Error) Exited() bool {
	return !e.TimedOut && !e.OutputLimit && !e.NotStarted && e.Signal == 0 && e.ExitCode >= 0
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	if i := strings.LastIndexByte(s, '\n'); i >= 0 {
		s = strings.TrimSpace(s[i+1:])
	}
	if len(s) > 300 {
		s = s[:300] + "…"
	}
	return s
}
