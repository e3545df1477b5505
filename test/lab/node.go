package lab

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// makeHost prepares a host's disk: the cached root below, leasedog's packages and the lab's own files above it, and an upper
// folder that keeps what the host writes over a reset. Down discards it.
func (c *Cluster) makeHost(ctx context.Context, cfg Config, host, root, product string) error {
	dir := c.hostDir(host)
	for _, sub := range []string{"layer", "upper", "work", "root"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return fmt.Errorf("make its folders: %w", err)
		}
	}
	if err := c.writeLayer(cfg, host, filepath.Join(dir, "layer")); err != nil {
		return err
	}
	lower := filepath.Join(dir, "layer")
	if product != "" {
		lower += ":" + product
	}
	merged := filepath.Join(dir, "root")
	options := fmt.Sprintf("lowerdir=%s:%s,upperdir=%s,workdir=%s", lower, root, filepath.Join(dir, "upper"),
		filepath.Join(dir, "work"))
	if err := syscall.Mount("leasedog-lab", merged, "overlay", 0, options); err != nil {
		return fmt.Errorf("mount its disk: %w", err)
	}
	for verb, units := range unitsOf(cfg, host) {
		if len(units) == 0 {
			continue
		}
		if _, err := run(ctx, append([]string{"systemctl", "--root=" + merged, verb}, units...)...); err != nil {
			return fmt.Errorf("%s its units: %w", verb, err)
		}
	}
	return nil
}

// cgroupRoots are the trees in which systemd keeps its units: one on a v2 machine, two on a hybrid one.
func cgroupRoots() ([]string, error) {
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		return []string{"/sys/fs/cgroup"}, nil
	}
	var roots []string
	for _, root := range []string{"/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"} {
		if _, err := os.Stat(filepath.Join(root, "cgroup.procs")); err == nil {
			roots = append(roots, root)
		}
	}
	if len(roots) == 0 {
		return nil, errors.New("find systemd's cgroup tree: none is mounted below /sys/fs/cgroup")
	}
	return roots, nil
}

// cgroups returns the host's folders in each tree. With one folder for all, the nodes' units of the same name would
// share a cgroup, and one node's systemd would end the other's processes.
func (c *Cluster) cgroups(host string) ([]string, error) {
	roots, err := cgroupRoots()
	if err != nil {
		return nil, err
	}
	for i := range roots {
		roots[i] = filepath.Join(roots[i], c.full(host))
	}
	return roots, nil
}

// removeCgroups removes what a dead host left. Missing folders are fine.
func (c *Cluster) removeCgroups(host string) error {
	tops, err := c.cgroups(host)
	if err != nil {
		return err
	}
	for _, top := range tops {
		for _, dir := range foldersBelow(top) {
			if err := syscall.Rmdir(dir); err != nil && !errors.Is(err, syscall.ENOENT) {
				return fmt.Errorf("remove cgroup %s: %w", dir, err)
			}
		}
	}
	return nil
}

// foldersBelow lists top and all folders in it, the deepest first.
func foldersBelow(top string) []string {
	var dirs []string
	// A folder that vanishes during the walk is gone, which is what the callers want.
	_ = filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append([]string{path}, dirs...)
		}
		return nil
	})
	return dirs
}

// bootCommand starts the container, in the host's own cgroups and a process group of its own.
func (c *Cluster) bootCommand(host string, cgroups []string) *exec.Cmd {
	script := `for g in $CGROUPS; do echo $$ > "$g/cgroup.procs" || exit 97; done; exec "$@"`
	argv := []string{"-c", script, "sh",
		"systemd-nspawn", "--keep-unit", "--register=no", "--quiet", "--settings=no",
		"--directory=" + filepath.Join(c.hostDir(host), "root"), "--machine=" + c.full(host), "--hostname=" + host,
		"--network-namespace-path=/run/netns/" + c.full(host),
		// The kernel has one wall clock for all hosts; nobody in a container may step it.
		"--capability=all", "--drop-capability=CAP_SYS_TIME",
		"--bind=" + c.Shared() + ":/shared", "--resolv-conf=off", "--timezone=off", "--link-journal=no",
		"--boot", "--console=read-only"}
	cmd := exec.Command("/bin/sh", argv...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C",
		"CGROUPS=" + strings.Join(cgroups, " ")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd
}

// ErrNotRunning means that the container is not booted at this moment.
var ErrNotRunning = errors.New("not running")

// Leader returns the host's PID 1, as the lab machine sees it.
func (c *Cluster) Leader(host string) (Process, error) {
	data, err := os.ReadFile(filepath.Join(c.hostDir(host), "leader"))
	if err != nil {
		return Process{}, fmt.Errorf("%s: %w", host, ErrNotRunning)
	}
	var p Process
	if _, err := fmt.Sscan(string(data), &p.PID, &p.Start); err != nil || !p.alive() {
		return Process{}, fmt.Errorf("%s: %w", host, ErrNotRunning)
	}
	return p, nil
}

// execArgv is what runs argv inside of a host.
func execArgv(leader Process, argv ...string) []string {
	enter := []string{"nsenter", "-t", strconv.Itoa(leader.PID), "-m", "-u", "-i", "-n", "-p", "--", "env", "-i", "HOME=/root",
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "TERM=dumb"}
	return append(enter, argv...)
}

// Exec runs argv inside of a host and returns its stdout.
func (c *Cluster) Exec(ctx context.Context, host string, argv ...string) (string, error) {
	return c.ExecInput(ctx, host, "", argv...)
}

// ExecInput is Exec with something on stdin.
func (c *Cluster) ExecInput(ctx context.Context, host, stdin string, argv ...string) (string, error) {
	leader, err := c.Leader(host)
	if err != nil {
		return "", err
	}
	out, err := runInput(ctx, stdin, execArgv(leader, argv...)...)
	if err != nil {
		return out, fmt.Errorf("on %s: %s: %w", host, strings.Join(argv, " "), trimEnter(err))
	}
	return out, nil
}

// trimEnter keeps the part of a command's error that is about the command.
func trimEnter(err error) error {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	_, rest, ok := strings.Cut(err.Error(), exit.Error()+": ")
	if !ok {
		return exit
	}
	return fmt.Errorf("%w: %s", exit, rest)
}

// ExitCode is the error of an attached command that ran and said no.
type ExitCode int

func (e ExitCode) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// Attach runs argv inside of a host on this process's own terminal. A command that fails is an ExitCode.
func (c *Cluster) Attach(ctx context.Context, host string, argv ...string) error {
	leader, err := c.Leader(host)
	if err != nil {
		return err
	}
	full := execArgv(leader, argv...)
	cmd := exec.CommandContext(ctx, full[0], full[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err = cmd.Run()
	if code := exitCode(err); code > 0 {
		return ExitCode(code)
	}
	return err
}

// killHost ends a container at once, for good, and everything in its cgroups.
func (c *Cluster) killHost(ctx context.Context, host string) error {
	if leader, err := c.Leader(host); err == nil {
		leader.kill()
	}
	tops, err := c.cgroups(host)
	if err != nil {
		return err
	}
	return waitFor(ctx, host+" to end", 20*time.Second, func() error {
		for _, top := range tops {
			for _, dir := range foldersBelow(top) {
				data, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
				for _, field := range strings.Fields(string(data)) {
					if pid, err := strconv.Atoi(field); err == nil {
						_ = syscall.Kill(pid, syscall.SIGKILL)
					}
				}
			}
		}
		return c.removeCgroups(host)
	})
}

func newMachineID() string {
	var id [16]byte
	rand.Read(id[:]) // never fails
	return hex.EncodeToString(id[:]) + "\n"
}
