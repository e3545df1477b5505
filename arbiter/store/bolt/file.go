package bolt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// unfinished is what the names of files begin with that are not in their place yet, after the store's own.
const unfinished = ".new-"

// damageError says that the file's content makes no sense: nothing in it can be used.
type damageError struct{ err error }

func (e *damageError) Error() string { return "damaged: " + e.err.Error() }
func (e *damageError) Unwrap() error { return e.err }

func exists(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode().IsRegular()
}

// openFile opens a file that is there and looks at all of it, without writing. bbolt panics on some damaged pages, and
// the machine faults on those that are missing; both are damage.
func openFile(path string) (db *bolt.DB, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() < preallocated {
		return nil, &damageError{fmt.Errorf("%d bytes: it had %d from its first moment", info.Size(), preallocated)}
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true)) // of this goroutine
	defer func() {
		if r := recover(); r != nil {
			err = &damageError{fmt.Errorf("%v", r)}
		}
		if err != nil && db != nil {
			_ = db.Close()
		}
	}()
	db, err = bolt.Open(path, 0o600, boltOptions())
	var errno syscall.Errno
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, ErrInUse
	case errors.As(err, &errno):
		return nil, err
	case err != nil:
		return nil, &damageError{err}
	}
	if err := db.View(func(tx *bolt.Tx) error { return check(path, tx, info.Size()) }); err != nil {
		return db, &damageError{err}
	}
	return db, nil
}

func boltOptions() *bolt.Options {
	return &bolt.Options{Timeout: openTimeout, InitialMmapSize: preallocated}
}

// check says what is wrong with a file's content.
func check(path string, tx *bolt.Tx, size int64) error {
	if tx.Size() > size {
		return fmt.Errorf("%d bytes: it must have %d", size, tx.Size())
	}
	if err := checkPages(path, tx); err != nil {
		return err
	}
	for err := range tx.Check() {
		return err
	}
	meta := tx.Bucket([]byte("meta"))
	if meta == nil || tx.Bucket([]byte("clusters")) == nil || tx.Bucket([]byte("history")) == nil {
		return errors.New("a part of it is missing")
	}
	if v := string(meta.Get([]byte("format"))); v != formatVersion {
		return fmt.Errorf("format %q: this program knows %q", v, formatVersion)
	}
	return nil
}

// create makes a new file and puts it into its place when it is whole and on the disk, so that a power failure leaves
// either none or one that can be opened. One that somebody else has made meanwhile stays.
func create(path, machineID string) error {
	temp, db, err := openUnfinished(path)
	if err != nil {
		return err
	}
	defer os.Remove(temp)
	err = db.Update(func(tx *bolt.Tx) error {
		for _, b := range []string{"meta", "clusters", "history"} {
			if _, err := tx.CreateBucket([]byte(b)); err != nil {
				return err
			}
		}
		meta := tx.Bucket([]byte("meta"))
		return errors.Join(meta.Put([]byte("format"), []byte(formatVersion)), meta.Put([]byte("machine"), []byte(machineID)))
	})
	if err == nil {
		err = preallocate(temp, db)
	}
	if err = errors.Join(err, db.Close()); err != nil {
		return fmt.Errorf("make a new file: %w", err)
	}
	if err := os.Link(temp, path); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make a new file: %w", err)
	}
	return nil
}

// renew puts what can be read now into a new file, in place of one that a write or a sync has failed in. The kernel may
// take pages for clean that it could not write (fsync(2)), so that what this process reads is not what the disk has, and
// the next transaction would build on it and write over what the disk still needs.
func (s *Store) renew() error {
	temp, db, err := openUnfinished(s.opt.Path)
	if err != nil {
		return err
	}
	err = bolt.Compact(db, s.db, 0)
	if err == nil {
		err = preallocate(temp, db)
	}
	if err == nil {
		err = os.Rename(temp, s.opt.Path)
	}
	if err != nil {
		_ = db.Close()
		_ = os.Remove(temp)
		return fmt.Errorf("copy it into a new file: %w", err)
	}
	s.mu.Lock()
	old := s.db
	s.db = db
	s.mu.Unlock()
	_ = old.Close() // nothing of it is needed, and it was to be given up anyway
	if err := syncDir(filepath.Dir(s.opt.Path)); err != nil {
		return fmt.Errorf("put a new file into its place: %w", err)
	}
	return nil
}

// openUnfinished opens an empty file beside path.
func openUnfinished(path string) (string, *bolt.DB, error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+unfinished+"*")
	if err != nil {
		return "", nil, err
	}
	_ = f.Close()
	db, err := bolt.Open(f.Name(), 0o600, boltOptions())
	if err != nil {
		_ = os.Remove(f.Name())
		return "", nil, err
	}
	return f.Name(), db, nil
}

// removeUnfinished removes what an earlier process did not finish.
func removeUnfinished(path string) error {
	list, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return err
	}
	for _, e := range list {
		if strings.HasPrefix(e.Name(), filepath.Base(path)+unfinished) {
			if err := os.Remove(filepath.Join(filepath.Dir(path), e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// preallocate makes a file large enough for a long time, with real blocks. What bbolt has not used yet is a hole.
func preallocate(path string, db *bolt.DB) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	var used int64
	if err := db.View(func(tx *bolt.Tx) error { used = tx.Size(); return nil }); err != nil {
		return err
	}
	zeros := make([]byte, 1<<20)
	for at := used; at < preallocated; at += int64(len(zeros)) {
		if _, err := f.WriteAt(zeros[:min(int64(len(zeros)), preallocated-at)], at); err != nil {
			return fmt.Errorf("preallocate: %w", err)
		}
	}
	return f.Sync()
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
