package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"

	"github.com/leasedog/leasedog/lease"
)

// maxStateFile bounds what is read of a file of ours.
const maxStateFile = 1 << 20

// recordPath is where /run says what a lease is to a successor.
func (a *Agent) recordPath(name string) string {
	return filepath.Join(a.opt.RunDir, "lease-"+name+".json")
}

// planPath keeps how the resources of a lease are stopped and checked without Pacemaker.
func (a *Agent) planPath(name string) string {
	return filepath.Join(a.opt.RunDir, "plan-"+name+".json")
}

// writeRecord replaces or removes a lease's record. /run is a tmpfs: it needs no fsync to survive this process.
func (a *Agent) writeRecord(r lease.RunRecord) error {
	path := a.recordPath(r.Lease)
	if r.State == lease.RunNone {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	return writeJSON(path, r)
}

// readRecord returns nil if there is none. A record that cannot be read is an error: the lease's state is unknown.
func (a *Agent) readRecord(name string) (*lease.RunRecord, error) {
	var r lease.RunRecord
	err := readJSON(a.recordPath(name), &r)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = checkRecord(r, name, a.opt.Now())
	}
	if err != nil {
		return nil, err
	}
	return &r, nil
}

// checkRecord says what an agent of this boot cannot have written. Such a file is damaged, and what it says is unknown.
func checkRecord(r lease.RunRecord, name string, now lease.Instant) error {
	taken := r.State == lease.RunHeld || r.State == lease.RunLeaving || r.State == lease.RunPaused
	bad := ""
	switch {
	case r.Lease != name:
		bad = fmt.Sprintf("it is of lease %q", r.Lease)
	case !taken && r.State != lease.RunLosing && r.State != lease.RunReleased:
		bad = fmt.Sprintf("state %q is unknown", r.State)
	case r.Epoch > lease.MaxEpoch || taken && r.Epoch == 0:
		bad = fmt.Sprintf("epoch %d is outside 1..%d", r.Epoch, lease.MaxEpoch)
	case r.Party.Node == "" || r.Party.BootID == "" || r.Party.Instance.IsZero():
		bad = "it names no holder"
	case r.Hold < 0 || r.PauseFor < 0 || r.Sent < 0 || r.Sent > now:
		bad = "it has a time that cannot be"
	case taken && len(r.Budget.Validate()) > 0:
		bad = r.Budget.Validate()[0]
	}
	if bad != "" {
		return fmt.Errorf("the record of lease %s makes no sense: %s", name, bad)
	}
	return nil
}

func writeJSON(path string, v any) error {
	text, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", path, err)
	}
	// Never by way of another folder's disk.
	return renameio.WriteFile(path, append(text, '\n'), 0o600, renameio.WithTempDir(filepath.Dir(path)))
}

func readJSON(path string, v any) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxStateFile))
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("parse %s: %w", path, err)
	}
	return nil
}

// writeDurable writes like writeJSON and also syncs the folder, so that the new name survives a power cut: renameio
// leaves that out.
func writeDurable(path string, v any) error {
	if err := writeJSON(path, v); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("sync folder of %s: %w", path, err)
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("sync folder of %s: %w", path, err)
	}
	return nil
}

func (a *Agent) knownPath() string { return filepath.Join(a.opt.StateDir, "known.json") }

// loadKnown reads what this node knows of its arbiter. A missing file is a node that never held anything; a damaged
// one is an error, since it would make the node believe old answers.
func (a *Agent) loadKnown() (*lease.Known, error) {
	var k lease.Known
	err := readJSON(a.knownPath(), &k)
	if errors.Is(err, fs.ErrNotExist) {
		return &lease.Known{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("load what this node knows of the arbiter: %w (it must not be guessed: "+
			"move the file away only if this node holds no lease and the arbiter was not restored)", err)
	}
	if k.Stamp.StoreID == "" {
		return nil, fmt.Errorf("load %s: it names no store, and is only written when one is known", a.knownPath())
	}
	for name, e := range k.Epochs {
		if e > lease.MaxEpoch {
			return nil, fmt.Errorf("load %s: lease %s has the absurd epoch %d", a.knownPath(), name, e)
		}
	}
	return &k, nil
}
