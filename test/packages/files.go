package packages

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A file is one that the Makefile lists.
type file struct {
	pkg, format string // no format: in both
	path        string // where it is installed
	mode        string // as ls(1) shows it
}

// parseList reads lines PACKAGE[:FORMAT] FOLDER MODE FILE.
func parseList(text string) ([]file, error) {
	var out []file
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		modes := map[string]string{"0644": "-rw-r--r--", "0755": "-rwxr-xr-x"}
		if len(f) != 4 || modes[f[2]] == "" {
			return nil, fmt.Errorf("%q is not PACKAGE FOLDER MODE FILE", line)
		}
		pkg, format, _ := strings.Cut(f[0], ":")
		out = append(out, file{pkg, format, f[1] + "/" + filepath.Base(f[3]), modes[f[2]]})
	}
	return out, nil
}

// wanted is what a package must have, each "MODE OWNER GROUP PATH", sorted.
func wanted(list []file, pkg, format string) []string {
	var out []string
	for _, f := range list {
		if f.pkg == pkg && (f.format == "" || f.format == format) {
			out = append(out, f.mode+" root root "+f.path)
		}
	}
	if format == "deb" { // nfpm makes it
		out = append(out, "-rw-r--r-- root root /usr/share/doc/"+pkg+"/changelog.Debian.gz")
	}
	slices.Sort(out)
	return out
}

// A name is what a package's file name says of it.
type name struct{ pkg, version, arch, format string }

// parseName reads NAME_VERSION_ARCH.deb or NAME-VERSION-RELEASE.ARCH.rpm.
func parseName(path string) (name, error) {
	base := filepath.Base(path)
	if s, ok := strings.CutSuffix(base, ".deb"); ok {
		if f := strings.Split(s, "_"); len(f) == 3 {
			return name{f[0], f[1], f[2], "deb"}, nil
		}
	}
	if s, ok := strings.CutSuffix(base, ".rpm"); ok {
		dot := strings.LastIndex(s, ".")
		if dot > 0 {
			f := strings.Split(s[:dot], "-")
			if n := len(f); n >= 3 {
				return name{strings.Join(f[:n-2], "-"), f[n-2] + "-" + f[n-1], s[dot+1:], "rpm"}, nil
			}
		}
	}
	return name{}, fmt.Errorf("%s is no conventional name of a package", base)
}

// content lists the files of a package, as wanted does, and unpacks them into a folder.
func (l *Looker) content(ctx context.Context, path, format, dir string) ([]string, error) {
	script := `dpkg-deb --extract "$1" "$2" && dpkg-deb --fsys-tarfile "$1" | tar --list --verbose |
		sed -n 's,^\(-[^ ]*\) \([^/]*\)/\([^ ]*\) .* \./\(.*\)$,\1 \2 \3 /\4,p' | sed 's/^\([^ ]*\) 0 0 /\1 root root /'`
	if format == "rpm" {
		script = `rpm2cpio "$1" | (cd "$2" && cpio --extract --make-directories --no-absolute-filenames --quiet 2>/dev/null) &&
			rpm --query --package --nosignature --queryformat '[%{FILEMODES:perms} %{FILEUSERNAME} %{FILEGROUPNAME} %{FILENAMES}\n]' "$1" | sed '/^d/d'`
	}
	out, err := l.run(ctx, "sh", "-ec", script, "sh", path, dir)
	if err != nil {
		return nil, err
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	slices.Sort(lines)
	return lines, nil
}

// files compares every package with the Makefile's list, and the program in it with its architecture.
func (l *Looker) files(ctx context.Context) (string, error) {
	text, err := l.run(ctx, "make", "--silent", "files")
	if err != nil {
		return "", err
	}
	list, err := parseList(text)
	if err != nil {
		return "", err
	}
	debs, err1 := l.built("deb")
	rpms, err2 := l.built("rpm")
	if err := errors.Join(err1, err2); err != nil {
		return "", err
	}
	var seen bytes.Buffer
	for _, path := range slices.Concat(debs, rpms) {
		n, err := parseName(path)
		if err != nil {
			return "", err
		}
		info, err := os.Stat(path)
		if err != nil {
			return "", err
		}
		if err := l.onePackage(ctx, path, n, wanted(list, n.pkg, n.format)); err != nil {
			return "", fmt.Errorf("%s: %w", filepath.Base(path), err)
		}
		fmt.Fprintf(&seen, "\n    %s %s %s: %d KiB", n.pkg, n.format, n.arch, info.Size()>>10)
	}
	return "each has what the Makefile lists, and no more" + seen.String(), nil
}

func (l *Looker) onePackage(ctx context.Context, path string, n name, want []string) error {
	dir, err := os.MkdirTemp("", "leasedog-package")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	got, err := l.content(ctx, path, n.format, dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, w := range want {
		if !slices.Contains(got, w) {
			errs = append(errs, fmt.Errorf("lacks %s", w))
		}
	}
	for _, g := range got {
		if !slices.Contains(want, g) {
			errs = append(errs, fmt.Errorf("has %s, which is not in the list", g))
		}
	}
	if err := program(filepath.Join(dir, "usr/sbin", n.pkg), n.arch); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// program looks at a program without running it: it is for the package's architecture, and needs no library.
func program(path, arch string) error {
	f, err := elf.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	machine := map[string]elf.Machine{"amd64": elf.EM_X86_64, "x86_64": elf.EM_X86_64, "arm64": elf.EM_AARCH64, "aarch64": elf.EM_AARCH64}[arch]
	if f.Machine != machine {
		return fmt.Errorf("its program is for %v", f.Machine)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return errors.New("its program is linked dynamically")
		}
	}
	return nil
}
