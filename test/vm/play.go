package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// Outcome is one play of a row. Instants are of this program, which reads the emulator's events as they come.
type Outcome struct {
	Row      Row
	Events   []Event
	By       Layer
	From     time.Time     // the bound counts from here
	Reset    time.Time     // zero: none came
	Granted  time.Time     // zero: not asked for
	Stall    time.Duration // of this program
	Starved  time.Duration // of the emulator
	Said     string        // by "leasedog why" after the boot
	Problems []string
	Voids    int // plays that proved nothing and were repeated
}

// After is how long after the fault the machine was reset.
func (o Outcome) After() time.Duration { return o.Reset.Sub(o.From) }

// judge says what is wrong with an outcome; nothing else decides.
func judge(o Outcome) []string {
	row, wrong := o.Row, append([]string(nil), o.Problems...)
	if row.By == ByNothing {
		if !o.Reset.IsZero() {
			wrong = append(wrong, "the machine was reset without need")
		}
		return wrong
	}
	if o.Reset.IsZero() {
		return append(wrong, "NO RESET")
	}
	if o.After() > row.Allowed {
		wrong = append(wrong, fmt.Sprintf("reset after %.2f s, allowed are %.2f s", o.After().Seconds(), row.Allowed.Seconds()))
	}
	if o.After() < row.AtLeast {
		wrong = append(wrong, fmt.Sprintf("reset after %.2f s, without need before %.2f s", o.After().Seconds(), row.AtLeast.Seconds()))
	}
	if o.By != row.By {
		wrong = append(wrong, fmt.Sprintf("ended by %s, expected was %s", o.By, row.By))
	}
	if !row.Exposed && !o.Granted.After(o.Reset) {
		wrong = append(wrong, "the peer was granted the lease before the reset")
	}
	if row.Why != "" && !strings.Contains(o.Said, row.Why) {
		wrong = append(wrong, fmt.Sprintf("leasedog why says %q, and not %q", o.Said, row.Why))
	}
	return wrong
}

// stalled says that a failure proves nothing: the host stood still for longer than is allowed for.
func (o Outcome) stalled() bool { return o.Stall > observerGap || o.Starved > starvedFor }

// maxVoids is how often a play that proved nothing is repeated.
const maxVoids = 2

// Play plays rows one after the other.
func (b *Bench) Play(ctx context.Context, rows []Row) ([]Outcome, error) {
	peer, err := newPeer(b.port, budgetOf(profile))
	if err != nil {
		return nil, err
	}
	if err := b.enroll(ctx, peer); err != nil {
		return nil, err
	}
	if err := b.awaitBoot(ctx); err != nil {
		text, _ := b.m.Console(0)
		return nil, fmt.Errorf("%w; the console ends with: %s", err, tail(text))
	}
	var all []Outcome
	for _, row := range rows {
		for voids := 0; ; voids++ {
			start := time.Now()
			o := b.playOnce(ctx, row, peer)
			o.Voids = voids
			if ctx.Err() != nil {
				return all, ctx.Err()
			}
			wrong := judge(o)
			b.say("%-30s %5.1f s in all, host stalled %.3f s, emulator waited %.3f s %s", row.Name, time.Since(start).Seconds(),
				o.Stall.Seconds(), o.Starved.Seconds(), strings.Join(wrong, "; "))
			if len(wrong) > 0 && o.stalled() && voids < maxVoids {
				b.say("void: the host stood still; once more")
				if err := b.again(ctx, o); err != nil {
					return all, err
				}
				continue
			}
			all = append(all, o)
			if len(wrong) > 0 {
				b.keepEvidence(ctx, o)
			}
			if err := b.again(ctx, o); err != nil {
				return all, err
			}
			break
		}
	}
	return all, nil
}

// again brings the machine into a fresh boot, if it is not in one.
func (b *Bench) again(ctx context.Context, o Outcome) error {
	if o.Said != "" && !o.Reset.IsZero() { // it is in one, and nothing was done to it yet
		return nil
	}
	if err := b.m.Restart(ctx); err != nil {
		return err
	}
	return b.awaitBoot(ctx)
}

// playOnce plays a row in a fresh boot and, if it ends in a reset, waits for the next one.
func (b *Bench) playOnce(ctx context.Context, row Row, peer *Peer) Outcome {
	if row.play == nil {
		return b.playWithout(ctx, row)
	}
	o := Outcome{Row: row, By: ByNothing}
	measure, err := b.measureStall()
	fail := func(err error) Outcome { measure(&o); o.Problems = append(o.Problems, err.Error()); return o }
	if err != nil {
		return fail(err)
	}
	ready := time.Now()
	if err := b.hold(ctx, row); err != nil {
		return fail(err)
	}
	if events, _, _ := b.m.qmp.since(ready); len(events) > 0 {
		return fail(fmt.Errorf("before the fault the emulator said %v", events))
	}
	_, console := b.m.Console(0)
	if measure, err = b.measureStall(); err != nil { // from now on it counts for the bound
		return fail(err)
	}
	start := time.Now()
	granted := make(chan error, 1)
	asking, stop := context.WithTimeout(ctx, row.Allowed+pauseLength+budgetOf(row.Profile).Hold()+patience)
	defer stop()
	var at time.Time
	go func() {
		var err error
		at, err = peer.Grant(asking)
		granted <- err
	}()
	if o.From, err = row.play(ctx, b); err == nil {
		o.Events, err = b.awaitReset(ctx, start, o.From.Add(row.Allowed+patience))
	}
	if n := len(o.Events); n > 0 && o.Events[n-1].isReset() {
		o.Reset = o.Events[n-1].At
	}
	measure(&o)
	text, _ := b.m.Console(console)
	o.By = endedBy(o.Events, text)
	if err != nil || o.Reset.IsZero() {
		stop()
		<-granted
		if err != nil {
			o.Problems = append(o.Problems, err.Error())
		}
		return o
	}
	if err := b.m.Restart(ctx); err != nil {
		o.Problems = append(o.Problems, err.Error())
	}
	if err := <-granted; err != nil {
		o.Problems = append(o.Problems, err.Error())
	} else {
		o.Granted = at
	}
	return b.afterwards(ctx, o)
}

// measureStall begins to measure how long the host stands still; the returned function says it of an outcome.
func (b *Bench) measureStall() (func(*Outcome), error) {
	b.watch.reset()
	before, err := waited(b.m.cmd.Process.Pid)
	return func(o *Outcome) {
		o.Stall = b.watch.reset()
		if after, err := waited(b.m.cmd.Process.Pid); err == nil {
			o.Starved = after - before
		}
	}, err
}

// afterwards boots and asks why.
func (b *Bench) afterwards(ctx context.Context, o Outcome) Outcome {
	err := b.awaitBoot(ctx)
	if err == nil {
		o.Said, err = b.m.Run(ctx, commandLimit, "leasedog", "why")
	}
	if err != nil {
		o.Problems = append(o.Problems, err.Error())
	}
	o.Said, _, _ = strings.Cut(o.Said, "\n")
	return o
}

// playWithout starts the agent on a machine without a watchdog, and looks for the message and for the absence of a grant.
func (b *Bench) playWithout(ctx context.Context, row Row) Outcome {
	o := Outcome{Row: row, By: ByNothing}
	start := time.Now()
	err := b.withoutDevice(ctx, &o)
	if err != nil {
		o.Problems = append(o.Problems, err.Error())
	}
	o.Events, _, _ = b.m.qmp.since(start)
	for _, e := range o.Events {
		if e.isReset() {
			o.Reset = e.At
		}
	}
	return o
}

func (b *Bench) withoutDevice(ctx context.Context, o *Outcome) error {
	message, err := noDeviceMessage()
	if err != nil {
		return err
	}
	if err := b.startCluster(ctx); err != nil {
		return err
	}
	err = waitFor(ctx, "the agent to say that there is no watchdog", holdLimit, func() error {
		s, err := b.status(ctx)
		if err != nil {
			return err
		}
		for _, why := range s.Leases[0].WhyNot {
			if strings.Contains(why, message) {
				o.Said = why
				return nil
			}
		}
		return fmt.Errorf("it says %q", s.Leases[0].WhyNot)
	})
	if err != nil {
		return err
	}
	// The lease is free, and there it stays.
	for end := time.Now().Add(budgetOf(agentProfile).Wait()); time.Now().Before(end); {
		s, err := b.status(ctx)
		if err != nil {
			return err
		}
		l, err := b.arbiter.Lease(ctx)
		if err != nil && !errors.Is(err, errNoLease) {
			return err
		}
		if s.Leases[0].State != "standby" || l.Epoch != 0 || l.Holder != "" {
			return fmt.Errorf("without a watchdog the lease is %s, and at the arbiter %+v", s.Leases[0].State, l)
		}
	}
	return nil
}

// startCluster starts Pacemaker, puts the lease's rule in place with the product's command, and starts the agent, unless it runs.
func (b *Bench) startCluster(ctx context.Context) error {
	if _, err := b.m.Run(ctx, commandLimit, "systemctl", "is-active", "leasedog.service"); err == nil {
		return nil
	}
	if _, err := b.m.Run(ctx, 2*time.Minute, "systemctl", "start", "corosync.service", "pacemaker.service"); err != nil {
		return err
	}
	err := waitFor(ctx, "Pacemaker to come to rest", holdLimit, func() error {
		out, err := b.m.Run(ctx, commandLimit, "crmadmin", "-S", nodeName)
		if err == nil && !strings.Contains(out, "S_IDLE") {
			err = errors.New(strings.TrimSpace(out))
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, argv := range [][]string{{"leasedog", "constraints", "all", "--apply", "--cluster-options", "--yes"},
		{"crm_attribute", "-n", "stop-all-resources", "-v", "false"}, {"systemctl", "start", "leasedog.service"}} {
		if _, err := b.m.Run(ctx, time.Minute, argv...); err != nil {
			return err
		}
	}
	return nil
}

// keepEvidence copies what a failed row left behind to a folder that outlives the machine.
func (b *Bench) keepEvidence(ctx context.Context, o Outcome) {
	dir := b.cache + "/evidence/" + time.Now().UTC().Format("20060102-150405-") + o.Row.Name
	console, _ := os.ReadFile(b.m.path("console"))
	journal := "the machine was reset"
	if o.Reset.IsZero() {
		journal, _ = b.m.Run(ctx, commandLimit, "journalctl", "-b", "-o", "short-monotonic", "--no-pager")
	}
	for name, text := range map[string]string{"console": string(console), "journal": journal, "outcome": fmt.Sprintf("%+v\n", o)} {
		if err := writeFile(dir+"/"+name, []byte(text), 0o644); err != nil {
			b.say("keep evidence: %v", err)
		}
	}
	b.say("evidence is kept in %s", dir)
}
