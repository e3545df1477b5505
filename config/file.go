package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// Paths that the programs read when no other is named.
const (
	AgentPath   = "/etc/leasedog/leasedog.toml"
	ArbiterPath = "/etc/leasedog/arbiter.toml"
)

// maxFile bounds a configuration file: a hundred leases fit many times.
const maxFile = 1 << 20

// readFile reads path after checking that nobody but its owner may change it: whoever can write this file can
// make two nodes run one database. euid is the effective user of this process; root trusts root's files only.
func readFile(path string, euid int) ([]byte, error) {
	whole := func(what, do string) error {
		return &Error{File: path, Problems: []Problem{{What: what, Do: do}}}
	}
	// O_NONBLOCK: a FIFO must not hang the start.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		var pe *fs.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil, whole("does not exist", "make one from the reference in /usr/share/doc/leasedog*, or name another with -c FILE")
		case errors.Is(err, fs.ErrPermission):
			return nil, whole("permission denied", "run as root, or as a user who may read it")
		}
		return nil, whole("cannot be opened: "+err.Error(), "")
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, whole("cannot be examined: "+err.Error(), "")
	}
	if !info.Mode().IsRegular() {
		return nil, whole("is not a regular file", "name a file")
	}
	if perm := info.Mode().Perm(); perm&0o022 != 0 {
		return nil, whole(fmt.Sprintf("may be written by others than its owner (mode %04o)", perm), "chmod go-w "+path)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && euid == 0 && st.Uid != 0 {
		return nil, whole(fmt.Sprintf("belongs to user %d, not to root", st.Uid), "chown root "+path)
	}
	return readAll(f, path)
}

// readAll reads a text of limited size that is not empty.
func readAll(r io.Reader, name string) ([]byte, error) {
	src, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	what, do := "", ""
	switch {
	case err != nil:
		what = "cannot be read: " + err.Error()
	case len(src) > maxFile:
		what = fmt.Sprintf("is larger than %d bytes", maxFile)
	case len(src) == 0:
		what, do = "is empty", "make one from the reference in /usr/share/doc/leasedog*"
	default:
		return src, nil
	}
	return nil, &Error{File: name, Problems: []Problem{{What: what, Do: do}}}
}
