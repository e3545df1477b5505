package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/leasedog/leasedog/guard"
	"github.com/leasedog/leasedog/guard/guardapi"
	"github.com/leasedog/leasedog/lease"
)

// Layer is what ended the machine, as the emulator and the serial line tell.
type Layer string

// The layers that a row may expect.
const (
	ByNothing  Layer = "nothing"
	ByGuard    Layer = "guard"    // it wrote b to sysrq
	ByI6300ESB Layer = "i6300esb" // the device's own timer ran out
	BySoftdog  Layer = "softdog"  // the kernel's timer did
	ByOther    Layer = "something else"
)

// Row is one row of the table: a machine that holds the lease, a fault, and what must follow.
type Row struct {
	Name   string
	About  string
	Device Layer // the only driver that is loaded; ByNothing: none
	// Agent: the real agent beside a real Pacemaker holds the lease. Else the small holder does (holder.go).
	Agent   bool
	Profile string
	Mode    guardapi.Mode // of the small holder's guard; "": required
	By      Layer         // what must end the machine
	// From AtLeast to Allowed after the fault the machine must be reset.
	AtLeast, Allowed time.Duration
	// Extra: played only when it is named.
	Extra bool
	// Exposed: the peer may be granted the lease before the reset; that is measured and not promised.
	Exposed bool
	// Why must be part of what "leasedog why" says after the next boot; "": nothing is asked.
	Why string
	// play does the harm and returns the instant from which the bound counts; nil: the machine never gets the lease.
	play func(context.Context, *Bench) (time.Time, error)
}

// Texts of the product (agent/cause).
const (
	whyGuard   = "this node was reset by its guard at"
	whySilence = "this node went down while it held the lease, and no reset was announced"
)

// pauseLength is how long the machine is stopped from outside: longer than the hold of profile lan.
const pauseLength = 10 * time.Second

// detectorPeriod is how often the guard compares the real-time clock with its own (guard.watchForPauses).
const detectorPeriod = time.Second

// Rows returns the table in the order in which it is best run.
func Rows() []Row {
	rows := []Row{
		{Name: "vm-no-device", About: "no watchdog driver is loaded: no lease, and the message that says what to do",
			Device: ByNothing, Agent: true, Profile: agentProfile, By: ByNothing},
	}
	for _, device := range []Layer{ByI6300ESB, BySoftdog} {
		rows = append(rows, guardStopped(device), pid1Frozen(device), stopHangs(device))
	}
	rows = append(rows, panicked(), paused())
	return append(rows, noWatchdog())
}

// noWatchdog is a control: the machine must not be reset, so in vm-pid1-frozen-… it is the device that resets it.
func noWatchdog() Row {
	row := pid1Frozen(ByNothing)
	row.Name, row.About = "vm-pid1-frozen-mode-systemd", "control: the same without a device, in mode systemd: nothing resets the machine"
	row.By, row.Allowed, row.Why, row.Mode, row.Extra = ByNothing, 0, "", guardapi.ModeSystemd, true
	return row
}

const (
	// agentProfile gives the agent's tools the time that they need in emulation.
	agentProfile = "standard"
	// profile is that of the small holder: short, so that the rows are.
	profile = "lan"
)

func budgetOf(name string) lease.Budget {
	b, err := lease.Profile(name)
	if err != nil {
		panic("vm: " + err.Error())
	}
	return b
}

// deviceBound is how long after its last feed a device fires at the latest.
func deviceBound(b lease.Budget) time.Duration { return b.Watchdog + b.Quantum }

func guardStopped(device Layer) Row {
	return Row{Name: "vm-guard-stopped-" + string(device), About: "the guard is sent SIGSTOP", Device: device, Profile: profile,
		By: device, Allowed: deviceBound(budgetOf(profile)), Why: whySilence,
		play: func(ctx context.Context, b *Bench) (time.Time, error) {
			pid, err := b.guardPID(ctx)
			if err != nil {
				return time.Time{}, err
			}
			_, err = b.m.Run(ctx, commandLimit, "kill", "-STOP", pid)
			return time.Now(), err
		}}
}

func pid1Frozen(device Layer) Row {
	return Row{Name: "vm-pid1-frozen-" + string(device), About: "PID 1 has crashed and stands still; then the guard is killed, which " +
		"nobody but the device can see", Device: device, Profile: profile, By: device, Allowed: deviceBound(budgetOf(profile)),
		Why: whySilence,
		play: func(ctx context.Context, b *Bench) (time.Time, error) {
			pid, err := b.guardPID(ctx)
			if err != nil {
				return time.Time{}, err
			}
			// systemd stands still for ever after a crash (CrashReboot=no); SIGSTOP has no effect on PID 1.
			if _, err := b.m.Run(ctx, commandLimit, "kill", "-SEGV", "1"); err != nil {
				return time.Time{}, err
			}
			if err := b.pid1IsFrozen(ctx); err != nil {
				return time.Time{}, err
			}
			_, err = b.m.Run(ctx, commandLimit, "kill", "-KILL", pid)
			return time.Now(), err
		}}
}

func stopHangs(device Layer) Row {
	b := budgetOf(profile)
	return Row{Name: "vm-stop-hangs-" + string(device), About: "the link to the arbiter is cut, and nobody can stop the resource",
		Device: device, Profile: profile, By: ByGuard,
		// The last acknowledged renewal left up to R + T before the cut.
		AtLeast: b.HardDeadline() - b.RenewEvery - b.RequestTimeout,
		Allowed: b.HardDeadline() + b.TimerSlack + deviceBound(b), Why: whyGuard,
		play: func(ctx context.Context, b *Bench) (time.Time, error) {
			if _, err := b.m.Run(ctx, commandLimit, "touch", "/run/vm-stop-hangs"); err != nil {
				return time.Time{}, err
			}
			at := time.Now()
			return at, b.m.qmp.command("set_link", map[string]any{"name": "net", "up": false})
		}}
}

func panicked() Row {
	return Row{Name: "vm-kernel-panic-i6300esb", About: "the kernel panics and does not boot by itself (panic=0)", Device: ByI6300ESB,
		Profile: profile, By: ByI6300ESB, Allowed: deviceBound(budgetOf(profile)), Why: whySilence,
		play: func(ctx context.Context, b *Bench) (time.Time, error) {
			_, from := b.m.Console(0)
			go func() { _, _ = b.m.Run(ctx, time.Second, "sh", "-c", "echo c >/proc/sysrq-trigger") }() // no answer comes
			return time.Now(), b.consoleSays(ctx, from, "Kernel panic")
		}}
}

func paused() Row {
	b := budgetOf(profile)
	return Row{Name: "vm-stopped-10s-i6300esb", About: "the machine is stopped from outside for 10 s and goes on; the real-time clock is " +
		"the host's", Device: ByI6300ESB, Profile: profile, By: ByGuard, Allowed: detectorPeriod + b.TimerSlack + b.ResetLatency,
		Exposed: true,
		play: func(ctx context.Context, b *Bench) (time.Time, error) {
			if err := b.m.qmp.command("stop", nil); err != nil {
				return time.Time{}, err
			}
			select {
			case <-time.After(pauseLength):
			case <-ctx.Done():
				return time.Time{}, ctx.Err()
			}
			at := time.Now()
			return at, b.m.qmp.command("cont", nil)
		}}
}

// Select returns the named rows, or for none all that are not extra.
func Select(names []string) ([]Row, error) {
	var out []Row
	for _, row := range Rows() {
		if slices.Contains(names, row.Name) || len(names) == 0 && !row.Extra {
			out = append(out, row)
		}
	}
	if len(names) > 0 && len(out) != len(names) {
		return nil, fmt.Errorf("no such row among %q (see: vm list)", names)
	}
	return out, nil
}

// noDeviceMessage is what the product says where there is no watchdog, taken from the product: a machine without
// /sys/class/watchdog.
func noDeviceMessage() (string, error) {
	empty, err := os.MkdirTemp("", "vm-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(empty)
	if _, err = guard.ChooseWatchdog(empty, "auto"); err == nil {
		return "", errors.New("the guard finds a watchdog in an empty folder")
	}
	return err.Error(), nil
}

// endedBy tells the layer from the emulator's events and the serial line.
func endedBy(events []Event, console string) Layer {
	if !slices.ContainsFunc(events, Event.isReset) {
		return ByNothing
	}
	device := slices.ContainsFunc(events, func(e Event) bool { return e.Name == "WATCHDOG" })
	guarded := strings.Contains(console, "leasedog-guard: reset:")
	soft := strings.Contains(console, "softdog: Initiating system reboot")
	switch {
	case device && !guarded && !soft:
		return ByI6300ESB
	case guarded && !device && !soft:
		return ByGuard
	case soft && !device && !guarded:
		return BySoftdog
	}
	return ByOther
}
