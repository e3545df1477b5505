package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Process is a process that cannot be mistaken for a later one with the same number.
type Process struct {
	PID   int    `json:"pid"`
	Start string `json:"start"` // clock ticks since boot, from /proc/PID/stat
	Name  string `json:"name,omitempty"`
}

// findProcess identifies a running process.
func findProcess(pid int) (Process, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Process{}, fmt.Errorf("find process %d: %w", pid, err)
	}
	// The name, in parentheses, may hold spaces; the fields after it do not.
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 20 {
		return Process{}, fmt.Errorf("find process %d: short stat", pid)
	}
	if fields[0] == "Z" || fields[0] == "X" {
		return Process{}, fmt.Errorf("find process %d: it is dead", pid)
	}
	return Process{PID: pid, Start: fields[19]}, nil
}

func (p Process) alive() bool {
	now, err := findProcess(p.PID)
	return err == nil && now.Start == p.Start
}

// signal sends sig unless the process is gone.
func (p Process) signal(sig syscall.Signal) {
	if p.alive() {
		_ = syscall.Kill(p.PID, sig)
	}
}

func (p Process) kill() { p.signal(syscall.SIGKILL) }

// keep starts a hidden subcommand of this program that outlives it, and records it so that Down finds it.
func (c *Cluster) keep(name, verb string, args ...string) error {
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	log, err := os.OpenFile(filepath.Join(c.Dir(), name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	defer log.Close()
	cmd := exec.Command(exe, append([]string{verb, "--name", c.ID}, args...)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = c.Repo, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	p, err := findProcess(cmd.Process.Pid)
	if err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	p.Name = name
	go func() { _ = cmd.Wait() }() // reaps it when it ends before this program does
	return c.update(func(s *State) { s.Keepers = append(s.Keepers, p) })
}

// A kind of process that Freeze understands, told by its command line.
func processMatcher(name string) func(argv []string) bool {
	has := func(argv []string, program, verb string) bool {
		return len(argv) > 1 && filepath.Base(argv[0]) == program && argv[1] == verb
	}
	switch name {
	case "agent":
		return func(argv []string) bool { return has(argv, "leasedog", "agent") }
	case "guard":
		return func(argv []string) bool { return has(argv, "leasedog", "guard") }
	case "arbiter":
		return func(argv []string) bool { return has(argv, "leasedog-arbiter", "serve") }
	case "pacemaker":
		return func(argv []string) bool { return strings.HasPrefix(filepath.Base(argv[0]), "pacemaker") }
	}
	return func(argv []string) bool { return filepath.Base(argv[0]) == name }
}

// Find returns the processes of a host that are meant by a name: agent, guard, arbiter, pacemaker (every daemon of it),
// or a program.
func (c *Cluster) Find(host, name string) ([]Process, error) {
	leader, err := c.Leader(host)
	if err != nil {
		return nil, err
	}
	space, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", leader.PID))
	if err != nil {
		return nil, fmt.Errorf("find %s on %s: %w", name, host, err)
	}
	matches := processMatcher(name)
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("find %s on %s: %w", name, host, err)
	}
	var found []Process
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if its, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid)); err != nil || its != space {
			continue
		}
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		argv := strings.Split(strings.TrimRight(string(line), "\x00"), "\x00")
		if err != nil || argv[0] == "" || !matches(argv) {
			continue
		}
		if p, err := findProcess(pid); err == nil {
			p.Name = host + " " + name
			found = append(found, p)
		}
	}
	return found, nil
}

// Freeze stops processes as SIGSTOP does; they stay frozen until Thaw or their death.
func (c *Cluster) Freeze(host string, names ...string) error {
	for _, name := range names {
		found, err := c.Find(host, name)
		if err != nil {
			return err
		}
		if len(found) == 0 {
			return fmt.Errorf("freeze: no process called %q runs on %s", name, host)
		}
		if err := c.update(func(s *State) { s.Frozen = append(s.Frozen, found...) }); err != nil {
			return err
		}
		for _, p := range found {
			p.signal(syscall.SIGSTOP)
		}
	}
	return nil
}

// Thaw lets everything frozen go on.
func (c *Cluster) Thaw() error {
	return c.update(func(s *State) {
		for _, p := range s.Frozen {
			p.signal(syscall.SIGCONT)
		}
		s.Frozen = nil
	})
}

// Kill sends SIGKILL to the processes meant by name.
func (c *Cluster) Kill(host, name string) error {
	found, err := c.Find(host, name)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return fmt.Errorf("kill: no process called %q runs on %s", name, host)
	}
	for _, p := range found {
		p.kill()
	}
	return nil
}

// Crash ends a host at once, as a loss of power would. Its supervisor boots it again unless it is to stay down.
func (c *Cluster) Crash(ctx context.Context, host string) error {
	leader, err := c.Leader(host)
	if err != nil {
		return fmt.Errorf("crash: %w", err)
	}
	if err := c.silence(ctx, host); err != nil {
		return err
	}
	leader.kill()
	return waitFor(ctx, host+" to die", 10*time.Second, func() error {
		if leader.alive() {
			return errors.New("its PID 1 is alive")
		}
		return nil
	})
}

// StayDown keeps a host from booting again after its next end; false lets it boot.
func (c *Cluster) StayDown(host string, down bool) error {
	marker := filepath.Join(c.hostDir(host), "stay-down")
	if !down {
		if err := os.Remove(marker); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("let %s boot: %w", host, err)
		}
		return nil
	}
	if err := os.WriteFile(marker, nil, 0o644); err != nil {
		return fmt.Errorf("keep %s down: %w", host, err)
	}
	return nil
}

// StartsSlowly makes a host wait before each later boot, as a machine with firmware does; a container is up in 5 s.
func (c *Cluster) StartsSlowly(host string, d time.Duration) error {
	if err := os.WriteFile(filepath.Join(c.hostDir(host), slowStart), []byte(d.String()), 0o644); err != nil {
		return fmt.Errorf("make %s start slowly: %w", host, err)
	}
	return nil
}
