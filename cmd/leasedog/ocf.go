package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/leasedog/leasedog/agent/control"
	"github.com/leasedog/leasedog/guard/guardapi"
	"github.com/leasedog/leasedog/lease"
)

// Exit codes of resource agents (OCF 1.1).
const (
	ocfGeneric    = 1
	ocfPermission = 4
	ocfConfigured = 6
	ocfNotRunning = 7
)

const (
	ocfPace = 200 * time.Millisecond
	// ocfMargin is what is kept of an operation's timeout, to say why it failed before it is killed.
	ocfMargin = 1500 * time.Millisecond
	// ocfPatience bounds how long a monitor waits for an agent that restarts.
	ocfPatience = 5 * time.Second
)

// ocfAgent is the agent's socket, as far as the resource agent needs it.
type ocfAgent interface {
	doer
	Status(ctx context.Context) (control.Status, error)
}

// ocfCall is one operation of ocf:leasedog:lease.
type ocfCall struct {
	agent   ocfAgent
	guarded func(context.Context) bool // a guard runs here, so that a lease may be held without an agent
	paused  func(lease string) bool    // its record says that it is paused, without a guard perhaps
	lease   string
	id      string // of the primitive
	ordered bool   // Pacemaker runs it
	timeout time.Duration
	pace    time.Duration
	out     io.Writer
}

func newOCFCommand(o *options) *cobra.Command {
	c := ocfCall{pace: ocfPace, guarded: guardRuns, paused: recordedAsPaused}
	cmd := &cobra.Command{
		Use:   "ocf start|stop|monitor|validate-all LEASE",
		Short: "an operation of the resource agent ocf:leasedog:lease, which runs it",
		Long: "Asks this node's agent over its local socket and exits with the codes of resource agents: 0 done or held, " +
			"1 failed, 4 no right to, 6 wrong configuration, 7 not held.",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usageError("ocf needs an operation and a lease")
			}
			return o.noJSON("ocf")
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c.agent, c.lease, c.out = control.NewClient(o.socketPath), args[1], cmd.OutOrStdout()
			limit := max(c.timeout-ocfMargin, c.timeout/2)
			if args[0] == "monitor" {
				limit = min(limit, ocfPatience)
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), limit)
			defer cancel()
			switch args[0] {
			case "start":
				return c.start(ctx)
			case "stop":
				return c.stop(ctx)
			case "monitor":
				return c.monitor(ctx)
			case "validate-all":
				return c.validate(ctx)
			}
			return usageError("ocf has no operation %q", args[0])
		},
	}
	cmd.Flags().StringVar(&c.id, "resource", "lease", "the `id` of the primitive in Pacemaker")
	cmd.Flags().DurationVar(&c.timeout, "timeout", time.Minute, "the operation's timeout")
	cmd.Flags().BoolVar(&c.ordered, "ordered", false, "Pacemaker runs it, and waits for its end")
	return cmd
}

// guardRuns reports whether a guard runs here. One that does not answer may be frozen.
func guardRuns(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	guard := guardapi.NewClient(guardapi.SocketPath)
	_, err := guard.Status(ctx)
	_ = guard.Close() // nothing was written to it
	return !errors.Is(err, guardapi.ErrNoGuard)
}

// recordedAsPaused reads what the last agent of this boot left for its successor.
func recordedAsPaused(name string) bool {
	var r lease.RunRecord
	text, err := os.ReadFile(filepath.Join(runDir, "lease-"+filepath.Base(name)+".json"))
	return err == nil && json.Unmarshal(text, &r) == nil && r.State == lease.RunPaused
}

// start asks until this node holds. A lost race is a soft failure: Pacemaker may try again.
func (c *ocfCall) start(ctx context.Context) error {
	message, err := c.until(ctx, control.VerbOrderedStart, nil)
	if err != nil && ctx.Err() != nil {
		// It must not win later, when Pacemaker believes that it does not run here.
		back, cancel := context.WithTimeout(context.WithoutCancel(ctx), ocfMargin/2)
		defer cancel()
		_, _ = c.agent.Do(back, c.request(control.VerbOrderedStop)) // Pacemaker's own stop follows a failed start
		return &exitError{code: ocfGeneric, err: fmt.Errorf("lease %s is not held in time: %w", c.lease, err)}
	}
	return c.done(message, err)
}

// stop asks until nothing of the lease keeps Pacemaker from going on. Without an agent and a guard nothing is held.
func (c *ocfCall) stop(ctx context.Context) error {
	message, err := c.until(ctx, control.VerbOrderedStop, func(err error) bool { return !c.mayBeHeld(ctx, err) })
	if err != nil && !c.mayBeHeld(ctx, err) {
		return c.done(fmt.Sprintf("nothing of lease %s is held here: %v", c.lease, err), nil)
	}
	return c.done(message, err)
}

// monitor tells whether this node holds.
func (c *ocfCall) monitor(ctx context.Context) error {
	for {
		st, err := c.agent.Status(ctx)
		if err == nil {
			for _, l := range st.Leases {
				if l.Name == c.lease && (l.State == control.StateHeld || l.State == control.StatePaused) {
					return nil
				}
			}
			return &exitError{code: ocfNotRunning}
		}
		if errors.Is(err, control.ErrNotRunning) && c.paused(c.lease) {
			return nil // the agent may be away, in a pause, and nothing is to stop
		}
		if !c.mayBeHeld(ctx, err) {
			return &exitError{code: ocfNotRunning}
		}
		if pauseFor(ctx, c.pace) != nil {
			return &exitError{code: ocfGeneric, err: fmt.Errorf("whether lease %s is held cannot be told: %w", c.lease, err)}
		}
	}
}

func (c *ocfCall) validate(ctx context.Context) error {
	message, err := c.agent.Do(ctx, c.request(control.VerbOrderedCheck))
	return c.done(message, err)
}

func (c *ocfCall) request(verb control.Verb) control.Request {
	return control.Request{Verb: verb, Lease: c.lease, Resource: c.id, Ordered: c.ordered}
}

// until asks until the agent is done, refuses, or enough says that it need not be asked again. An agent that restarts is
// waited for.
func (c *ocfCall) until(ctx context.Context, verb control.Verb, enough func(error) bool) (string, error) {
	var last error
	for {
		message, err := c.agent.Do(ctx, c.request(verb))
		var refusal *control.Error
		final := errors.As(err, &refusal) && refusal.Code != control.CodeTryAgain && refusal.Code != control.CodeInternal
		if err == nil || final || enough != nil && enough(err) {
			return message, err
		}
		if ctx.Err() == nil || last == nil {
			last = err // what is said when the time is over is only that
		}
		if pauseFor(ctx, c.pace) != nil {
			return "", last
		}
	}
}

// mayBeHeld reports whether a lease may be held here although the agent did not say so. An agent that ended has left
// every lease; one that was killed left its guard behind, which resets the node if no other agent comes.
func (c *ocfCall) mayBeHeld(ctx context.Context, err error) bool {
	var refusal *control.Error
	if errors.As(err, &refusal) {
		return refusal.Code != control.CodeNoLease
	}
	return !errors.Is(err, control.ErrNotRunning) || c.guarded(ctx)
}

// done turns an answer into an exit code and one line.
func (c *ocfCall) done(message string, err error) error {
	if err == nil {
		if message != "" {
			_, err = fmt.Fprintln(c.out, message)
		}
		return err
	}
	code := ocfGeneric
	hint := ""
	var refusal *control.Error
	if errors.As(err, &refusal) {
		hint = refusal.Hint
		switch refusal.Code {
		case control.CodeRefused, control.CodeNoLease, control.CodeBadRequest:
			code = ocfConfigured
		case control.CodeForbidden:
			code = ocfPermission
		}
	}
	return &exitError{code: code, err: err, hint: hint}
}

// pauseFor waits, but not beyond ctx.
func pauseFor(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
