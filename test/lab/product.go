package lab

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// install builds leasedog's packages and returns the folders, separated by colons, that every host of the cluster has
// between the root file system and its own files: what apt made of the packages, once for each build of them, and for a
// mutant, a node's binary with a mistake compiled in by its build tag, that one file.
func (c *Cluster) install(ctx context.Context, root, mutant string) (string, error) {
	products := filepath.Join(c.Repo, ".cache", "lab", "product")
	if err := os.MkdirAll(products, 0o755); err != nil {
		return "", fmt.Errorf("install leasedog: %w", err)
	}
	// Two clusters may come up at once; one build after the other.
	lock, err := lockFile(filepath.Join(c.Repo, ".cache", "lab", "install.lock"))
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := c.runLong(ctx, 10*time.Minute, "make", "build"); err != nil {
		return "", fmt.Errorf("build leasedog: %w", err)
	}
	key, err := c.packageKey(root)
	if err != nil {
		return "", fmt.Errorf("install leasedog: %w", err)
	}
	dir := filepath.Join(products, key)
	now := time.Now()
	if err := os.Chtimes(dir, now, now); err != nil {
		if err := c.makeProduct(ctx, root, products, dir); err != nil {
			return "", fmt.Errorf("install leasedog: %w", err)
		}
	}
	if err := os.Symlink(dir, c.productLink()); err != nil {
		return "", fmt.Errorf("install leasedog: %w", err)
	}
	product := filepath.Join(dir, "upper")
	if mutant == "" {
		return product, nil
	}
	dir = filepath.Join(c.Dir(), "mutant")
	if err := c.runLong(ctx, 10*time.Minute, "env", "CGO_ENABLED=0", "go", "build", "-trimpath", "-tags", mutant,
		"-o", filepath.Join(dir, "usr/sbin/leasedog"), "./cmd/leasedog"); err != nil {
		return "", fmt.Errorf("build the mutant %s: %w", mutant, err)
	}
	return dir + ":" + product, nil
}

// productLink leads to the installation that this cluster's hosts are made of, and to its packages.
func (c *Cluster) productLink() string { return filepath.Join(c.Dir(), "product") }

// packageKey tells apart everything that could make other packages, or install them elsewhere.
func (c *Cluster) packageKey(root string) (string, error) {
	key := sha256.New()
	fmt.Fprintln(key, root)
	for _, top := range []string{"Makefile", "tools.mod", "LICENSE", "config", "packaging", "bin/leasedog", "bin/leasedog-arbiter", "bin/made"} {
		err := filepath.WalkDir(filepath.Join(c.Repo, top), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			text, err := os.ReadFile(path)
			fmt.Fprintln(key, path, len(text))
			key.Write(text)
			return err
		})
		if err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%x", key.Sum(nil)[:6]), nil
}

// buildDebs builds both packages for this machine's architecture into a folder.
func (c *Cluster) buildDebs(ctx context.Context, dir string, variables ...string) error {
	argv := append([]string{"make", "debs", "ARCHES=" + runtime.GOARCH, "DIST=" + dir}, variables...)
	if err := c.runLong(ctx, 10*time.Minute, argv...); err != nil {
		return fmt.Errorf("build the packages: %w", err)
	}
	return nil
}

// makeProduct builds the packages and runs apt once, in a container whose root is the root file system with an upper folder.
// That folder is the product; the packages stand beside it.
func (c *Cluster) makeProduct(ctx context.Context, root, products, dir string) error {
	if err := pruneProducts(products); err != nil {
		return err
	}
	partial := filepath.Join(products, "partial")
	if err := errors.Join(unmountBelow(partial), os.RemoveAll(partial)); err != nil {
		return fmt.Errorf("clear a partial installation: %w", err)
	}
	debs, upper := filepath.Join(partial, "debs"), filepath.Join(partial, "upper")
	work, merged := filepath.Join(partial, "work"), filepath.Join(partial, "root")
	for _, folder := range []string{debs, upper, work, merged} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
	}
	if err := c.buildDebs(ctx, debs); err != nil {
		return err
	}
	if err := syscall.Mount("leasedog-lab", merged, "overlay", 0, fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", root, upper,
		work)); err != nil {
		return fmt.Errorf("mount a root to install into: %w", err)
	}
	script := "apt-get install -y --no-install-recommends /mnt/*.deb && rm -f /var/cache/apt/*.bin"
	err := c.runLong(ctx, 2*time.Minute, "systemd-nspawn", "--keep-unit", "--register=no", "--quiet", "--settings=no", "--pipe",
		"--directory="+merged, "--bind-ro="+debs+":/mnt", "--resolv-conf=off", "--timezone=off", "--link-journal=no",
		"--private-network", "--setenv=DEBIAN_FRONTEND=noninteractive", "/bin/sh", "-ec", script)
	if err := errors.Join(err, syscall.Unmount(merged, 0), os.RemoveAll(work)); err != nil {
		return err
	}
	return os.Rename(partial, dir)
}

// pruneProducts removes installations that no host is made of and that nobody asked for within the hour.
func pruneProducts(products string) error {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("read mounts: %w", err)
	}
	entries, err := os.ReadDir(products)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(products, e.Name())
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if time.Since(info.ModTime()) < time.Hour || slices.Contains(lowerFolders(string(mounts)), filepath.Join(path, "upper")) {
			continue
		}
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("prune an installation: %w", err)
		}
	}
	return nil
}

// lowerFolders lists what the overlays of a mountinfo are made of (proc_pid_mountinfo(5): options come last).
func lowerFolders(mountinfo string) []string {
	var out []string
	for line := range strings.Lines(mountinfo) {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		for _, option := range strings.Split(fields[len(fields)-1], ",") {
			if list, ok := strings.CutPrefix(option, "lowerdir="); ok {
				out = append(out, strings.Split(list, ":")...)
			}
		}
	}
	return out
}
