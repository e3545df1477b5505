package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// layer puts leasedog, the cluster's configuration and the test's own program onto the machine's disk.
func (b builder) layer(ctx context.Context, root string, found drivers) error {
	product := filepath.Join(b.cache, "product")
	if err := os.RemoveAll(product); err != nil {
		return err
	}
	if _, err := run(ctx, 10*time.Minute, b.repo, "make", "build", "install", "DESTDIR="+product); err != nil {
		return fmt.Errorf("install leasedog: %w", err)
	}
	if err := copyTree(product, root); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	if err := copyFile(self, filepath.Join(root, guestBin), 0o755); err != nil {
		return err
	}
	order, err := found.closure(watchdogDrivers()...)
	if err != nil {
		return err
	}
	for _, path := range order {
		if err := copyFile(path, filepath.Join(root, guestModules, filepath.Base(path)), 0o644); err != nil {
			return err
		}
	}
	for _, f := range []struct {
		path, source string
		mode         os.FileMode
	}{
		{"etc/corosync/corosync.conf", "corosync.conf", 0o644},
		{"usr/lib/ocf/resource.d/vm/hang", "hang", 0o755},
		{"etc/systemd/system/vm.target", "vm.target", 0o644},
		{"etc/systemd/system/vm-commands.service", "vm-commands.service", 0o644},
		{"etc/systemd/system.conf.d/vm.conf", "system.conf", 0o644},
		{"etc/systemd/journald.conf.d/vm.conf", "journald.conf", 0o644},
		{"var/lib/pacemaker/cib/cib.xml", "cib.xml", 0o600},
		{"etc/leasedog/leasedog.toml", "leasedog.toml", 0o600},
	} {
		text, err := files.ReadFile("files/" + f.source)
		if err != nil {
			return err
		}
		text = bytes.ReplaceAll(text, []byte("@PROFILE@"), []byte(agentProfile))
		text = bytes.ReplaceAll(text, []byte("@ARBITER@"), []byte(fmt.Sprintf("http://%s:%d", hostAddress, b.port)))
		if err := writeFile(filepath.Join(root, f.path), text, f.mode); err != nil {
			return err
		}
	}
	for path, text := range map[string]string{"etc/hostname": nodeName + "\n", "etc/machine-id": "3b1f0a5c7d2e4f6089abcdef01234567\n",
		"etc/hosts": "127.0.0.1 localhost " + nodeName + "\n"} {
		if err := writeFile(filepath.Join(root, path), []byte(text), 0o644); err != nil {
			return err
		}
	}
	if err := giveTo(root, "hacluster", "var/lib/pacemaker/cib/cib.xml"); err != nil {
		return err
	}
	return mask(root)
}

// mask takes away units that a machine without hardware to find, consoles and swap has no use for: each costs a second
// of emulation at every boot.
func mask(root string) error {
	for _, unit := range []string{"systemd-udevd.service", "systemd-udev-trigger.service", "systemd-udevd-control.socket",
		"systemd-udevd-kernel.socket", "systemd-random-seed.service", "systemd-update-utmp.service", "systemd-sysctl.service",
		"systemd-modules-load.service", "kmod-static-nodes.service", "systemd-tmpfiles-setup-dev.service", "systemd-sysusers.service",
		"systemd-remount-fs.service", "systemd-machine-id-commit.service", "systemd-firstboot.service", "systemd-pstore.service",
		"systemd-journal-flush.service", "systemd-binfmt.service", "systemd-logind.service", "dev-hugepages.mount",
		"dev-mqueue.mount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount", "sys-fs-fuse-connections.mount",
		"sys-kernel-config.mount", "proc-sys-fs-binfmt_misc.automount", "systemd-ask-password-console.path",
		"systemd-ask-password-wall.path", "systemd-update-done.service", "ldconfig.service", "systemd-hwdb-update.service",
		"systemd-journal-catalog-update.service", "systemd-repart.service", "systemd-boot-system-token.service",
		"systemd-pcrphase.service", "systemd-pcrphase-sysinit.service", "modprobe@.service", "hwclock.service", "procps.service"} {
		path := filepath.Join(root, "etc/systemd/system", unit)
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("mask %s: %w", unit, err)
		}
		if err := os.Symlink("/dev/null", path); err != nil {
			return fmt.Errorf("mask %s: %w", unit, err)
		}
	}
	return nil
}

// giveTo changes the owner of a file to a user of the machine.
func giveTo(root, user, path string) error {
	text, err := os.ReadFile(filepath.Join(root, "etc/passwd"))
	if err != nil {
		return err
	}
	for _, line := range strings.Split(string(text), "\n") {
		f := strings.Split(line, ":")
		if len(f) < 4 || f[0] != user {
			continue
		}
		uid, err1 := strconv.Atoi(f[2])
		gid, err2 := strconv.Atoi(f[3])
		return errors.Join(err1, err2, os.Chown(filepath.Join(root, path), uid, gid))
	}
	return fmt.Errorf("the machine has no user %s", user)
}

func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return copyFile(path, filepath.Join(to, rel), info.Mode().Perm())
	})
}

func copyFile(from, to string, mode os.FileMode) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	return writeFile(to, text, mode)
}

// xzMagic begins the compressed kernel within a bzImage (xz file format, 2.1.1.1).
const xzMagic = "\xfd7zXZ\x00"

// unpackKernel takes the kernel out of a bzImage, so that it is not unpacked in emulation at every boot; the emulator
// starts such a file by its PVH entry.
func unpackKernel(ctx context.Context, from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("unpack the kernel: %w", err)
	}
	at := bytes.Index(text, []byte(xzMagic))
	if at < 0 {
		return fmt.Errorf("unpack the kernel: %s is not compressed with xz", from)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	out, err := os.Create(to)
	if err != nil {
		return fmt.Errorf("unpack the kernel: %w", err)
	}
	defer out.Close()
	cmd := exec.CommandContext(ctx, "xz", "-dc", "--single-stream")
	cmd.Stdin, cmd.Stdout = bytes.NewReader(text[at:]), out
	_ = cmd.Run() // it complains of what follows the kernel
	head := make([]byte, 4)
	if _, err := out.ReadAt(head, 0); err != nil && err != io.EOF || string(head) != "\x7fELF" {
		return fmt.Errorf("unpack the kernel: %s holds no ELF file", from)
	}
	return nil
}
