package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/leasedog/leasedog/agent/control"
)

// Exit codes of fence agents (FenceAgentAPI). Nothing but a status may end with 2: "off" must never be said by mistake.
const (
	fenceError = 1
	fenceOff   = 2
)

const (
	fencePace = 300 * time.Millisecond
	// fenceSlack is by how much the end of a hold has moved when that was a renewal, and not the way of the answers.
	fenceSlack = 250 * time.Millisecond
	// fencePatience is how long an agent that restarts is waited for. While a fencing is under way Pacemaker does nothing else;
	// a failed one it asks for again.
	fencePatience = 2 * time.Second
	// fenceSilent is after how long a node that was not heard is neither on nor off.
	fenceSilent = 30 * time.Second
)

// fenceAgent is the agent's socket, as far as the fence agent needs it.
type fenceAgent interface {
	Fence(ctx context.Context, r control.Request) (control.Fence, error)
}

// fenceCall is one call of fence_leasedog.
type fenceCall struct {
	agent fenceAgent
	now   func() time.Time
	pause func(ctx context.Context, d time.Duration) error
	out   io.Writer
	errs  io.Writer
}

func newFenceCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "fence [-o ACTION] [-n NODE]",
		Short: "the fence agent fence_leasedog, which runs it",
		Long: "Speaks the fence-agents API: options on the command line, or key=value lines on standard input if there are none. See " +
			"fence_leasedog(8).",
		DisableFlagParsing: true, // -o is its action
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := readFenceOptions(args, cmd.InOrStdin(), cmd.ErrOrStderr())
			if err != nil {
				return &exitError{code: fenceError, err: err}
			}
			socket := o.socketPath
			if f.socket != "" {
				socket = f.socket
			}
			c := fenceCall{agent: control.NewClient(socket), now: time.Now, pause: pauseFor, out: cmd.OutOrStdout(), errs: cmd.ErrOrStderr()}
			return c.run(cmd.Context(), f)
		},
	}
}

// run carries out one action.
func (c *fenceCall) run(ctx context.Context, f fenceOptions) error {
	switch {
	case f.help:
		_, err := io.WriteString(c.out, fenceUsage())
		return err
	case f.version:
		_, err := fmt.Fprintln(c.out, versionText())
		return err
	}
	switch f.action {
	case "metadata":
		_, err := io.WriteString(c.out, fenceMetadata())
		return err
	case "manpage":
		_, err := io.WriteString(c.out, fenceUsage())
		return err
	case "validate-all":
		return nil // whatever is wrong was refused before
	case "off", "reboot":
		return c.failed(f, c.end(ctx, f))
	case "on":
		return c.failed(f, c.on(ctx, f.plug))
	case "status":
		return c.failed(f, c.status(ctx, f.plug))
	case "list", "list-status":
		return c.failed(f, c.list(ctx, f))
	case "monitor":
		return c.failed(f, c.monitor(ctx))
	}
	return &exitError{code: fenceError, err: fmt.Errorf("the action %q is none of %s", f.action, strings.Join(fenceActions(), ", "))}
}

// failed makes an error a line and an exit code.
func (c *fenceCall) failed(f fenceOptions, err error) error {
	var own *exitError
	if err == nil || errors.As(err, &own) {
		return err
	}
	what := f.action
	if f.plug != "" {
		what += " of " + f.plug
	}
	return &exitError{code: fenceError, err: fmt.Errorf("%s: %w", what, err)}
}

// end asks until the target runs nothing for certain. In doubt it fails: Pacemaker tries again, and starts nothing meanwhile.
func (c *fenceCall) end(ctx context.Context, f fenceOptions) error {
	ctx, cancel := context.WithTimeout(ctx, f.delay+f.timeout)
	defer cancel()
	if f.delay > 0 && c.pause(ctx, f.delay) != nil {
		return errors.New("ended while it waited for its delay")
	}
	r := control.Request{To: f.plug, Off: f.action == "off"}
	var freeAt, mute time.Time
	last := errors.New("there was no time to ask")
	for ctx.Err() == nil {
		got, err := c.agent.Fence(ctx, r)
		switch {
		case err != nil:
			if mute.IsZero() {
				mute = c.now()
			}
			if last = err; !mayPass(err) || c.now().Sub(mute) >= fencePatience {
				return err
			}
		case got.Done:
			c.say(f, "%s of %s: %s", f.action, f.plug, got.Reason)
			return nil
		case got.Final:
			return errors.New(got.Reason)
		default:
			last, mute = errors.New(got.Reason), time.Time{}
			if got.Boot != "" {
				r.Boot = got.Boot
			}
			at, alive := c.renewed(freeAt, got)
			if alive {
				return fmt.Errorf("%s: it goes on renewing, so it is alive and keeps the lease (leasedog switchover moves it)", got.Reason)
			}
			freeAt = at
		}
		c.say(f, "%v", last)
		if c.pause(ctx, fencePace) != nil {
			break
		}
	}
	return fmt.Errorf("not certain within %v: %w", f.timeout, last)
}

// renewed notes when the target's hold ends, and reports whether it has moved since the last answer. To wait for a target
// that is alive would only keep Pacemaker from what else it has to do.
func (c *fenceCall) renewed(before time.Time, got control.Fence) (time.Time, bool) {
	if got.FreeInS == nil {
		return before, false
	}
	at := c.now().Add(time.Duration(*got.FreeInS * float64(time.Second)))
	return at, !before.IsZero() && at.Sub(before) > fenceSlack
}

// mayPass reports whether it makes sense to ask again after this error: an agent may be restarting.
func mayPass(err error) bool {
	var refusal *control.Error
	if errors.As(err, &refusal) {
		return refusal.Code == control.CodeTryAgain || refusal.Code == control.CodeInternal
	}
	return true
}

// on: nothing here can switch a node on. One that is not barred needs nothing.
func (c *fenceCall) on(ctx context.Context, node string) error {
	got, err := c.agent.Fence(ctx, control.Request{To: node, Check: true})
	switch {
	case err != nil:
		return err
	case got.Done:
		return errors.New("it is barred: booting it ends that, and is to be done by hand or by another device")
	case got.Final:
		return errors.New(got.Reason)
	}
	return nil
}

// status says 0 for on, 2 for off, and 1 if neither is certain.
func (c *fenceCall) status(ctx context.Context, node string) error {
	on, reason, err := c.isOn(ctx, node)
	switch {
	case err != nil:
		return err
	case !on:
		fmt.Fprintf(c.out, "Status: OFF (%s)\n", reason)
		return &exitError{code: fenceOff}
	}
	fmt.Fprintf(c.out, "Status: ON (%s)\n", reason)
	return nil
}

func (c *fenceCall) isOn(ctx context.Context, node string) (on bool, reason string, err error) {
	got, err := c.agent.Fence(ctx, control.Request{To: node, Check: true})
	switch {
	case err != nil:
		return false, "", err
	case got.Done:
		return false, got.Reason, nil
	case got.Final || got.QuietS == nil || *got.QuietS > fenceSilent.Seconds():
		return false, "", fmt.Errorf("neither on nor off for certain: %s", got.Reason)
	}
	return true, got.Reason, nil
}

func (c *fenceCall) list(ctx context.Context, f fenceOptions) error {
	got, err := c.agent.Fence(ctx, control.Request{})
	if err != nil {
		return err
	}
	for _, node := range got.Nodes {
		line := node + f.separator
		if f.action == "list-status" {
			state := "UNKNOWN"
			if on, _, err := c.isOn(ctx, node); err == nil {
				state = map[bool]string{true: "ON", false: "OFF"}[on]
			}
			line += f.separator + state
		}
		if _, err := fmt.Fprintln(c.out, line); err != nil {
			return err
		}
	}
	return nil
}

// monitor says whether fencing would find its agent, and that Pacemaker. Not the arbiter: Pacemaker restarts a device that
// fails, for ever if start-failure-is-fatal is false, and then no DC is ever idle, which a node waits for that is to take over.
func (c *fenceCall) monitor(ctx context.Context) error {
	got, err := c.agent.Fence(ctx, control.Request{})
	if err == nil && len(got.Nodes) == 0 {
		err = errors.New("the cluster has no nodes")
	}
	return err
}

func (c *fenceCall) say(f fenceOptions, format string, args ...any) {
	if f.verbose {
		fmt.Fprintf(c.errs, "fence_leasedog: "+format+"\n", args...)
	}
}
