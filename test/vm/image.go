package vm

import (
	"context"
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/leasedog/leasedog/test/lab"
)

//go:embed files
var files embed.FS

// suite is the release of the machine, and of its kernel where this host's apt has it.
const suite = "bookworm"

// The drivers of the machine. Those of the watchdogs are loaded by the rows.
func bootDrivers() []string {
	return []string{"virtio_pci", "virtio_blk", "crc32c_generic", "ext4", "virtio_net", "virtio_console"}
}

func watchdogDrivers() []string { return []string{"i6300esb", "softdog"} }

// image is what a machine boots from.
type image struct{ kernel, initrd, disk string }

// builder makes images below the cache folder.
type builder struct {
	repo, cache string
	port        int // of the arbiter
	logf        func(format string, args ...any)
}

// hostTools names a program and the Debian package that it comes from.
func hostTools() map[string]string {
	return map[string]string{"qemu-system-x86_64": "qemu-system-x86", "mke2fs": "e2fsprogs", "dpkg-deb": "dpkg", "xz": "xz-utils"}
}

func (b builder) deps(ctx context.Context) error {
	missing := map[string]bool{}
	for tool, pkg := range hostTools() {
		if _, err := exec.LookPath(tool); err != nil {
			missing[pkg] = true
		}
	}
	if len(missing) == 0 {
		return nil
	}
	argv := []string{"env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "--no-install-recommends"}
	for pkg := range missing {
		argv = append(argv, pkg)
	}
	b.logf("installing %s", strings.Join(argv[6:], " "))
	if _, err := run(ctx, 5*time.Minute, b.repo, "apt-get", "update"); err != nil {
		return err
	}
	_, err := run(ctx, 10*time.Minute, b.repo, argv...)
	return err
}

// build makes the disk of a machine that has this tree's leasedog on it.
func (b builder) build(ctx context.Context) (image, error) {
	if err := b.deps(ctx); err != nil {
		return image{}, err
	}
	c, err := lab.Open("vm", os.Stderr)
	if err != nil {
		return image{}, err
	}
	base, err := c.Rootfs(ctx, suite)
	if err != nil {
		return image{}, err
	}
	kernel, err := b.kernel(ctx)
	if err != nil {
		return image{}, err
	}
	root, err := b.root(ctx, base)
	if err != nil {
		return image{}, err
	}
	found, err := findDrivers(filepath.Join(kernel, "modules"))
	if err != nil {
		return image{}, err
	}
	if err := b.layer(ctx, root, found); err != nil {
		return image{}, err
	}
	img := image{kernel: filepath.Join(kernel, "vmlinux"), initrd: filepath.Join(b.cache, "initrd"),
		disk: filepath.Join(b.cache, "disk")}
	order, err := found.closure(bootDrivers()...)
	if err != nil {
		return image{}, err
	}
	self, err := os.Executable()
	if err != nil {
		return image{}, fmt.Errorf("find this program: %w", err)
	}
	ram, err := initrd(self, order)
	if err != nil {
		return image{}, err
	}
	if err := writeFile(img.initrd, ram, 0o600); err != nil {
		return image{}, err
	}
	if err := os.RemoveAll(img.disk); err != nil {
		return image{}, err
	}
	// A journal, since the machine is reset again and again; no checksums, which cost time in emulation.
	_, err = run(ctx, 2*time.Minute, b.cache, "mke2fs", "-q", "-F", "-t", "ext4", "-O", "^metadata_csum,^64bit,^resize_inode",
		"-E", "lazy_itable_init=1", "-d", root, img.disk, "1200M")
	return img, err
}

// kernel unpacks Debian's ordinary kernel, which has i6300esb; the one for clouds has not. The address comes from this
// machine's apt.
func (b builder) kernel(ctx context.Context) (string, error) {
	out, err := run(ctx, time.Minute, b.repo, "apt-cache", "depends", "--important", "linux-image-amd64")
	if err != nil {
		return "", err
	}
	_, name, ok := strings.Cut(out, "Depends: ")
	if name, _, _ = strings.Cut(name, "\n"); !ok || !strings.HasPrefix(name, "linux-image-") {
		return "", fmt.Errorf("apt knows no kernel package: %q", out)
	}
	dir := filepath.Join(b.cache, name)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	b.logf("getting %s (once)", name)
	work := dir + ".partial"
	if err := errors.Join(os.RemoveAll(work), os.MkdirAll(filepath.Join(work, "tree"), 0o755)); err != nil {
		return "", err
	}
	if _, err := run(ctx, 10*time.Minute, work, "apt-get", "download", name); err != nil {
		return "", err
	}
	packages, _ := filepath.Glob(work + "/*.deb")
	if len(packages) != 1 {
		return "", fmt.Errorf("apt-get download %s: found %d packages", name, len(packages))
	}
	if _, err := run(ctx, 5*time.Minute, work, "dpkg-deb", "-x", packages[0], "tree"); err != nil {
		return "", err
	}
	images, _ := filepath.Glob(work + "/tree/boot/vmlinuz-*")
	modules, _ := filepath.Glob(work + "/tree/lib/modules/*/kernel")
	if len(images) != 1 || len(modules) != 1 {
		return "", fmt.Errorf("%s: %d kernels and %d folders of modules", name, len(images), len(modules))
	}
	if err := unpackKernel(ctx, images[0], filepath.Join(work, "vmlinux")); err != nil {
		return "", err
	}
	if err := os.Rename(modules[0], filepath.Join(work, "modules")); err != nil {
		return "", err
	}
	if err := errors.Join(os.RemoveAll(filepath.Join(work, "tree")), os.Remove(packages[0])); err != nil {
		return "", err
	}
	return dir, os.Rename(work, dir)
}

// root copies what of the lab's root file system a machine needs, once.
func (b builder) root(ctx context.Context, base string) (string, error) {
	key := sha256.Sum256([]byte(base + strings.Join(pruned(), " ")))
	clean := filepath.Join(b.cache, fmt.Sprintf("root-%x", key[:6]))
	staging := filepath.Join(b.cache, "staging")
	if _, err := os.Stat(clean); err != nil {
		partial := clean + ".partial"
		if err := os.RemoveAll(partial); err != nil {
			return "", err
		}
		if _, err := run(ctx, 5*time.Minute, b.cache, "cp", "-a", base, partial); err != nil {
			return "", err
		}
		for _, path := range pruned() {
			if err := os.RemoveAll(filepath.Join(partial, path)); err != nil {
				return "", err
			}
		}
		if err := os.Rename(partial, clean); err != nil {
			return "", err
		}
	}
	if err := os.RemoveAll(staging); err != nil {
		return "", err
	}
	_, err := run(ctx, 2*time.Minute, b.cache, "cp", "-al", clean, staging)
	return staging, err
}

// pruned is what nothing in the machine reads.
func pruned() []string {
	return []string{"usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/fence", "usr/share/perl", "usr/share/perl5",
		"usr/share/info", "usr/lib/python3", "usr/lib/python3.11", "usr/lib/udev/hwdb.d", "usr/lib/udev/hwdb.bin", "var/cache",
		"var/lib/apt", "usr/lib/x86_64-linux-gnu/perl", "usr/lib/x86_64-linux-gnu/perl-base", "usr/share/zoneinfo",
		"usr/lib/systemd/system-generators"}
}

// run runs a tool of the host to its end and returns its stdout. Its stderr is in the error.
func run(ctx context.Context, limit time.Duration, dir string, argv ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = dir
	cmd.WaitDelay = time.Second
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, tail(errs.String()+string(out)))
	}
	return string(out), nil
}

// tail keeps the end of a tool's output, where the reason usually stands.
func tail(s string) string {
	const most = 600
	if s = strings.TrimSpace(s); len(s) > most {
		s = "…" + s[len(s)-most:]
	}
	return s
}

// writeFile replaces a file that may be a hard link to one that must not change.
func writeFile(path string, content []byte, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.WriteFile(path, content, mode); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
