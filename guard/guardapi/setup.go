package guardapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/google/renameio/v2"
)

// Setup is all that a guard is told at its start. It is no configuration of the administrator's: the agent derives
// it from its own and writes it before each preflight, so a guard never depends on a file that may have become
// invalid since.
type Setup struct {
	Mode   Mode   `json:"mode"`
	Device string `json:"device"` // "auto" or /dev/watchdogN; unused in mode systemd
	// Watchdog is the wanted W. The device may have a longer smallest one: Status says what it is.
	Watchdog   time.Duration `json:"watchdog"`
	TimerSlack time.Duration `json:"timer_slack"` // J
}

// SystemdWatchdog is WatchdogSec, and W, in mode systemd. RequiredWatchdog is what the unit file says: there
// the device carries the bound, and a long daemon-reload must not cost a reset.
const (
	SystemdWatchdog  = time.Second
	RequiredWatchdog = 10 * time.Second
)

// Validate reports everything that makes s unusable.
func (s Setup) Validate() error {
	var bad []error
	if s.Mode != ModeRequired && s.Mode != ModeSystemd {
		bad = append(bad, fmt.Errorf("mode %q: want %q or %q", s.Mode, ModeRequired, ModeSystemd))
	}
	if s.Mode == ModeRequired && s.Device != "auto" && !strings.HasPrefix(s.Device, "/dev/watchdog") {
		bad = append(bad, fmt.Errorf("device %q: want auto or /dev/watchdogN", s.Device))
	}
	if s.Mode == ModeRequired && (s.Watchdog < time.Second || s.Watchdog > time.Minute) {
		bad = append(bad, fmt.Errorf("watchdog %v: want 1s to 1m", s.Watchdog))
	}
	if s.TimerSlack <= 0 || s.TimerSlack > 10*time.Second {
		bad = append(bad, fmt.Errorf("timer_slack %v: want above 0 and at most 10s", s.TimerSlack))
	}
	return errors.Join(bad...)
}

// WriteSetup replaces the file at path, for root only.
func WriteSetup(path string, s Setup) error {
	if err := s.Validate(); err != nil {
		return fmt.Errorf("write guard set-up: %w", err)
	}
	text, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("write guard set-up: %w", err)
	}
	if err := renameio.WriteFile(path, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("write guard set-up: %w", err)
	}
	return nil
}

// ReadSetup reads what WriteSetup wrote; anything else is an error.
func ReadSetup(path string) (Setup, error) {
	f, err := os.Open(path)
	if err != nil {
		return Setup{}, fmt.Errorf("read guard set-up: %w (the agent writes it before it starts the guard)", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, MaxMessage))
	if err != nil {
		return Setup{}, fmt.Errorf("read guard set-up %s: %w", path, err)
	}
	var s Setup
	if err := json.Unmarshal(text, &s); err != nil {
		return Setup{}, fmt.Errorf("parse guard set-up %s: %w", path, err)
	}
	if err := s.Validate(); err != nil {
		return Setup{}, fmt.Errorf("guard set-up %s: %w", path, err)
	}
	return s, nil
}

// failureOf is where a guard says why it ended before its first arm; systemd forgets its status text.
func failureOf(setupPath string) string { return setupPath + ".failure" }

// WriteFailure keeps why the guard that was set up at setupPath could not start.
func WriteFailure(setupPath string, why error) error {
	if err := renameio.WriteFile(failureOf(setupPath), []byte(why.Error()+"\n"), 0o600); err != nil {
		return fmt.Errorf("keep why the guard did not start: %w", err)
	}
	return nil
}

// ClearFailure forgets it.
func ClearFailure(setupPath string) error {
	if err := os.Remove(failureOf(setupPath)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget why the last guard did not start: %w", err)
	}
	return nil
}

// ReadFailure returns why the last guard could not start, "" if it could.
func ReadFailure(setupPath string) (string, error) {
	text, err := os.ReadFile(failureOf(setupPath))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read why the guard did not start: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}
