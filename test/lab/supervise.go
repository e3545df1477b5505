package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Monotonic is an instant of CLOCK_MONOTONIC in nanoseconds; every process of every host reads the same clock.
type Monotonic int64

// Now reads CLOCK_MONOTONIC.
func Now() Monotonic {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic("lab: read CLOCK_MONOTONIC: " + err.Error())
	}
	return Monotonic(ts.Nano())
}

// Sub returns how long after earlier the instant is.
func (m Monotonic) Sub(earlier Monotonic) time.Duration { return time.Duration(m - earlier) }

// Add returns the instant d later.
func (m Monotonic) Add(d time.Duration) Monotonic { return m + Monotonic(d) }

// What a supervisor records about its host.
const (
	Booted     = "boot"
	WasReset   = "reset" // the host asked for it: reboot(2), FailureAction=, systemctl reboot
	Crashed    = "crash" // its PID 1 was killed
	PoweredOff = "poweroff"
)

// slowStart is the file that says how long a host's firmware takes.
const slowStart = "slow-start"

// exitReset is how systemd-nspawn says that the container wants to be booted again.
const exitReset = 133

// HostEvent is one line of a host's events file.
type HostEvent struct {
	At   Monotonic `json:"at"`
	What string    `json:"what"`
	Boot int       `json:"boot"`           // counts from 1
	Code int       `json:"code,omitempty"` // of systemd-nspawn
}

// HostEvents returns what happened to a host since an instant, oldest first.
func (c *Cluster) HostEvents(host string, since Monotonic) ([]HostEvent, error) {
	data, err := os.ReadFile(filepath.Join(c.hostDir(host), "events"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read events of %s: %w", host, err)
	}
	var events []HostEvent
	for _, line := range strings.Split(string(data), "\n") {
		var e HostEvent
		if line == "" {
			continue
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			return nil, fmt.Errorf("read events of %s: %w", host, err)
		}
		if e.At >= since {
			events = append(events, e)
		}
	}
	return events, nil
}

// Supervise boots a host, and boots it again whenever it ends, as a machine with power does. It returns only with ctx
// or when the host cannot be started at all.
func (c *Cluster) Supervise(ctx context.Context, host string) error {
	for boot := 1; ; boot++ {
		if err := c.waitAllowed(ctx, host); err != nil {
			return err
		}
		if err := c.firmware(ctx, host, boot); err != nil {
			return err
		}
		end, err := c.bootOnce(ctx, host, boot)
		if err != nil {
			return err
		}
		if end.What == PoweredOff {
			if err := c.StayDown(host, true); err != nil {
				return err
			}
		}
	}
}

// waitAllowed waits as long as the host is to stay down.
func (c *Cluster) waitAllowed(ctx context.Context, host string) error {
	for {
		if _, err := os.Stat(filepath.Join(c.hostDir(host), "stay-down")); errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

// firmware takes the time that a real machine needs before its kernel, where StartsSlowly asks for it.
func (c *Cluster) firmware(ctx context.Context, host string, boot int) error {
	text, err := os.ReadFile(filepath.Join(c.hostDir(host), slowStart))
	if errors.Is(err, os.ErrNotExist) || boot == 1 {
		return nil
	}
	if err != nil {
		return err
	}
	d, err := time.ParseDuration(string(text))
	if err != nil {
		return err
	}
	return pause(ctx, d)
}

// bootOnce runs the container from its boot to its end.
func (c *Cluster) bootOnce(ctx context.Context, host string, boot int) (HostEvent, error) {
	cgroups, err := c.cgroups(host)
	if err != nil {
		return HostEvent{}, err
	}
	if err := c.removeCgroups(host); err != nil {
		return HostEvent{}, err
	}
	for _, dir := range cgroups {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return HostEvent{}, fmt.Errorf("make a cgroup: %w", err)
		}
	}
	if err := c.resetAddresses(ctx, host); err != nil {
		return HostEvent{}, err
	}
	if err := c.applyCuts(ctx); err != nil {
		return HostEvent{}, err
	}
	console, err := os.OpenFile(filepath.Join(c.hostDir(host), "console"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return HostEvent{}, fmt.Errorf("open the console: %w", err)
	}
	defer console.Close()
	cmd := c.bootCommand(host, cgroups)
	cmd.Stdout, cmd.Stderr = console, console
	if err := cmd.Start(); err != nil {
		return HostEvent{}, fmt.Errorf("boot %s: %w", host, err)
	}
	if err := c.record(host, HostEvent{At: Now(), What: Booted, Boot: boot}); err != nil {
		return HostEvent{}, err
	}
	leader := make(chan error, 1)
	stop := make(chan struct{})
	go func() { leader <- c.recordLeader(host, cmd.Process.Pid, stop) }()
	end := c.classify(cmd.Wait(), boot)
	close(stop)
	if err := c.record(host, end); err != nil {
		return end, err
	}
	if err := <-leader; err != nil {
		return end, fmt.Errorf("boot %s: %w (see %s)", host, err, console.Name())
	}
	return end, os.Remove(filepath.Join(c.hostDir(host), "leader"))
}

// classify tells from systemd-nspawn's exit how the host ended.
func (c *Cluster) classify(err error, boot int) HostEvent {
	e := HostEvent{At: Now(), What: Crashed, Boot: boot}
	var exit *exec.ExitError
	switch {
	case err == nil:
		e.What = PoweredOff
	case errors.As(err, &exit):
		e.Code = exit.ExitCode()
		if e.Code == exitReset {
			e.What = WasReset
		}
	}
	return e
}

// recordLeader writes down the container's PID 1 as soon as systemd-nspawn has started it.
func (c *Cluster) recordLeader(host string, nspawn int, stop <-chan struct{}) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if p, ok := containerInit(nspawn); ok {
			path := filepath.Join(c.hostDir(host), "leader")
			if err := os.WriteFile(path+".new", fmt.Appendf(nil, "%d %s\n", p.PID, p.Start), 0o644); err != nil {
				return fmt.Errorf("record its PID 1: %w", err)
			}
			return os.Rename(path+".new", path)
		}
		select {
		case <-stop:
			return errors.New("systemd-nspawn ended before the container had a PID 1")
		case <-tick.C:
		}
	}
}

// containerInit finds the child of systemd-nspawn that is PID 1 of a namespace and runs systemd.
func containerInit(nspawn int) (Process, bool) {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", nspawn, nspawn))
	for _, field := range strings.Fields(string(data)) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			continue
		}
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		for _, line := range strings.Split(string(status), "\n") {
			ids := strings.Fields(line)
			if len(ids) == 3 && ids[0] == "NSpid:" && ids[2] == "1" && strings.HasSuffix(exe, "/systemd") {
				p, err := findProcess(pid)
				return p, err == nil
			}
		}
	}
	return Process{}, false
}

func (c *Cluster) record(host string, e HostEvent) error {
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("record an event of %s: %w", host, err)
	}
	f, err := os.OpenFile(filepath.Join(c.hostDir(host), "events"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("record an event of %s: %w", host, err)
	}
	defer f.Close()
	if _, err := f.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("record an event of %s: %w", host, err)
	}
	return nil
}
