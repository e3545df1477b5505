package pki

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/google/renameio/v2"
)

// Error says what is wrong with a file, and what to do. Whoever starts with one exits with the code of a refused
// configuration.
type Error struct {
	File string
	What string
	Do   string // a hint, or ""
	err  error
}

func (e *Error) Error() string { return e.File + ": " + e.What }

func (e *Error) Unwrap() error { return e.err }

// Modes of files, as they are written. A key that others may read is refused.
const (
	keyMode    = 0o600
	publicMode = 0o644
	folderMode = 0o700
)

// maxFile bounds what is read: a bundle of eight CAs is a tenth of it.
const maxFile = 64 << 10

// credentialsFolder is where systemd puts LoadCredential= files: read-only, in memory, and possibly readable for the
// unit's group, which there is the unit.
const credentialsFolder = "/run/credentials/"

// forbidden are the bits of a mode that others than the owner may not have.
func forbidden(path string, secret bool) fs.FileMode {
	switch {
	case !secret:
		return 0o022
	case strings.HasPrefix(path, credentialsFolder):
		return 0o037
	}
	return 0o077
}

// readFile reads a file that only its owner can change; a secret one is for its owner's eyes only. The owner is this
// process's user or root.
func readFile(path string, secret bool, limit int) ([]byte, error) {
	return readFileOf(path, secret, limit, -1)
}

// readFileOf also takes a file of one other user: root reads what the arbiter's own user has written.
func readFileOf(path string, secret bool, limit, other int) ([]byte, error) {
	bad := func(err error, do, format string, args ...any) error {
		return &Error{File: path, What: fmt.Sprintf(format, args...), Do: do, err: err}
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO must not hang the start
	if err != nil {
		var pe *fs.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return nil, bad(err, "", "cannot be opened: %v", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, bad(err, "", "cannot be examined: %v", err)
	}
	if !info.Mode().IsRegular() {
		return nil, bad(nil, "", "is not a regular file")
	}
	do := "chmod go-w " + path
	if secret {
		do = "chmod go= " + path
	}
	if perm := info.Mode().Perm(); perm&forbidden(path, secret) != 0 {
		return nil, bad(nil, do, "may be used by others than its owner (mode %04o)", perm)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || st.Uid != 0 && int(st.Uid) != os.Geteuid() && int(st.Uid) != other {
		return nil, bad(nil, "", "belongs to another user")
	}
	text, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	switch {
	case err != nil:
		return nil, bad(err, "", "cannot be read: %v", err)
	case len(text) > limit:
		return nil, bad(nil, "", "is larger than %d bytes", limit)
	}
	return text, nil
}

// writeFile replaces a file durably: the old one or the new one is there after a crash, never half of one. What root
// writes belongs to the owner of the folder, so that a service with a user of its own can read it.
func writeFile(path string, content []byte, mode fs.FileMode) error {
	f, err := renameio.TempFile("", path)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer f.Cleanup()
	err = f.Chmod(mode)
	if err == nil {
		err = giveToOwnerOf(filepath.Dir(path), f.File)
	}
	if err == nil {
		_, err = f.Write(content)
	}
	if err == nil {
		err = f.CloseAtomicallyReplace()
	}
	if err == nil {
		err = syncFolder(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func giveToOwnerOf(folder string, f *os.File) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(folder)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("the owner of %s is not known", folder)
	}
	return f.Chown(int(st.Uid), int(st.Gid))
}

func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// makeFolder makes a folder that only its owner may enter, which is the owner of the folder above.
func makeFolder(path string) error {
	if err := os.Mkdir(path, folderMode); err != nil {
		switch {
		case errors.Is(err, fs.ErrExist):
			return nil
		case errors.Is(err, fs.ErrNotExist):
			return &Error{File: filepath.Dir(path), What: "does not exist", Do: "systemd-tmpfiles --create makes the folders of leasedog", err: err}
		}
		return fmt.Errorf("make a folder: %w", err)
	}
	d, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	return errors.Join(giveToOwnerOf(filepath.Dir(path), d), d.Close())
}

// readRevoked reads the list of revoked certificates: a serial number a line, and after it whatever people want to know.
func readRevoked(path string, other int) (map[string]bool, []byte, error) {
	text, err := readFileOf(path, false, maxRevoked, other)
	if err != nil {
		return nil, nil, err
	}
	out := map[string]bool{}
	for i, line := range bytes.Split(text, []byte("\n")) {
		fields := strings.Fields(string(line))
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if !validSerial(fields[0]) {
			return nil, nil, &Error{File: path, What: fmt.Sprintf("line %d does not begin with a serial number", i+1),
				Do: "leasedog-arbiter pki revoke writes it"}
		}
		out[fields[0]] = true
	}
	return out, text, nil
}

const maxRevoked = 8 << 20 // a hundred thousand certificates

func validSerial(s string) bool {
	for _, r := range s {
		if !(r >= '0' && r <= '9' || r >= 'a' && r <= 'f') {
			return false
		}
	}
	return len(s) == 32
}
