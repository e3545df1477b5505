package hooks

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/leasedog/leasedog/command"
)

// maxPrograms bounds what one folder may start at once.
const maxPrograms = 32

// Folder is a folder of executables.
type Folder struct {
	Path  string // absolute
	Owner int    // who must own the folder and everything in it: root, except in tests
}

// Program is one file of a Folder.
type Program struct {
	Name    string
	Path    string
	Problem string // why it is not run; ""
}

// Programs lists the files that are meant to be run, in the order of their names. A folder that does not exist is an empty
// one. Names with other signs than letters, digits, '-' and '_' are left out, as by run-parts(8): what an editor or a
// package manager leaves behind is never run.
func (f Folder) Programs() ([]Program, error) {
	info, err := os.Stat(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = f.trust(info)
	}
	if err != nil {
		return nil, fmt.Errorf("folder %s: %w", f.Path, err)
	}
	entries, err := os.ReadDir(f.Path)
	if err != nil {
		return nil, fmt.Errorf("folder %s: %w", f.Path, err)
	}
	name := regexp.MustCompile(`^[A-Za-z0-9_-]+$`)
	entries = slices.DeleteFunc(entries, func(e os.DirEntry) bool { return !name.MatchString(e.Name()) })
	if len(entries) > maxPrograms {
		return nil, fmt.Errorf("folder %s: %d programs are more than %d", f.Path, len(entries), maxPrograms)
	}
	var out []Program
	for _, e := range entries {
		p := Program{Name: e.Name(), Path: filepath.Join(f.Path, e.Name())}
		if err := f.check(&p); err != nil {
			p.Problem = err.Error()
		}
		out = append(out, p)
	}
	return out, nil
}

// check follows symbolic links: what counts is what would be run.
func (f Folder) check(p *Program) error {
	target, err := filepath.EvalSymlinks(p.Path)
	if err != nil {
		return fmt.Errorf("%s: %w", p.Path, err)
	}
	info, err := os.Stat(target)
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file", p.Path)
	case info.Mode().Perm()&0o111 == 0:
		return fmt.Errorf("%s is not executable: chmod 755, or give it a name with a dot", p.Path)
	}
	if err := f.trust(info); err != nil {
		return fmt.Errorf("%s: %w", p.Path, err)
	}
	if folder := filepath.Dir(target); folder != filepath.Clean(f.Path) {
		info, err := os.Stat(folder)
		if err == nil {
			err = f.trust(info)
		}
		if err != nil {
			return fmt.Errorf("%s: folder %s: %w", p.Path, folder, err)
		}
	}
	p.Path = target
	return nil
}

// trust: whoever may change it could run anything as root.
func (f Folder) trust(info fs.FileInfo) error {
	if perm := info.Mode().Perm(); perm&0o022 != 0 {
		return fmt.Errorf("may be written by others than its owner (mode %04o): chmod go-w", perm)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || int(st.Uid) != f.Owner {
		return errors.New("does not belong to root: chown root")
	}
	return nil
}

// run runs one program. Its words are the first line that it prints.
func run(ctx context.Context, p Program, env []string) (words string, err error) {
	res, err := command.Exec{}.Run(ctx, command.Cmd{Path: p.Path, Env: env, MaxOutput: 64 << 10})
	line, _, _ := strings.Cut(strings.TrimSpace(string(res.Stdout)), "\n")
	if len(line) > 200 {
		line = line[:200] + "…"
	}
	return strings.ToValidUTF8(line, "?"), err
}
