package cause

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestText(t *testing.T) {
	due := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	for _, c := range []struct {
		r       Record
		bootNow string
		want    string
		layer   Layer
	}{
		{Record{Stage: Imminent, By: "guard", BootID: "1"}, "2", "was reset by its guard at 2026-05-04 03:02:01", LayerGuard},
		{Record{Stage: Announced, By: "guard", BootID: "1", Slack: "200ms"}, "2", "the kill timer (200ms later)", LayerKillTimer},
		{Record{Stage: Armed, By: "guard", BootID: "1"}, "2", "no reset was announced", LayerUnknown},
		{Record{Stage: Announced, By: "guard", BootID: "1"}, "1", "will be reset at 2026-05-04 03:02:01", LayerKillTimer},
		{Record{Stage: Armed, By: "guard", BootID: "1"}, "1", "armed, nothing is wrong", LayerUnknown},
		{Record{Stage: Averted, By: "guard", BootID: "1"}, "2", "averted", LayerUnknown},
		{Record{Stage: Announced, By: "guard", BootID: "1", Because: "no answer"}, "2", "because no answer", LayerKillTimer},
	} {
		c.r.Lease, c.r.Epoch, c.r.Due = "pg", 7, due
		if got := c.r.Text(c.bootNow); !strings.Contains(got, c.want) || !strings.HasPrefix(got, "lease pg epoch 7: ") {
			t.Errorf("%s seen from boot %s: %q, want %q in it", c.r.Stage, c.bootNow, got, c.want)
		}
		if got := c.r.Layer(); got != c.layer {
			t.Errorf("%s: layer %s, want %s", c.r.Stage, got, c.layer)
		}
		if open := c.r.Stage.open() && c.bootNow != "1"; c.r.WasReset(c.bootNow) != open {
			t.Errorf("%s seen from boot %s: reset %v", c.r.Stage, c.bootNow, !open)
		}
	}
}

func TestPutReplacesAndIsBounded(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, GuardFile)
	l, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	for epoch := range uint64(Keep + 5) {
		for _, stage := range []Stage{Armed, Announced, Averted} {
			if err := l.Put(Record{Lease: "pg", Epoch: epoch, BootID: "1", Stage: stage, Written: time.Unix(int64(epoch), 0)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	again, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	got := again.Records()
	if len(got) != Keep || got[Keep-1].Epoch != Keep+4 || got[0].Epoch != 5 || got[0].Stage != Averted {
		t.Fatalf("%d records, from %+v to %+v", len(got), got[0], got[len(got)-1])
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info.Mode(), err)
	}
}

func TestReadMergesAndSurvivesDamage(t *testing.T) {
	dir := t.TempDir()
	for file, at := range map[string]int64{GuardFile: 20, AgentFile: 10} {
		l, err := Open(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Put(Record{Lease: file, Stage: Announced, Written: time.Unix(at, 0)}); err != nil {
			t.Fatal(err)
		}
	}
	all, err := Read(dir)
	if err != nil || len(all) != 2 || all[0].Lease != AgentFile {
		t.Fatalf("%v, %v", all, err)
	}
	if err := os.WriteFile(filepath.Join(dir, GuardFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if all, err = Read(dir); err == nil || len(all) != 1 {
		t.Fatalf("damage is not said, or costs the other file: %v, %v", all, err)
	}
	l, err := Open(filepath.Join(dir, GuardFile))
	if err == nil {
		t.Fatal("damage is not said")
	}
	if err := l.Put(Record{Lease: "pg"}); err != nil {
		t.Fatalf("a damaged history stops the guard's record: %v", err)
	}
}

func TestWhy(t *testing.T) {
	if _, ok := Why([]Record{{Stage: Closed}}, "1"); ok {
		t.Fatal("a lease that was given back in order is no cause")
	}
	text, ok := Why([]Record{{Stage: Imminent, By: "guard", BootID: "0", Lease: "pg"}, {Stage: Closed}}, "1")
	if !ok || !strings.Contains(text, "by its guard") {
		t.Fatal(text)
	}
}

// A reset comes without a sync, milliseconds after the last record: the new name must be on disk before Put returns. The
// virtual machine's rows (vm-stop-hangs-…) show it with a real file system.
func TestPutSyncsTheFolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), GuardFile)
	l, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	var atSync []Record
	l.syncDir = func(dir string) error {
		if dir != filepath.Dir(path) {
			t.Errorf("synced %s, want the folder of %s", dir, path)
		}
		atSync, err = readFile(path)
		return err
	}
	if err := l.Put(Record{Lease: "pg", Epoch: 7, Stage: Imminent}); err != nil {
		t.Fatal(err)
	}
	if len(atSync) != 1 || atSync[0].Stage != Imminent {
		t.Fatalf("when the folder was synced the record was not in its place: %+v", atSync)
	}
	broken := errors.New("no disk")
	l.syncDir = func(string) error { return broken }
	if err := l.Put(Record{Lease: "pg", Epoch: 8, Stage: Armed}); !errors.Is(err, broken) {
		t.Fatalf("the folder could not be synced, and Put says %v", err)
	}
}
