package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// loadSoftdog writes what loads the kernel's software watchdog at each boot (modules-load.d(5), modprobe.d(5)). Loading it
// starts nothing: it counts from when somebody opens it. It is not loaded now, since that is the kernel's, not ours.
func (s *setup) loadSoftdog() error {
	for _, f := range []struct{ path, text string }{
		{"modules-load.d/leasedog-softdog.conf", "# Written by \"leasedog init --softdog\": a kernel watchdog for a machine without a hardware one.\nsoftdog\n"},
		// With soft_noboot=1 it would only write into the log.
		{"modprobe.d/leasedog-softdog.conf", "# Written by \"leasedog init --softdog\".\noptions softdog soft_noboot=0\n"},
	} {
		if err := s.writeDropIn(filepath.Join(s.places.etc, f.path), []byte(f.text)); err != nil {
			return err
		}
	}
	if s.dryRun {
		return nil
	}
	_, err := fmt.Fprintln(s.out, "next, to have it now too: modprobe softdog\nthen: leasedog init")
	return err
}

func (s *setup) writeDropIn(path string, text []byte) error {
	was, err := os.ReadFile(path)
	switch {
	case err == nil && bytes.Equal(was, text):
		fmt.Fprintf(s.out, "%s is there, unchanged\n", path)
		return nil
	case err == nil && !s.force:
		return &exitError{code: exitFailure, err: fmt.Errorf("%s is there already and says something else", path),
			hint: "look at it; --force replaces it"}
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("look for %s: %w", path, err)
	case s.dryRun:
		fmt.Fprintf(s.out, "would write %s:\n%s", path, text)
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := replaceFile(path, text); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	fmt.Fprintf(s.out, "%s written\n", path)
	return nil
}
