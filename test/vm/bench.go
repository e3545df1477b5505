package vm

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/leasedog/leasedog/guard/guardapi"
	"github.com/leasedog/leasedog/test/lab"
)

const (
	// commandLimit bounds a small program in the machine.
	commandLimit = 20 * time.Second
	bootLimit    = 2 * time.Minute
	// holdLimit bounds how long it takes until the lease is held; Pacemaker takes most of a minute in emulation.
	holdLimit = 3 * time.Minute
	// patience is how long past its bound a reset is waited for, to tell late from never.
	patience = 10 * time.Second
)

// Bench is one machine with its arbiter and peer.
type Bench struct {
	repo, cache string
	port        int
	m           *Machine
	arbiter     *Arbiter
	watch       *observer
	boot        string // the boot that the next row plays in
	say         func(format string, args ...any)
}

// Open builds the machine's disk from this tree and switches everything on.
func Open(ctx context.Context, say func(format string, args ...any)) (*Bench, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("the machine's disk has files of many owners: run this as root")
	}
	c, err := lab.Open("vm", os.Stderr)
	if err != nil {
		return nil, err
	}
	b := &Bench{repo: c.Repo, cache: filepath.Join(c.Repo, ".cache", "vm"), say: say}
	if err := os.MkdirAll(b.cache, 0o755); err != nil {
		return nil, err
	}
	if b.port, err = freePort(); err != nil {
		return nil, err
	}
	img, err := builder{repo: b.repo, cache: b.cache, port: b.port, logf: say}.build(ctx)
	if err != nil {
		return nil, err
	}
	product := filepath.Join(b.cache, "product/usr/sbin/leasedog-arbiter")
	if b.arbiter, err = startArbiter(ctx, product, filepath.Join(b.cache, "run", "arbiter"), b.port); err != nil {
		return nil, err
	}
	if b.m, err = startMachine(img, filepath.Join(b.cache, "run", "machine")); err != nil {
		b.arbiter.Stop()
		return nil, err
	}
	b.watch = newObserver()
	return b, nil
}

// Close switches everything off.
func (b *Bench) Close() {
	b.watch.close()
	b.m.Stop()
	b.arbiter.Stop()
}

// enroll makes the arbiter's empty store know the cluster, as an administrator does who starts with one node.
func (b *Bench) enroll(ctx context.Context, p *Peer) error {
	if err := p.Introduce(ctx); err != nil {
		return err
	}
	_, err := run(ctx, commandLimit, b.cache, b.arbiter.program, "recover", clusterName, "--yes", "--config", b.arbiter.config())
	return err
}

// awaitBoot waits for the boot after the last reset.
func (b *Bench) awaitBoot(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	boot, err := b.m.WaitBoot(ctx, b.boot)
	if err != nil {
		return err
	}
	b.boot = boot
	return b.m.Arm()
}

// load loads a watchdog's driver; watchdog is the core of every one of them.
func (b *Bench) load(ctx context.Context, device Layer) error {
	_, err := b.m.Run(ctx, commandLimit, guestBin, "load", "watchdog", string(device))
	return err
}

// loaded checks that the only watchdog is the row's, and that somebody feeds it.
func (b *Bench) loaded(ctx context.Context, device Layer) error {
	out, err := b.m.Run(ctx, commandLimit, "sh", "-c", "cd /sys/class/watchdog && cat */identity */state */timeout")
	if err != nil {
		return err
	}
	identity := map[Layer]string{ByI6300ESB: "i6300ESB timer", BySoftdog: "Software Watchdog"}[device]
	want := fmt.Sprintf("%s\nactive\n", identity)
	if !strings.HasPrefix(out, want) || strings.Count(out, "\n") != 3 {
		return fmt.Errorf("the watchdog is %q, want %q and its timeout", out, want)
	}
	return nil
}

// hold makes the machine hold the lease: with the small holder or with the real agent.
func (b *Bench) hold(ctx context.Context, row Row) error {
	if row.Device != ByNothing {
		if err := b.load(ctx, row.Device); err != nil {
			return err
		}
	}
	held := func() error {
		_, err := b.m.Run(ctx, commandLimit, "cat", heldFile)
		return err
	}
	if row.Agent {
		held = func() error { return b.agentHolds(ctx) }
		if err := b.startCluster(ctx); err != nil {
			return err
		}
	} else {
		url := fmt.Sprintf("http://%s:%d", hostAddress, b.port)
		if _, err := b.m.Run(ctx, time.Minute, "systemd-run", "--quiet", "--unit=vm-hold", guestBin, "hold", "--arbiter", url,
			"--profile", row.Profile, "--mode", string(cmp.Or(row.Mode, guardapi.ModeRequired))); err != nil {
			return err
		}
	}
	if err := waitFor(ctx, "the lease to be held", holdLimit, held); err != nil {
		return err
	}
	if row.Device == ByNothing {
		return nil
	}
	return b.loaded(ctx, row.Device)
}

// agentStatus is the part of "leasedog status -o json" that the rows read.
type agentStatus struct {
	Watchdog struct {
		Mode            string `json:"mode"`
		PauseProtection string `json:"pause_protection"`
	} `json:"watchdog"`
	Leases []struct {
		State     string   `json:"state"`
		WhyNot    []string `json:"why_not"`
		Attribute *string  `json:"attribute"`
		Guard     struct {
			Armed bool `json:"armed"`
		} `json:"guard"`
		Resources []struct {
			State string `json:"state"`
		} `json:"resources"`
	} `json:"leases"`
}

func (b *Bench) status(ctx context.Context) (agentStatus, error) {
	out, err := b.m.Run(ctx, commandLimit, "leasedog", "status", "-o", "json")
	if err != nil {
		return agentStatus{}, err
	}
	var s agentStatus
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		return s, fmt.Errorf("read leasedog's status: %w", err)
	}
	if len(s.Leases) != 1 || s.Watchdog.Mode != "required" {
		return s, fmt.Errorf("leasedog's status is not that of one lease with a required watchdog: %s", out)
	}
	return s, nil
}

// agentHolds is nil when the lease is held, the guard armed, and Pacemaker runs the resource.
func (b *Bench) agentHolds(ctx context.Context) error {
	s, err := b.status(ctx)
	if err != nil {
		return err
	}
	l := s.Leases[0]
	if l.State != "held" || !l.Guard.Armed || len(l.Resources) != 1 || l.Resources[0].State != "running" {
		return fmt.Errorf("the lease is %s, guard armed %v, resources %v, %q", l.State, l.Guard.Armed, l.Resources, l.WhyNot)
	}
	return nil
}

func (b *Bench) guardPID(ctx context.Context) (string, error) {
	out, err := b.m.Run(ctx, commandLimit, "systemctl", "show", "--property=MainPID", "--value", "leasedog-guard.service")
	if pid := strings.TrimSpace(out); err == nil && pid != "0" && pid != "" {
		return pid, nil
	}
	return "", errors.Join(err, errors.New("no guard runs"))
}

// pid1IsFrozen waits until a program that asks PID 1 hangs until it is killed. Right after the crash it may still be refused.
func (b *Bench) pid1IsFrozen(ctx context.Context) error {
	return waitFor(ctx, "PID 1 to stand still", commandLimit, func() error {
		out, err := b.m.Run(ctx, 2*time.Second, "systemctl", "is-system-running")
		var exit *ExitError
		if errors.As(err, &exit) && exit.Code == -1 {
			return nil
		}
		return fmt.Errorf("its tool was not killed for waiting: %q, %v", out, err)
	})
}

// consoleSays waits for a text on the serial line.
func (b *Bench) consoleSays(ctx context.Context, from int64, text string) error {
	for {
		if out, _ := b.m.Console(from); strings.Contains(out, text) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %q on the console: %w", text, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// awaitReset returns the events from an instant to the first reset, or what there was when the limit was over.
func (b *Bench) awaitReset(ctx context.Context, since time.Time, limit time.Time) ([]Event, error) {
	timer := time.NewTimer(time.Until(limit))
	defer timer.Stop()
	for {
		events, news, err := b.m.qmp.since(since)
		if i := slices.IndexFunc(events, Event.isReset); i >= 0 {
			return events[:i+1], nil
		}
		if err != nil {
			return events, err
		}
		select {
		case <-news:
		case <-timer.C:
			return events, nil
		case <-ctx.Done():
			return events, ctx.Err()
		}
	}
}

// waitFor polls until done says yes; its error is the last reason why not.
func waitFor(ctx context.Context, what string, limit time.Duration, done func() error) error {
	deadline := time.Now().Add(limit)
	for {
		err := done()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("wait %v for %s: %w", limit, what, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", what, errors.Join(ctx.Err(), err))
		case <-time.After(500 * time.Millisecond):
		}
	}
}
