package bolt

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/leasedog/leasedog/lease"
	"github.com/leasedog/leasedog/test/disk"
)

// crashDir tells this test binary to be the program under test: it writes changes to a store in that folder and says in
// the marks what was begun and replied. crashMistake makes it a wrong one. crashShort has it do less.
const (
	crashDir     = "LEASEDOG_TEST_CRASH_DIR"
	crashMistake = "LEASEDOG_TEST_CRASH_MISTAKE"
	crashShort   = "LEASEDOG_TEST_CRASH_SHORT"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		if err := writeChanges(dir, os.Getenv(crashMistake)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// changeOf is what the program writes for a cluster's generation. Every change holds all records of its cluster, as the
// Grantor's do after a write error.
func changeOf(cluster string, generation uint64) lease.Change {
	c := lease.Change{
		Cluster: lease.ClusterRecord{Stamp: lease.Stamp{StoreID: "id-" + cluster, Generation: generation}},
		Nodes:   []lease.NodeRecord{{Node: "node1", BootID: fmt.Sprint("boot-", generation)}},
		History: []lease.Transition{{Lease: "pg", Epoch: lease.Epoch(generation), What: fmt.Sprint("w", generation)}},
	}
	leases := 2
	if cluster == "wide" {
		leases = 64 // more than a page
	}
	for i := range leases {
		c.Leases = append(c.Leases, lease.Record{Lease: fmt.Sprintf("l%02d", i), Epoch: lease.Epoch(generation), Seq: generation,
			State: lease.RecordHeld, Holder: lease.Party{Node: "node1", BootID: "b"}, Hold: time.Second})
	}
	return c
}

// writeChanges is the program. The store is opened twice, and some changes share a transaction.
func writeChanges(dir, mistake string) error {
	marks, err := os.OpenFile(filepath.Join(dir, disk.MarkFile), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	mark := func(format string, args ...any) { fmt.Fprintf(marks, format+"\n", args...) }
	generation := map[string]uint64{}
	rounds := [][][]string{
		{{"erp"}, {"erp", "web", "wide"}, {"erp"}, {"web", "erp"}},
		{{"wide"}, {"erp"}, {"web", "erp"}},
	}
	if os.Getenv(crashShort) != "" {
		rounds = [][][]string{{{"erp"}, {"erp", "web"}}, {{"erp"}}}
	}
	for _, groups := range rounds {
		s, err := Open(crashOptions(dir))
		if err != nil {
			for tries := 0; err != nil && tries < 5; tries++ { // as systemd does
				s, err = Open(crashOptions(dir))
			}
			if err != nil {
				return err
			}
		}
		s.db.NoSync = mistake == "no sync"
		for _, group := range groups {
			for tries := 0; len(group) > 0; tries++ {
				if tries > 5 {
					return errors.New("a few calls were to fail, and more did")
				}
				var failed []string
				done := make(chan error, len(group))
				for _, c := range group {
					generation[c]++
					mark("begun %s %d", c, generation[c])
					if mistake == "reply first" {
						mark("replied %s %d", c, generation[c])
					}
					s.Write(c, changeOf(c, generation[c]), func(err error) { done <- err })
				}
				for _, c := range group { // done is called in the order of Write
					if err := <-done; err != nil {
						failed = append(failed, c)
						s.broken = s.broken && mistake != "write on"
						continue
					}
					mark("replied %s %d", c, generation[c])
				}
				group = failed
			}
		}
		if err := s.Close(); err != nil {
			return err
		}
	}
	return nil
}

func crashOptions(dir string) Options {
	return Options{Path: filepath.Join(dir, "a.db"), MachineID: "m", History: 3, Wall: func() time.Time { return time.Unix(1, 0) }}
}

// record runs the program. fail is the number of the call that fails, and row how many fail after it.
func record(t *testing.T, fail, row int, mistake, short string) []disk.Event {
	t.Helper()
	dir := scratch(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crashDir+"="+dir, crashMistake+"="+mistake, crashShort+"="+short, "GOMAXPROCS=1",
		"GODEBUG=asyncpreemptoff=1")
	cmd.Stderr = os.Stderr
	log, err := disk.Record(cmd, disk.Options{Dir: dir, Fail: fail, Row: row, Timeout: time.Minute})
	if err != nil {
		t.Fatalf("record with call %d failing: %v", fail, err)
	}
	return log
}

// scratch is a folder in memory if there is one: thousands of images are written and synced.
func scratch(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "leasedog-crash-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// promises are what the marks say of each cluster.
type promises struct{ begun, replied map[string]uint64 }

func readMarks(t *testing.T, marks []string) promises {
	t.Helper()
	p := promises{map[string]uint64{}, map[string]uint64{}}
	for _, m := range marks {
		var cluster string
		var generation uint64
		what, rest, _ := strings.Cut(m, " ")
		if _, err := fmt.Sscanf(rest, "%s %d", &cluster, &generation); err != nil {
			t.Fatalf("mark %q: %v", m, err)
		}
		if what == "begun" {
			p.begun[cluster] = generation
		} else {
			p.replied[cluster] = generation
		}
	}
	return p
}

// judge opens what a crash has left with the production code.
func judge(t *testing.T, dir string, c disk.Crash) error {
	for _, e := range entries(dir) {
		if err := os.RemoveAll(filepath.Join(dir, e)); err != nil {
			return err
		}
	}
	if err := c.WriteTo(dir); err != nil {
		return err
	}
	p := readMarks(t, c.Marks)
	s, err := Open(crashOptions(dir))
	if err != nil {
		return err
	}
	defer s.Close()
	if s.Aside() != "" && len(p.replied) > 0 {
		return errors.New("the store is unreadable, and something had been replied")
	}
	all, err := s.Load()
	if err != nil {
		return err
	}
	for cluster, begun := range p.begun {
		got := all[cluster].Cluster.Stamp.Generation
		if got < p.replied[cluster] || got > begun {
			return fmt.Errorf("cluster %s is at generation %d: %d was replied, %d begun", cluster, got, p.replied[cluster], begun)
		}
		if got == 0 {
			continue
		}
		want := changeOf(cluster, got)
		if d := cmp.Diff(lease.Snapshot{Cluster: want.Cluster, Leases: want.Leases, Nodes: want.Nodes}, all[cluster]); d != "" {
			return fmt.Errorf("cluster %s is not as generation %d made it: %s", cluster, got, d)
		}
		h, err := s.History(cluster, 1)
		if err != nil || len(h) != 1 || h[0].Epoch != got {
			return fmt.Errorf("cluster %s: history %+v, %v at generation %d", cluster, h, err, got)
		}
	}
	if err := put(s, "later", 1, "x"); err != nil { // and it goes on
		return fmt.Errorf("write after the crash: %w", err)
	}
	return nil
}

func entries(dir string) []string {
	list, _ := filepath.Glob(filepath.Join(dir, "*"))
	var out []string
	for _, path := range list {
		out = append(out, filepath.Base(path))
	}
	return out
}

// judgeAll visits every crash of a log and returns how many there were, and the first that broke a promise.
func judgeAll(t *testing.T, log []disk.Event, from int, coarse bool) (int, error) {
	t.Helper()
	dir, n := scratch(t), 0
	err := disk.Crashes(log, from, coarse, func(c disk.Crash) error { n++; return judge(t, dir, c) })
	return n, err
}

// calls lists what can fail, and says where in the log the first of them is that did.
func calls(log []disk.Event) (list []disk.Event, failed int) {
	failed = -1
	for i, e := range log {
		if e.CanFail() {
			list = append(list, e)
		}
		if e.Failed && failed < 0 {
			failed = i
		}
	}
	return list, failed
}

// Power may fail after every write and sync of the store: what was replied is there, whole.
func TestCrashAfterEveryCall(t *testing.T) {
	t.Parallel()
	log := record(t, 0, 0, "", "")
	n, err := judgeAll(t, log, 0, false)
	if err != nil {
		t.Fatal(err)
	}
	all, _ := calls(log)
	t.Logf("%d writes and syncs, %d crashes", len(all), n)
}

// Every write and sync may fail, and power later: what was replied before and after is there.
func TestCrashAfterEveryFailure(t *testing.T) {
	if !disk.CanFail {
		t.Skip("no call can be made to fail on this architecture")
	}
	t.Parallel()
	all, _ := calls(record(t, 0, 0, "", "short"))
	total, runs := 0, 0
	for i, call := range all {
		rows := []int{0}
		if call.Kind == disk.Sync {
			rows = []int{0, 2} // the disk is bad for a while
		}
		for _, row := range rows {
			log := record(t, i+1, row, "", "short")
			list, at := calls(log)
			if at < 0 && len(list) <= i && len(all)-len(list) <= len(all)/4 {
				continue // which clusters share a transaction depends on the scheduler: this run made fewer calls
			}
			if at < 0 {
				t.Fatalf("call %d (%s) did not fail", i+1, call)
			}
			n, err := judgeAll(t, log, at, true)
			if err != nil {
				t.Errorf("call %d (%s) and %d more failed: %v", i+1, call, row, err)
			}
			total, runs = total+n, runs+1
		}
	}
	t.Logf("%d calls, %d runs with failures, %d crashes", len(all), runs, total)
}

// What the tests above would see: a store that does not sync, one that replies before it has written, and one that goes
// on with a file in which a sync has failed.
func TestCrashesFindMistakes(t *testing.T) {
	t.Parallel()
	for _, mistake := range []string{"no sync", "reply first"} {
		if n, err := judgeAll(t, record(t, 0, 0, mistake, "short"), 0, false); err == nil {
			t.Errorf("%s: %d crashes, and nothing was lost", mistake, n)
		} else {
			t.Logf("%s: crash %d: %v", mistake, n, err)
		}
	}
	if !disk.CanFail {
		return
	}
	all, _ := calls(record(t, 0, 0, "", "short"))
	for i, call := range slices.Backward(all) {
		if call.Kind != disk.Sync {
			continue
		}
		log := record(t, i+1, 0, "write on", "short")
		_, at := calls(log)
		if at < 0 {
			continue // this run had fewer calls, and none of them failed
		}
		if _, err := judgeAll(t, log, at, true); err != nil {
			t.Logf("write on after call %d, %s: %v", i+1, log[at], err)
			return
		}
	}
	t.Error("write on: nothing was lost")
}
