// Package cause keeps why a node was reset: a record that is written and synced ahead of the reset, since a reset
// leaves no time to write. Another boot id now, and a record that was not closed, mean that it came true.
//
// The guard writes cause.json, the agent (for what a frozen guard cannot write) cause-agent.json; each file has one
// writer. It does not reset anything and reads no clock.
package cause

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"github.com/google/renameio/v2"
)

// Stage says how far it came. A later stage replaces an earlier one of the same lease, epoch and boot.
type Stage string

// Stages, in their order.
const (
	Armed     Stage = "armed"     // the guard watches; nothing is wrong
	Announced Stage = "announced" // less than the stop budget is left, or the lease is being lost
	Imminent  Stage = "imminent"  // moments before the deadline: the guard is alive and about to reset
	Averted   Stage = "averted"   // an announced reset did not come: extended or disarmed in time
	Closed    Stage = "closed"    // disarmed without an announcement
)

// open reports whether a reset may have followed.
func (s Stage) open() bool { return s == Armed || s == Announced || s == Imminent }

// Layer says what ended the node.
type Layer string

// Layers of the reset.
const (
	LayerGuard     Layer = "guard"
	LayerKillTimer Layer = "kill timer"
	LayerUnknown   Layer = "unknown"
)

// Record is one lease's watch, and what became of it. Wall clock times are for eyes only.
type Record struct {
	Lease   string    `json:"lease"`
	Epoch   uint64    `json:"epoch"`
	BootID  string    `json:"boot_id"` // the kernel's, of the boot that wrote it
	Stage   Stage     `json:"stage"`
	By      string    `json:"by"` // "guard" or "agent"
	Because string    `json:"because,omitempty"`
	Due     time.Time `json:"due,omitzero"`    // when the reset comes if nothing happens
	Slack   string    `json:"slack,omitempty"` // how long after Due the kill timer stands
	Written time.Time `json:"written"`
}

// Keep is how many records a file keeps, and maxFile how large one may be.
const (
	Keep    = 32
	maxFile = 256 << 10
)

// Names of the files, each with one writer.
const (
	GuardFile = "cause.json"
	AgentFile = "cause-agent.json"
)

// Log is one file of records. It must not be used by two goroutines at once, nor written by two processes.
type Log struct {
	path    string
	records []Record
	syncDir func(dir string) error
}

// Open reads the log at path. A missing file is an empty log; an unreadable one is too, and is said with the log,
// which can be used: a damaged history must not stop the guard.
func Open(path string) (*Log, error) {
	records, err := readFile(path)
	return &Log{path: path, records: records, syncDir: syncDir}, err
}

// Put adds r, or replaces the record of the same lease, epoch and boot, and returns when it is on disk.
func (l *Log) Put(r Record) error {
	kept := l.records[:0]
	for _, old := range l.records {
		if old.Lease != r.Lease || old.Epoch != r.Epoch || old.BootID != r.BootID {
			kept = append(kept, old)
		}
	}
	l.records = append(kept, r)
	if len(l.records) > Keep {
		l.records = append(l.records[:0], l.records[len(l.records)-Keep:]...)
	}
	text, err := json.MarshalIndent(struct {
		Records []Record `json:"records"`
	}{l.records}, "", " ")
	if err != nil {
		return fmt.Errorf("write cause record: %w", err)
	}
	dir := filepath.Dir(l.path)
	// Never by way of another folder's disk.
	if err := renameio.WriteFile(l.path, append(text, '\n'), 0o600, renameio.WithTempDir(dir)); err != nil {
		return fmt.Errorf("write cause record: %w", err)
	}
	if err := l.syncDir(dir); err != nil {
		return fmt.Errorf("write cause record: %w", err)
	}
	return nil
}

// syncDir makes a new name in a folder survive a reset without a sync, which is what a cause record is for: renameio
// leaves that out, and ext4 alone does it only every five seconds (fsync(2), ext4(5) commit=).
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("sync folder %s: %w", path, err)
	}
	return nil
}

// Records returns a copy, the oldest first.
func (l *Log) Records() []Record { return append([]Record(nil), l.records...) }

// Read merges the files in dir, the oldest record first. An error leaves out that file only.
func Read(dir string) ([]Record, error) {
	var all []Record
	var errs []error
	for _, name := range []string{GuardFile, AgentFile} {
		records, err := readFile(filepath.Join(dir, name))
		all, errs = append(all, records...), append(errs, err)
	}
	sort.SliceStable(all, func(i, j int) bool { return all[i].Written.Before(all[j].Written) })
	return all, errors.Join(errs...)
}

func readFile(path string) ([]Record, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read cause record: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return nil, fmt.Errorf("read cause record: %w", err)
	}
	var file struct {
		Records []Record `json:"records"`
	}
	if err := json.Unmarshal(text, &file); err != nil {
		return nil, fmt.Errorf("parse cause record %s: %w", path, err)
	}
	return file.Records, nil
}

// WasReset reports whether, seen from the boot bootNow, the node went down while r was open.
func (r Record) WasReset(bootNow string) bool { return r.BootID != bootNow && r.Stage.open() }

// Layer names what ended the node, as far as a record can tell.
func (r Record) Layer() Layer {
	switch {
	case r.By == "guard" && r.Stage == Imminent:
		return LayerGuard
	case r.Stage == Announced:
		return LayerKillTimer
	}
	return LayerUnknown
}

// Text says it to an administrator whose node runs the boot bootNow.
func (r Record) Text(bootNow string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "lease %s epoch %d: ", r.Lease, r.Epoch)
	due := r.Due.UTC().Format("2006-01-02 15:04:05.000 MST")
	switch {
	case !r.Stage.open():
		fmt.Fprintf(&b, "%s at %s", r.Stage, r.Written.UTC().Format(time.DateTime+" MST"))
	case !r.WasReset(bootNow) && r.Stage == Armed:
		b.WriteString("armed, nothing is wrong")
	case !r.WasReset(bootNow):
		fmt.Fprintf(&b, "this node will be reset at %s", due)
	case r.Layer() == LayerGuard:
		fmt.Fprintf(&b, "this node was reset by its guard at %s", due)
	case r.Layer() == LayerKillTimer:
		fmt.Fprintf(&b, "this node went down; a reset was due at %s, and the guard did not report that it was "+
			"about to carry it out: the kill timer (%s later) or a layer behind it did, "+
			"or the disk of the record was too slow", due, r.Slack)
	default:
		b.WriteString("this node went down while it held the lease, and no reset was announced: " +
			"the guard was killed or frozen, or the machine crashed or lost power")
	}
	if r.Because != "" {
		fmt.Fprintf(&b, ", because %s", r.Because)
	}
	return b.String()
}

// Why returns the text of the youngest record that is no Closed one, or false if there is none.
func Why(records []Record, bootNow string) (string, bool) {
	for i := len(records) - 1; i >= 0; i-- {
		if records[i].Stage != Closed {
			return records[i].Text(bootNow), true
		}
	}
	return "", false
}
