package guard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/leasedog/leasedog/guard/guardapi"
)

// Report is what a preflight found. It is printed as JSON for the agent.
type Report struct {
	Mode      guardapi.Mode `json:"mode"`
	Device    string        `json:"device,omitempty"`
	Identity  string        `json:"identity,omitempty"`
	KillTimer bool          `json:"kill_timer"`
	RealTime  bool          `json:"real_time"`
	Chances   int           `json:"chances"` // c
	// Watchdog is W in nanoseconds: as last read back on this device, or else as wanted.
	Watchdog      time.Duration    `json:"watchdog"`
	WatchdogKnown bool             `json:"watchdog_known"` // read back before, not only wanted
	Container     bool             `json:"container,omitempty"`
	Running       *guardapi.Status `json:"running,omitempty"` // a guard that runs was asked instead
	Warnings      []string         `json:"warnings,omitempty"`
	Problem       string           `json:"problem,omitempty"`
}

// Preflight tries everything that a guard needs, in a process of its own that ends afterwards: its memory stays
// locked and its threads real-time. No watchdog is ever opened: with nowayout
// nothing could stop it again. A guard that runs is asked for its status instead. The error, if any, says what an
// administrator must do; the report is good as far as it goes.
func Preflight(ctx context.Context, opt Options) (Report, error) {
	r, err := preflight(ctx, opt)
	if err != nil {
		r.Problem = err.Error()
	}
	return r, err
}

func preflight(ctx context.Context, opt Options) (Report, error) {
	r := Report{Container: inContainer(opt.Root), Chances: 1}
	running, err := askRunning(ctx, opt.SocketPath)
	if err != nil {
		return r, err
	}
	if running != nil {
		r.Running, r.Mode, r.Device, r.Identity = running, running.Mode, running.Device, running.Identity
		r.KillTimer, r.RealTime, r.Chances = running.KillTimer, running.RealTime, running.Chances
		r.Watchdog, r.WatchdogKnown, r.Warnings = running.Watchdog, true, running.Warnings
		return r, nil
	}
	setup, err := guardapi.ReadSetup(opt.SetupPath)
	if err != nil {
		return r, err
	}
	r.Mode, r.Watchdog = setup.Mode, setup.Watchdog
	process := opt.process.orReal()
	if err := process.lockMemory(); err != nil {
		return r, fmt.Errorf("%w (is LimitMEMLOCK= set, and CAP_IPC_LOCK allowed?)", err)
	}
	r.tryChances(process.realTime)
	if err := tryReset(opt.Root, r.Container); err != nil {
		return r, err
	}
	if setup.Mode == guardapi.ModeSystemd {
		r.Watchdog, r.WatchdogKnown = guardapi.SystemdWatchdog, true
		return r, nil
	}
	info, err := ChooseWatchdog(opt.Root, setup.Device)
	if err != nil {
		return r, err
	}
	r.Device, r.Identity = info.Path, info.Identity
	return r, r.recall(opt.StateDir, setup, info)
}

// recall takes W as last read back on the same device; a smallest timeout that sysfs tells is known as well.
func (r *Report) recall(dir string, setup guardapi.Setup, info WatchdogInfo) error {
	r.Watchdog = max(setup.Watchdog, info.Min)
	text, err := os.ReadFile(filepath.Join(dir, knownWatchdogFile))
	if errors.Is(err, fs.ErrNotExist) {
		r.Warnings = append(r.Warnings, "the timeout of "+info.Path+" has never been read back")
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the watchdog's last timeout: %w", err)
	}
	var k KnownWatchdog
	if err := json.Unmarshal(text, &k); err != nil {
		r.Warnings = append(r.Warnings, fmt.Sprintf("the watchdog's last timeout cannot be read: %v", err))
		return nil
	}
	if k.Device == info.Path && k.Identity == info.Identity && k.Watchdog > 0 {
		r.Watchdog, r.WatchdogKnown = max(r.Watchdog, k.Watchdog), true
	}
	return nil
}

// askRunning returns nil without an error if no guard runs. One that runs and does not answer is a problem.
func askRunning(ctx context.Context, path string) (*guardapi.Status, error) {
	c := guardapi.NewClient(path)
	defer c.Close()
	status, err := c.Status(ctx)
	if errors.Is(err, guardapi.ErrNoGuard) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("ask the running guard: %w", err)
	}
	return &status, nil
}

func (r *Report) tryChances(realTime func() error) {
	r.KillTimer, r.RealTime = true, true
	timer, err := newKillTimer()
	if err == nil {
		err = timer.Delete()
	}
	if err != nil {
		r.KillTimer = false
		r.warn(err)
	}
	if err := realTime(); err != nil {
		r.RealTime = false
		r.warn(err)
	}
}

func (r *Report) warn(err error) {
	r.Chances = 2
	r.Warnings = append(r.Warnings, err.Error()+": the budget must count two watchdog timeouts (c = 2)")
}

// tryReset opens sysrq where the guard will, and writes nothing.
func tryReset(root string, container bool) error {
	if container {
		return nil
	}
	f, err := os.OpenFile(root+"/proc/sysrq-trigger", os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a kernel without it: reboot(2)
	}
	if err != nil {
		return fmt.Errorf("open /proc/sysrq-trigger: %w", err)
	}
	return f.Close()
}
