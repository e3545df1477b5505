package guard

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/google/renameio/v2"

	"github.com/leasedog/leasedog/agent/cause"
	"github.com/leasedog/leasedog/boottime"
	"github.com/leasedog/leasedog/guard/guardapi"
	"github.com/leasedog/leasedog/lease"
	"github.com/leasedog/leasedog/systemd"
)

// Options is what Run and Preflight are told. The zero value of a hook is the real thing.
type Options struct {
	SetupPath  string // guardapi.SetupPath
	SocketPath string // guardapi.SocketPath
	StateDir   string // /var/lib/leasedog
	Root       string // prefix of /sys, /proc, /dev/kmsg and /run/systemd; "" but in tests
	Version    string
	Logf       func(format string, args ...any) // one line to stderr; never called on an ordinary tick

	// Reset ends the node. Tests replace it: nil means the real one.
	Reset func(text string)
	// OpenDevice opens a watchdog device; nil: the kernel's.
	OpenDevice func(path string) (Device, error)

	process processHooks
}

// processHooks change the whole process; the tests of this package leave theirs alone.
type processHooks struct {
	lockMemory, realTime func() error
}

func (h processHooks) orReal() processHooks {
	if h.lockMemory == nil {
		h.lockMemory = lockMemory
	}
	if h.realTime == nil {
		h.realTime = realTime
	}
	return h
}

// opener opens devices below the root.
func (opt Options) opener() func(path string) (Device, error) {
	if opt.OpenDevice != nil {
		return opt.OpenDevice
	}
	return func(path string) (Device, error) { return openDevice(opt.Root + path) }
}

// maxFeedPeriod bounds how seldom the loop looks at the clock by itself.
const maxFeedPeriod = time.Second / 3

// Run is the guard's life. Before the first arm every problem is returned as an error, and the caller must then exit
// with 0: READY=1 was sent, so the unit ends as inactive, never as failed (which would reset the node). After it Run
// returns only when nothing is armed; nil then.
func Run(opt Options) error {
	notify, err := systemd.NewNotifier()
	if err != nil {
		opt.Logf("%v", err)
	}
	defer notify.Close()
	if err := notify.Ready("starting"); err != nil {
		opt.Logf("%v", err)
	}
	signal.Ignore(syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGPIPE, syscall.SIGALRM, syscall.SIGUSR1, syscall.SIGUSR2)
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM, syscall.SIGINT)

	g, s, err := startSafely(opt, notify)
	if err != nil {
		return errors.Join(err, guardapi.WriteFailure(opt.SetupPath, err))
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	jumps := g.watchForPauses(ctx, opt)
	s.serve()
	if err := g.loopSafely(s, jumps, term); err != nil {
		return err
	}
	return g.end()
}

// loopSafely lets a panic end the process, which resets the node, only when something may be armed.
func (g *guard) loopSafely(s *server, jumps <-chan boottime.Jump, term <-chan os.Signal) (err error) {
	defer func() {
		if g.everArmed {
			return // not recovered
		}
		if p := recover(); p != nil {
			err = fmt.Errorf("run the guard: panic before the first arm: %v", p)
		}
	}()
	g.loop(s, feedPeriod(g.base), jumps, term)
	return nil
}

// startSafely turns a panic into an error: it would end the process with an exit code that resets a node which
// guards nothing yet.
func startSafely(opt Options, notify *systemd.Notifier) (g *guard, s *server, err error) {
	defer func() {
		if p := recover(); p != nil {
			g, s, err = nil, nil, fmt.Errorf("start the guard: panic: %v", p)
		}
	}()
	return start(opt, notify)
}

// start makes everything that can fail before anybody is listened to. What was opened is closed again on an error.
func start(opt Options, notify *systemd.Notifier) (g *guard, s *server, err error) {
	setup, err := guardapi.ReadSetup(opt.SetupPath)
	if err != nil {
		return nil, nil, err
	}
	if err := guardapi.ClearFailure(opt.SetupPath); err != nil {
		return nil, nil, err
	}
	process := opt.process.orReal()
	if err := process.lockMemory(); err != nil {
		return nil, nil, err
	}
	container := inContainer(opt.Root)
	g = &guard{now: boottime.Now, notify: notify, slack: setup.TimerSlack, logf: opt.Logf, reset: opt.Reset,
		last: newResetter(opt.Root, container), clients: map[*client]struct{}{}}
	if g.reset == nil {
		g.reset = func(string) { g.last.reset() }
	}
	g.base = guardapi.Status{PID: os.Getpid(), Version: opt.Version, BootID: kernelBootID(opt.Root), Mode: setup.Mode,
		ResetBy: g.last.by(), Chances: 1}
	g.getChances(process.realTime)
	if s, err = listen(opt.SocketPath); err != nil {
		return nil, nil, err
	}
	if err := g.startWatchdog(opt, setup); err != nil {
		s.listener.Close()
		return nil, nil, err
	}
	g.dead = lease.NewDeadman(lease.DeadmanConfig{Born: g.now(), TimerSlack: setup.TimerSlack, Stays: g.base.NoWayOut})
	g.scribe = newScribe(filepath.Join(opt.StateDir, cause.GuardFile))
	g.scribe.do(func() error { return WriteKnownWatchdog(opt.StateDir, g.base) })
	g.closer = func() { s.close(g.clients) }
	_ = notify.Status(g.describe())
	return g, s, nil
}

// getChances makes the kill timer and real-time scheduling; without either of them a feed may come late (c = 2).
func (g *guard) getChances(realTime func() error) {
	timer, err := newKillTimer()
	if err != nil {
		g.warn(err)
	} else {
		g.timer, g.base.KillTimer = timer, true
	}
	if err := realTime(); err != nil {
		g.warn(err)
	} else {
		g.base.RealTime = true
	}
}

func (g *guard) warn(err error) {
	g.base.Chances = 2
	g.base.Warnings = append(g.base.Warnings, err.Error()+": the budget must count two watchdog timeouts (c = 2)")
	g.logf("warning: %v (c = 2)", err)
}

// startWatchdog comes last: a device that was opened with nowayout cannot be closed again.
func (g *guard) startWatchdog(opt Options, setup guardapi.Setup) error {
	if setup.Mode == guardapi.ModeSystemd {
		g.base.Watchdog = guardapi.SystemdWatchdog
		g.base.Warnings = append(g.base.Warnings,
			"watchdog mode systemd: nothing resets this node when PID 1 or the kernel hangs")
		if err := g.notify.WatchdogTimeout(guardapi.SystemdWatchdog); err != nil {
			return fmt.Errorf("set WatchdogSec: %w", err)
		}
		return nil
	}
	info, err := ChooseWatchdog(opt.Root, setup.Device)
	if err != nil {
		return err
	}
	dog, stuck, err := startWatchdog(info, setup.Watchdog, opt.opener())
	if err != nil && !stuck {
		return err
	}
	if err != nil {
		g.unusable = err.Error()
		g.logf("%v; it cannot be stopped, so this guard stays and feeds it", err)
	}
	g.dog = dog
	g.base.Device, g.base.Identity, g.base.Watchdog = dog.path, dog.identity, dog.timeout
	g.base.NoWayOut = dog.stays
	if info.Software() {
		g.base.Warnings = append(g.base.Warnings, "softdog: nothing resets this node when the kernel hangs with interrupts off")
	}
	return nil
}

// feedPeriod is P_feed: three feeds within every watchdog's timeout.
func feedPeriod(s guardapi.Status) time.Duration {
	period := min(maxFeedPeriod, guardapi.RequiredWatchdog/3)
	if s.Watchdog > 0 {
		period = min(period, s.Watchdog/3)
	}
	return period
}

// loop is the only place where anything is fed. A timer only wakes: the clock is read again by every step.
func (g *guard) loop(s *server, period time.Duration, jumps <-chan boottime.Jump, term <-chan os.Signal) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	status := g.describe()
	for !g.done {
		select {
		case <-timer.C:
		case c := <-s.joined:
			g.connected(c)
		case c := <-s.left:
			g.gone(c)
		case r := <-s.requests:
			r.reply <- g.handle(r.from, r.body)
			if now := g.describe(); now != status {
				status = now
				_ = g.notify.Status(status)
			}
		case j := <-jumps:
			g.logf("the machine stood still for about %v: every deadline comes that much earlier", j.Size)
			g.step(lease.DeadmanJump{S1: j.S1, S2: j.S2, Size: j.Size})
		case <-term:
			if g.dead.Armed() > 0 {
				g.logf("asked to end, and %s: refused", g.describe())
			}
			g.step(lease.DeadmanTerminate{})
		}
		wake := g.turn(period)
		timer.Reset(max(0, wake.Sub(g.now())))
		g.closeIfDue()
	}
}

// turn comes after everything that woke the loop: it ticks when a feed is due or a deadline has come, and returns
// when the loop must be awake again.
func (g *guard) turn(period time.Duration) lease.Instant {
	now := g.now()
	if now.Add(period/2) >= g.feedDue || now >= g.dead.Next() { // one that is due soon saves a wake-up
		g.step(lease.DeadmanTick{})
		g.feedDue = now.Add(period)
	}
	return lease.Earlier(lease.Earlier(g.feedDue, g.dead.Next()), g.mark(now))
}

// watchForPauses starts the pause detector where there can be one: in a virtual machine with a real-time clock. Its
// task looks once a second and ends with ctx.
func (g *guard) watchForPauses(ctx context.Context, opt Options) <-chan boottime.Jump {
	if inContainer(opt.Root) || !boottime.Virtual(opt.Root+"/proc", opt.Root+"/sys") {
		return nil
	}
	rtc, err := boottime.OpenRTC(opt.Root + "/sys")
	if err != nil {
		g.base.Warnings = append(g.base.Warnings, fmt.Sprintf("no protection against a paused virtual machine: %v", err))
		return nil
	}
	var advanced atomic.Bool
	g.rtcSeen = advanced.Load
	jumps := make(chan boottime.Jump, 4)
	go func() {
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		last, err := rtc.Sample()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			sample, again := rtc.Sample()
			if again != nil {
				continue // the next sample is compared with the last good one
			}
			if err == nil {
				if sample.RTC > last.RTC {
					advanced.Store(true)
				}
				if j, found := boottime.FindJump(last, sample); found {
					select {
					case jumps <- j:
					case <-ctx.Done():
						return
					}
				}
			}
			last, err = sample, nil
		}
	}()
	return jumps
}

// KnownWatchdog is what was last read back on a device: the W of the next acquire.
type KnownWatchdog struct {
	Mode     guardapi.Mode `json:"mode"`
	Device   string        `json:"device"`
	Identity string        `json:"identity"`
	Watchdog time.Duration `json:"watchdog"`
}

const knownWatchdogFile = "watchdog.json"

// WriteKnownWatchdog keeps W as read back in dir.
func WriteKnownWatchdog(dir string, s guardapi.Status) error {
	text := fmt.Sprintf("{\"mode\":%q,\"device\":%q,\"identity\":%q,\"watchdog\":%d}\n",
		s.Mode, s.Device, s.Identity, s.Watchdog)
	if err := renameio.WriteFile(filepath.Join(dir, knownWatchdogFile), []byte(text), 0o600); err != nil {
		return fmt.Errorf("keep the watchdog's timeout: %w", err)
	}
	return nil
}
