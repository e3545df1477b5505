package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/leasedog/leasedog/arbiterclient"
	"github.com/leasedog/leasedog/boottime"
	"github.com/leasedog/leasedog/guard/guardapi"
	"github.com/leasedog/leasedog/lease"
	"github.com/leasedog/leasedog/systemd"
)

// heldFile says inside of the machine that the small holder holds, and since which epoch.
const heldFile = "/run/vm-held"

// holder stands in for the agent in the rows that are about the guard alone: Pacemaker takes most of a minute to start in
// emulation. It uses the agent's clients of arbiter and guard and keeps its order (4.4.1, 4.4.3), and it never stops
// anything: whatever ends its lease, the machine must be reset.
type holder struct {
	budget  lease.Budget
	mode    guardapi.Mode
	arbiter *arbiterclient.Client
	guard   *guardapi.Client
	self    lease.Party
	seen    lease.Stamp
	epoch   lease.Epoch
}

// Hold acquires the lease, starts and arms the guard, and renews until ctx ends or the arbiter says no.
func Hold(ctx context.Context, url, profileName, mode string) error {
	b, err := lease.Profile(profileName)
	if err != nil {
		return err
	}
	client, err := arbiterclient.New(arbiterclient.Options{URLs: []string{url}, Insecure: true, Cluster: clusterName, Node: nodeName,
		RequestTimeout: b.RequestTimeout})
	if err != nil {
		return err
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return err
	}
	h := &holder{budget: b, mode: guardapi.Mode(mode), arbiter: client, guard: guardapi.NewClient(guardapi.SocketPath), self: lease.Party{Node: nodeName,
		BootID: strings.TrimSpace(string(boot)) + ".vm", Instance: lease.Instance{Start: boottime.Now(), Nonce: 1}}}
	defer h.guard.Close()
	for {
		err := h.win(ctx)
		if err == nil {
			break
		}
		fmt.Fprintln(os.Stderr, "vm: not won:", err)
		if ctx.Err() != nil {
			return err
		}
	}
	if err := os.WriteFile(heldFile, fmt.Appendf(nil, "%d\n", h.epoch), 0o644); err != nil {
		return err
	}
	return h.keep(ctx)
}

// win is one try: a grant, a first renewal, and the guard armed for it.
func (h *holder) win(ctx context.Context) error {
	b := h.budget
	a, err := h.ask(ctx, b.Wait()+b.RequestTimeout, lease.Acquire{Party: h.self, Seq: seq(), Seen: h.seen, Terms: b.Terms,
		Hold: b.Hold(), Wait: b.Wait(), Ready: true, Stopped: true})
	if err != nil {
		return err
	}
	if a.Verdict != lease.Granted {
		return fmt.Errorf("acquire: %s %s", a.Verdict, a.Reason)
	}
	h.epoch = a.Epoch
	setup := guardapi.Setup{Mode: h.mode, Device: "auto", Watchdog: b.Watchdog, TimerSlack: b.TimerSlack}
	if err := guardapi.WriteSetup(guardapi.SetupPath, setup); err != nil {
		return err
	}
	// A first renewal, or the grant lapses while emulation starts the unit; then one that the guard is armed for.
	if _, err := h.acknowledged(ctx); err != nil {
		return err
	}
	if err := startGuard(ctx); err != nil {
		return err
	}
	return h.renew(ctx)
}

func startGuard(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	m, err := systemd.Connect(ctx)
	if err != nil {
		return err
	}
	defer m.Close()
	return m.StartUnit(ctx, guardapi.UnitName)
}

// acknowledged sends one renewal and returns its Sent.
func (h *holder) acknowledged(ctx context.Context) (lease.Instant, error) {
	sent := boottime.Now()
	a, err := h.ask(ctx, h.budget.RequestTimeout, lease.Renew{Party: h.self, Epoch: h.epoch, Seq: uint64(sent), Seen: h.seen})
	if err != nil {
		return 0, err
	}
	if a.Verdict != lease.OK {
		return 0, fmt.Errorf("%w: %s %s", errNotRenewed, a.Verdict, a.Reason)
	}
	return sent, nil
}

// renew sends a renewal and, once it is acknowledged, extends the guard to its Sent + F.
func (h *holder) renew(ctx context.Context) error {
	sent, err := h.acknowledged(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, guardapi.DefaultTimeout)
	defer cancel()
	r, err := h.guard.Arm(ctx, guardapi.Request{Lease: leaseName, Epoch: h.epoch, Instance: h.self.Instance.String(), Sent: sent,
		Until: sent.Add(h.budget.HardDeadline()), StopBudget: h.budget.StopBudget})
	if err != nil {
		return err
	}
	if r.Status.Chances > h.budget.Chances {
		return fmt.Errorf("the guard counts c = %d: %q", r.Status.Chances, r.Status.Warnings)
	}
	return nil
}

// errNotRenewed ends a holder: it holds no more, and only the guard is left.
var errNotRenewed = errors.New("the renewal was not acknowledged")

func (h *holder) keep(ctx context.Context) error {
	tick := time.NewTicker(h.budget.RenewEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		err := h.renew(ctx)
		if errors.Is(err, errNotRenewed) {
			return err
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "vm:", err)
		}
	}
}

func (h *holder) ask(ctx context.Context, limit time.Duration, body any) (lease.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	a, err := h.arbiter.Ask(ctx, leaseName, body)
	if err == nil {
		h.seen = a.Stamp
	}
	return a, err
}

// seq is what the agent uses: the Instant of the request, which is higher in every later one of this boot.
func seq() uint64 { return uint64(boottime.Now()) }
