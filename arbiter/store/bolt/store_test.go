package bolt

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/leasedog/leasedog/lease"
)

func options(path string) Options {
	at := time.Unix(1_700_000_000, 0)
	return Options{Path: path, MachineID: "m1", History: 3, Wall: func() time.Time { at = at.Add(time.Second); return at }}
}

func open(t *testing.T, opt Options) *Store {
	t.Helper()
	s, err := Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func put(s *Store, cluster string, generation uint64, what string) error {
	done := make(chan error, 1)
	s.Write(cluster, lease.Change{
		Cluster: lease.ClusterRecord{Stamp: lease.Stamp{StoreID: "id", Generation: generation}},
		Leases:  []lease.Record{{Lease: "pg", Epoch: lease.Epoch(generation), State: lease.RecordHeld, Holder: lease.Party{Node: "a", BootID: "b"}}},
		Nodes:   []lease.NodeRecord{{Node: "a", BootID: "b"}},
		History: []lease.Transition{{Lease: "pg", Epoch: lease.Epoch(generation), What: what}},
	}, func(err error) { done <- err })
	return <-done
}

func TestWhatIsAnsweredIsThereAfterARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	s := open(t, options(path))
	for g := range uint64(5) {
		if err := put(s, "erp", g+1, fmt.Sprint("w", g+1)); err != nil {
			t.Fatal(err)
		}
	}
	before, err := s.Load()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, options(path))
	defer s.Close()
	after, err := s.Load()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(before, after); d != "" || after["erp"].Cluster.Stamp.Generation != 5 || after["erp"].Leases[0].Epoch != 5 {
		t.Errorf("after a restart: %s\n%+v", d, after)
	}
	list, err := s.History("erp", 10)
	if err != nil {
		t.Fatal(err)
	}
	var what []string
	for _, e := range list {
		what = append(what, e.What)
	}
	if got := strings.Join(what, " "); got != "w5 w4 w3" {
		t.Errorf("history = %q, want the newest three", got)
	}
}

func TestWriteErrorLeavesTheOldRecord(t *testing.T) {
	fail := false
	opt := options(filepath.Join(t.TempDir(), "a.db"))
	opt.BeforeSync = func() error {
		if fail {
			return errors.New("input/output error")
		}
		return nil
	}
	s := open(t, opt)
	defer s.Close()
	if err := put(s, "erp", 1, "first"); err != nil {
		t.Fatal(err)
	}
	fail = true
	if err := put(s, "erp", 2, "second"); err == nil || !strings.Contains(err.Error(), "input/output error") {
		t.Errorf("a failed write says %v", err)
	}
	all, err := s.Load()
	if err != nil || all["erp"].Cluster.Stamp.Generation != 1 {
		t.Errorf("after a failed write: %+v, %v", all, err)
	}
	fail = false
	if err := put(s, "erp", 3, "third"); err != nil {
		t.Errorf("the next write: %v", err)
	}
	// It went into a new file, which has everything, is as much in use, and stands alone.
	if _, err := Open(opt); !errors.Is(err, ErrInUse) {
		t.Errorf("Open = %v, want ErrInUse", err)
	}
	list, err := s.History("erp", 10)
	if err != nil || len(list) != 2 || list[0].What != "third" || list[1].What != "first" {
		t.Errorf("history %+v, %v", list, err)
	}
	if left := entries(filepath.Dir(opt.Path)); len(left) != 1 || left[0] != "a.db" {
		t.Errorf("files %v", left)
	}
}

func TestSecondProcessIsToldSo(t *testing.T) {
	opt := options(filepath.Join(t.TempDir(), "a.db"))
	s := open(t, opt)
	defer s.Close()
	if _, err := Open(opt); !errors.Is(err, ErrInUse) {
		t.Errorf("Open = %v, want ErrInUse", err)
	}
}

func TestAnotherMachineMakesEveryClusterSuspect(t *testing.T) {
	opt := options(filepath.Join(t.TempDir(), "a.db"))
	s := open(t, opt)
	for _, c := range []string{"erp", "web"} {
		if err := put(s, c, 1, "x"); err != nil {
			t.Fatal(err)
		}
	}
	_ = s.Close()
	opt.MachineID = "m2"
	s = open(t, opt)
	if all, _ := s.Load(); !s.Suspect() || !all["erp"].Suspect || !all["web"].Suspect {
		t.Errorf("on another machine: %+v", all)
	}
	// What is written on this machine (its recovery) ends it, for that cluster only, also over a restart.
	if err := put(s, "erp", 2, "recovery"); err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
	s = open(t, opt)
	defer s.Close()
	if all, _ := s.Load(); all["erp"].Suspect || !all["web"].Suspect {
		t.Errorf("after the recovery of one: %+v", all)
	}
}

// A store that another machine took over and that comes back is suspect: the other one may serve it still.
func TestComingBackFromAnotherMachineIsSuspect(t *testing.T) {
	opt := options(filepath.Join(t.TempDir(), "a.db"))
	for i, step := range []struct {
		machine string
		suspect bool
	}{{opt.MachineID, false}, {"m2", true}, {"m2", false}, {opt.MachineID, true}, {opt.MachineID, false}} {
		opt.MachineID = step.machine
		s := open(t, opt)
		if all, err := s.Load(); err != nil || all["erp"].Suspect != step.suspect || s.Suspect() != step.suspect {
			t.Errorf("start %d, on %s: suspect %v %v, want %v (%v)", i+1, step.machine, all["erp"].Suspect, s.Suspect(), step.suspect, err)
		}
		if err := put(s, "erp", uint64(i+1), "written here"); err != nil {
			t.Fatal(err)
		}
		_ = s.Close()
	}
}

func TestDamagedFileIsMovedAside(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(text []byte) []byte
	}{
		{"truncated", func(text []byte) []byte { return text[:5000] }},
		{"its end is missing", func(text []byte) []byte { return text[:preallocated] }},
		{"empty", func([]byte) []byte { return nil }},
		{"empty of sense", func([]byte) []byte { return []byte(strings.Repeat("no database ", 4096)) }},
		{"both meta pages flipped", func(text []byte) []byte {
			size := os.Getpagesize()
			text[16] ^= 0xff
			text[size+16] ^= 0xff
			return text
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			opt := options(filepath.Join(t.TempDir(), "a.db"))
			s := open(t, opt)
			if err := put(s, "erp", 1, strings.Repeat("more than the file has from the start ", 1<<18)); err != nil {
				t.Fatal(err)
			}
			_ = s.Close()
			text, err := os.ReadFile(opt.Path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(opt.Path, c.damage(text), 0o600); err != nil {
				t.Fatal(err)
			}
			s = open(t, opt)
			defer s.Close()
			if all, err := s.Load(); err != nil || len(all) != 0 || s.Aside() == "" || !exists(s.Aside()) {
				t.Errorf("Load = %v, %v; aside %q", all, err, s.Aside())
			}
		})
	}
}

func TestFileHasItsSizeFromTheStart(t *testing.T) {
	opt := options(filepath.Join(t.TempDir(), "a.db"))
	s := open(t, opt)
	defer s.Close()
	info, err := os.Stat(opt.Path)
	if err != nil {
		t.Fatal(err)
	}
	blocks := info.Sys().(*syscall.Stat_t).Blocks * 512
	if info.Size() < preallocated || blocks < preallocated || info.Mode().Perm() != 0o600 {
		t.Errorf("size %d, of it on the disk %d, mode %v", info.Size(), blocks, info.Mode())
	}
}
