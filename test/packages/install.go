package packages

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

//go:embed scripts
var scripts embed.FS

// configurations has Pacemaker's configuration with and without rules, as the laboratory's nodes wrote them.
const configurations = "pcmk/testdata/2.1.5"

// scratch is a root file system that may be written to: the laboratory's below, thrown away afterwards. The scripts are in its
// folder /check.
type scratch struct{ dir, root string }

func (l *Looker) scratch() (s scratch, err error) {
	if s.dir, err = os.MkdirTemp("", "leasedog-root"); err != nil {
		return s, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.remove())
		}
	}()
	s.root = filepath.Join(s.dir, "root")
	for _, sub := range []string{"upper/check", "work", "root"} {
		if err := os.MkdirAll(filepath.Join(s.dir, sub), 0o755); err != nil {
			return s, err
		}
	}
	entries, err := scripts.ReadDir("scripts")
	if err != nil {
		return s, err
	}
	for _, e := range entries {
		text, err := scripts.ReadFile("scripts/" + e.Name())
		if err != nil {
			return s, err
		}
		if err := os.WriteFile(filepath.Join(s.dir, "upper/check", e.Name()), text, 0o644); err != nil {
			return s, err
		}
	}
	// What it is made of is itself on an overlay on some machines: the upper folder is on a tmpfs then, if that is what /tmp is.
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", l.Root, filepath.Join(s.dir, "upper"), filepath.Join(s.dir, "work"))
	if err := syscall.Mount("leasedog-packages", s.root, "overlay", 0, options); err != nil {
		return s, fmt.Errorf("mount a root file system to install into: %w", err)
	}
	return s, nil
}

func (s scratch) remove() error {
	if err := syscall.Unmount(s.root, syscall.MNT_DETACH); err != nil && !errors.Is(err, syscall.EINVAL) {
		return fmt.Errorf("unmount %s: %w", s.root, err)
	}
	return os.RemoveAll(s.dir)
}

// installDebs installs, upgrades, removes and purges with apt, in a container that was not booted.
func (l *Looker) installDebs(ctx context.Context) (text string, err error) {
	s, err := l.scratch()
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, s.remove()) }()
	out, err := l.run(ctx, "systemd-nspawn", "--keep-unit", "--register=no", "--quiet", "--settings=no", "--pipe", "--private-network",
		"--directory="+s.root, "--bind-ro="+l.Dist+":/mnt", "--bind-ro="+filepath.Join(l.Repo, configurations)+":/srv",
		"--resolv-conf=off", "--timezone=off", "--link-journal=no", "--setenv=ARCH="+runtime.GOARCH, "/bin/sh", "/check/deb.sh")
	return result(out, err)
}

// installRPMs does the same with rpm.
func (l *Looker) installRPMs(ctx context.Context) (text string, err error) {
	s, err := l.scratch()
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, s.remove()) }()
	arch := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	out, err := l.run(ctx, "env", "ARCH="+arch, "unshare", "--mount", "--pid", "--fork", "/bin/sh", filepath.Join(s.root, "check/rpm.sh"),
		s.root, l.Dist, filepath.Join(l.Repo, configurations))
	return result(out, err)
}

// result is what a script that came to its end says.
func result(out string, err error) (string, error) {
	for line := range strings.Lines(out) {
		if text, ok := strings.CutPrefix(line, "RESULT: "); ok && err == nil {
			return strings.TrimSpace(text), nil
		}
	}
	if err == nil {
		err = errors.New("it has no result: " + out)
	}
	return "", err
}
