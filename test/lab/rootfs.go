package lab

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// sbd is left out on purpose: its unit is required by Corosync and Pacemaker and fails without a watchdog device.
const rootfsPackages = "systemd,systemd-sysv,dbus,pacemaker,corosync,pacemaker-cli-utils,resource-agents,fence-agents," +
	"crmsh,pcs,iproute2,iputils-ping,procps,nftables,curl,kmod,udev,chrony,libxml2-utils"

// recipeVersion goes up when prepareRootfs changes, so that a cached root is not used with a newer lab.
const recipeVersion = "1"

// maskedUnits do harm in a container: the waits hold back Corosync and Pacemaker for minutes, chrony and timesyncd
// would steer the one clock that all hosts share, and the timers only cost time.
func maskedUnits() []string {
	return []string{
		"systemd-networkd-wait-online.service", "systemd-networkd.service", "systemd-networkd.socket",
		"chrony.service", "chronyd.service", "chrony-wait.service", "systemd-timesyncd.service",
		"apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "fstrim.timer", "e2scrub_all.timer",
		"e2scrub_reap.service", "logrotate.timer", "man-db.timer", "console-getty.service", "getty.target",
		"systemd-resolved.service", "pcsd.service", "pcsd-ruby.service",
	}
}

// hostTools names a program that the lab runs and the Debian package it comes from.
func hostTools() map[string]string {
	return map[string]string{
		"mmdebstrap": "mmdebstrap", "systemd-nspawn": "systemd-container", "systemctl": "systemd", "nft": "nftables",
		"ip": "iproute2", "nsenter": "util-linux", "make": "make",
	}
}

// Deps installs the tools that the lab needs and that this machine lacks.
func (c *Cluster) Deps(ctx context.Context) error {
	missing := map[string]bool{}
	for tool, pkg := range hostTools() {
		if _, err := exec.LookPath(tool); err != nil {
			missing[pkg] = true
		}
	}
	if len(missing) == 0 {
		return nil
	}
	argv := []string{"apt-get", "install", "-y", "--no-install-recommends"}
	for pkg := range missing {
		argv = append(argv, pkg)
	}
	c.logf("installing %s", strings.Join(argv[4:], " "))
	for _, argv := range [][]string{{"apt-get", "update"}, argv} {
		if err := c.runLong(ctx, 10*time.Minute, append([]string{"env", "DEBIAN_FRONTEND=noninteractive"}, argv...)...); err != nil {
			return fmt.Errorf("install the lab's tools: %w", err)
		}
	}
	return nil
}

// runLong runs a tool that may take minutes and shows its last line when it fails.
func (c *Cluster) runLong(ctx context.Context, limit time.Duration, argv ...string) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := command(ctx, argv...)
	cmd.Dir = c.Repo
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, tail(string(out)))
	}
	return nil
}

// Rootfs returns the folder with the suite's root file system, which is built once and then only read.
func (c *Cluster) Rootfs(ctx context.Context, suite string) (string, error) {
	if err := c.Deps(ctx); err != nil {
		return "", err
	}
	dir := c.rootfsDir(suite)
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", fmt.Errorf("make the cache: %w", err)
	}
	lock, err := lockFile(dir + ".lock")
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	partial := dir + ".partial"
	if err := errors.Join(unmountBelow(partial), os.RemoveAll(partial)); err != nil {
		return "", fmt.Errorf("clear a partial root: %w", err)
	}
	if err := c.bootstrap(ctx, suite, partial); err != nil {
		return "", err
	}
	if err := prepareRootfs(ctx, partial); err != nil {
		return "", err
	}
	if err := os.Rename(partial, dir); err != nil {
		return "", fmt.Errorf("keep the root file system: %w", err)
	}
	return dir, nil
}

// rootfsDir is where the suite's root file system of this recipe is, or will be.
func (c *Cluster) rootfsDir(suite string) string {
	key := sha256.Sum256([]byte(suite + rootfsPackages + recipeVersion))
	return filepath.Join(c.Repo, ".cache", "lab", suite, fmt.Sprintf("%x", key[:6]))
}

// bootstrap downloads the packages, showing that it is alive.
func (c *Cluster) bootstrap(ctx context.Context, suite, dir string) error {
	argv := []string{"mmdebstrap", "--quiet", "--variant=minbase", "--mode=root", "--include=" + rootfsPackages, suite, dir}
	mirror, err := mirrorFor(ctx, suite)
	if err != nil {
		return err
	}
	if mirror != "" {
		argv = append(argv, mirror)
	}
	c.logf("building the %s root file system (once; a minute or two)", suite)
	start := time.Now()
	done := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(15 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				c.logf("  … %3.0f s", time.Since(start).Seconds())
			}
		}
	}()
	err = c.runLong(ctx, 20*time.Minute, argv...)
	close(done)
	<-stopped
	if err != nil {
		return fmt.Errorf("build the %s root file system: %w", suite, err)
	}
	c.logf("built after %.0f s", time.Since(start).Seconds())
	return nil
}

// mirrorFor says where to get the suite. For the machine's own release mmdebstrap uses the machine's apt
// configuration by itself; for another one the address is taken from there. No address stands in this repository.
func mirrorFor(ctx context.Context, suite string) (string, error) {
	if mirror := os.Getenv("LEASEDOG_LAB_MIRROR"); mirror != "" {
		return mirror, nil
	}
	out, err := run(ctx, "apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME) $(LABEL)", "Created-By: Packages")
	if err != nil {
		return "", fmt.Errorf("read this machine's apt configuration: %w", err)
	}
	mirror := ""
	for _, line := range strings.Split(out, "\n") {
		field := strings.Fields(line)
		if len(field) < 2 {
			continue
		}
		if field[1] == suite {
			return "", nil
		}
		if mirror == "" && len(field) == 3 && field[2] == "Debian" {
			mirror = field[0]
		}
	}
	return mirror, nil
}

// prepareRootfs makes a fresh root fit for the lab and takes away what it learned of this machine's apt.
func prepareRootfs(ctx context.Context, root string) error {
	for _, path := range []string{"etc/apt", "etc/machine-id", "var/lib/dbus/machine-id", "etc/hostname",
		"etc/resolv.conf", "etc/corosync/corosync.conf"} {
		if err := os.RemoveAll(filepath.Join(root, path)); err != nil {
			return fmt.Errorf("prune the root file system: %w", err)
		}
	}
	for _, dir := range []string{"etc/apt", "var/log/journal", "shared"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return fmt.Errorf("prepare the root file system: %w", err)
		}
	}
	// Not "systemctl mask": it stops at a unit whose alias already stands there, as chronyd's does.
	for _, unit := range maskedUnits() {
		path := filepath.Join(root, "etc/systemd/system", unit)
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("mask %s: %w", unit, err)
		}
		if err := os.Symlink("/dev/null", path); err != nil {
			return fmt.Errorf("mask %s: %w", unit, err)
		}
	}
	if _, err := run(ctx, "systemctl", "--root="+root, "set-default", "multi-user.target"); err != nil {
		return fmt.Errorf("set the default target: %w", err)
	}
	return nil
}
