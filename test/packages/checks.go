package packages

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A Check is one look at the packages. Its text says what was seen.
type Check struct {
	Name string
	Run  func(context.Context) (text string, err error)
}

// Looker looks at the packages in one folder.
type Looker struct {
	Repo string // root of the project
	Dist string // folder with the packages
	Root string // a root file system of the laboratory, which is only read
	Log  io.Writer
}

// Checks returns all of them.
func (l *Looker) Checks() []Check {
	return []Check{{"files", l.files}, {"lintian", l.lintian}, {"rpmlint", l.rpmlint}, {"selinux", l.selinux}, {"deb", l.installDebs},
		{"rpm", l.installRPMs}, {"rebuild", l.rebuild}}
}

// limit bounds every tool; the second build is the slowest.
const limit = 10 * time.Minute

// tools names a program that is needed and the Debian package it comes from.
func tools() map[string]string {
	return map[string]string{"lintian": "lintian", "rpm": "rpm", "rpmlint": "rpmlint", "checkmodule": "checkpolicy",
		"semodule_package": "semodule-utils", "systemd-nspawn": "systemd-container", "unshare": "util-linux", "rpm2cpio": "rpm2cpio", "man": "man-db", "cpio": "cpio"}
}

// Deps installs what is missing.
func (l *Looker) Deps(ctx context.Context) error {
	var missing []string
	for tool, pkg := range tools() {
		if _, err := exec.LookPath(tool); err != nil {
			missing = append(missing, pkg)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(missing)
	fmt.Fprintf(l.Log, "installing %s\n", strings.Join(missing, " "))
	if _, err := l.run(ctx, "apt-get", "update"); err != nil {
		return err
	}
	_, err := l.run(ctx, append([]string{"env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "--no-install-recommends"}, missing...)...)
	return err
}

// run runs a tool in the project's root and returns what it wrote to both outputs.
func (l *Looker) run(ctx context.Context, argv ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.WaitDelay = l.Repo, time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: %w:\n%s", strings.Join(argv, " "), err, out.String())
	}
	return out.String(), nil
}

// built lists the packages of a format, at least one of each.
func (l *Looker) built(format string) ([]string, error) {
	found, err := filepath.Glob(filepath.Join(l.Dist, "leasedog*."+format))
	if err == nil && len(found) < 2 {
		err = fmt.Errorf("there are %d %s packages in %s: run make packages", len(found), format, l.Dist)
	}
	return found, err
}

func (l *Looker) lintian(ctx context.Context) (string, error) {
	debs, err := l.built("deb")
	if err != nil {
		return "", err
	}
	out, err := l.run(ctx, append([]string{"lintian", "--allow-root", "--fail-on", "error,warning"}, debs...)...)
	if err == nil && strings.TrimSpace(out) != "" {
		err = errors.New(out)
	}
	return fmt.Sprintf("%d packages, no error and no warning", len(debs)), err
}

func (l *Looker) rpmlint(ctx context.Context) (string, error) {
	rpms, err := l.built("rpm")
	if err != nil {
		return "", err
	}
	// It unpacks with cpio, and an rpm of nfpm's has absolute names: unpacked like that they would be installed on this machine.
	dir, err := os.MkdirTemp("", "leasedog-rpmlint")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	cpio, err := exec.LookPath("cpio")
	if err != nil {
		return "", err
	}
	wrapper := "#!/bin/sh\nexec " + cpio + " --no-absolute-filenames \"$@\"\n"
	if err := os.WriteFile(filepath.Join(dir, "cpio"), []byte(wrapper), 0o755); err != nil {
		return "", err
	}
	argv := []string{"env", "PATH=" + dir + ":" + os.Getenv("PATH"), "rpmlint", "--config", "packaging/rpmlint.toml"}
	out, err := l.run(ctx, append(argv, rpms...)...)
	if want := fmt.Sprintf("%d packages and 0 specfiles checked; 0 errors, 0 warnings", len(rpms)); err == nil && !strings.Contains(out, want) {
		err = errors.New(out)
	}
	return fmt.Sprintf("%d packages, nothing but what packaging/rpmlint.toml lists", len(rpms)), err
}

// selinux builds the policy module as its source says.
func (l *Looker) selinux(ctx context.Context) (string, error) {
	dir, err := os.MkdirTemp("", "leasedog-selinux")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	mod, pp := filepath.Join(dir, "leasedog.mod"), filepath.Join(dir, "leasedog.pp")
	if _, err := l.run(ctx, "checkmodule", "-M", "-m", "-o", mod, "packaging/selinux/leasedog.te"); err != nil {
		return "", err
	}
	if _, err := l.run(ctx, "semodule_package", "-o", pp, "-m", mod, "-f", "packaging/selinux/leasedog.fc"); err != nil {
		return "", err
	}
	info, err := os.Stat(pp)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("the policy module builds (%d bytes); no machine that enforces it is here", info.Size()), nil
}
