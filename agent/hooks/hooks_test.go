package hooks

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func folder(t *testing.T) Folder {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "x.d")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return Folder{Path: dir, Owner: os.Geteuid()}
}

func (f Folder) put(t *testing.T, name, script string, mode os.FileMode) {
	t.Helper()
	path := filepath.Join(f.Path, name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

var about = Question{Cluster: "erp", Node: "node1", Lease: "pg", Resources: []string{"g-pg", "ms-drbd"}}

func TestGates(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(*testing.T, Folder)
		want    []string // parts, in order
	}{
		"empty":           {func(*testing.T, Folder) {}, nil},
		"yes":             {func(t *testing.T, f Folder) { f.put(t, "a", "exit 0", 0o755) }, nil},
		"no":              {func(t *testing.T, f Folder) { f.put(t, "a", "echo no disk; echo more; exit 1", 0o755) }, []string{"gate a says no: no disk"}},
		"no without word": {func(t *testing.T, f Folder) { f.put(t, "a", "exit 3", 0o755) }, []string{"gate a says no: "}},
		"one of three": {func(t *testing.T, f Folder) {
			f.put(t, "a", "exit 0", 0o755)
			f.put(t, "b", "echo B; exit 1", 0o755)
			f.put(t, "c", "exit 0", 0o700)
		}, []string{"gate b says no: B"}},
		"all in order": {func(t *testing.T, f Folder) {
			f.put(t, "b", "echo B; exit 1", 0o755)
			f.put(t, "a", "echo A; exit 1", 0o755)
		}, []string{"gate a says no: A", "gate b says no: B"}},
		"side by side": {func(t *testing.T, f Folder) { // each waits for the other
			f.put(t, "a", `: >"$0.a"; until [ -e "${0%a}b.b" ]; do :; done`, 0o755)
			f.put(t, "b", `: >"$0.b"; until [ -e "${0%b}a.a" ]; do :; done`, 0o755)
		}, nil},
		"what it is told": {func(t *testing.T, f Folder) {
			f.put(t, "a", `echo "$LEASEDOG_CLUSTER $LEASEDOG_NODE $LEASEDOG_LEASE $LEASEDOG_RESOURCES $#"; exit 1`, 0o755)
		}, []string{"erp node1 pg g-pg ms-drbd 0"}},
		"left by an editor": {func(t *testing.T, f Folder) {
			for _, n := range []string{"a~", ".a", "a.dpkg-old", "a.disabled", "README.txt"} {
				f.put(t, n, "exit 1", 0o755)
			}
		}, nil},
		"not executable":     {func(t *testing.T, f Folder) { f.put(t, "a", "exit 0", 0o644) }, []string{"a is not executable"}},
		"writable by others": {func(t *testing.T, f Folder) { f.put(t, "a", "exit 0", 0o757) }, []string{"may be written by others"}},
		"a folder":           {func(t *testing.T, f Folder) { must(t, os.Mkdir(filepath.Join(f.Path, "a"), 0o755)) }, []string{"not a regular file"}},
		"a broken link":      {func(t *testing.T, f Folder) { must(t, os.Symlink("/nowhere/x", filepath.Join(f.Path, "a"))) }, []string{"gate a is not run"}},
		"a link to where anybody writes": {func(t *testing.T, f Folder) {
			open := Folder{Path: filepath.Join(f.Path, "..", "open"), Owner: f.Owner}
			must(t, os.Mkdir(open.Path, 0o755))
			open.put(t, "prog", "exit 0", 0o755)
			must(t, os.Chmod(open.Path, 0o777))
			must(t, os.Symlink(filepath.Join(open.Path, "prog"), filepath.Join(f.Path, "a")))
		}, []string{"may be written by others"}},
		"a link":           {func(t *testing.T, f Folder) { must(t, os.Symlink("/bin/false", filepath.Join(f.Path, "a"))) }, []string{"gate a"}},
		"folder is public": {func(t *testing.T, f Folder) { must(t, os.Chmod(f.Path, 0o777)) }, []string{"may be written by others"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := folder(t)
			c.prepare(t, f)
			got := f.Ask(t.Context(), about)
			if len(got) != len(c.want) {
				t.Fatalf("%q, want %q", got, c.want)
			}
			for i, w := range c.want {
				if !strings.Contains(got[i], w) {
					t.Errorf("%q, want %q", got[i], w)
				}
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A gate that hangs says no, with everything that it started.
func TestGateHangs(t *testing.T) {
	f := folder(t)
	f.put(t, "a", `echo started >"$0.log"; exec tail -f /dev/null`, 0o755)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { // the deadline, once it hangs
		for ctx.Err() == nil {
			if _, err := os.Stat(filepath.Join(f.Path, "a.log")); err == nil {
				cancel()
			}
		}
	}()
	got := f.Ask(ctx, about)
	if len(got) != 1 || !strings.Contains(got[0], "did not answer within 3s") {
		t.Errorf("%q", got)
	}
}

func TestFolderOfAnother(t *testing.T) {
	f := folder(t)
	f.put(t, "a", "exit 0", 0o755)
	f.Owner++
	if got := f.Ask(t.Context(), about); len(got) != 1 || !strings.Contains(got[0], "does not belong to root") {
		t.Errorf("%q", got)
	}
	if got := (Folder{Path: filepath.Join(f.Path, "none"), Owner: f.Owner}).Ask(t.Context(), about); len(got) != 0 {
		t.Errorf("a folder that is not there: %q", got)
	}
}

func TestAlerts(t *testing.T) {
	f := folder(t)
	f.put(t, "a", `env | grep ^CRM_alert_ | sort >"$0.$CRM_alert_node_sequence"`, 0o755)
	f.put(t, "b", "echo cannot mail; exit 1", 0o755)
	f.put(t, "c", "exit 0", 0o757)
	warned := make(chan string, 10)
	a := NewAlerts(f, func(format string, args ...any) { warned <- fmt.Sprintf(format, args...) })
	at := time.Unix(1_700_000_000, 123_456_000)
	a.Raise(Alert{Event: LeaseLost, Node: "node1", Lease: "pg", Epoch: 7, Text: "not renewed; rm -rf /", At: at})
	a.Raise(Alert{Event: PeerSilent, Node: "node1", Text: "node2", At: at})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var work sync.WaitGroup
	work.Go(func() { a.Work(ctx) })
	var said []string
	for range 4 {
		said = append(said, <-warned)
	}
	for !exists(filepath.Join(f.Path, "a.2")) && ctx.Err() == nil {
	}
	cancel()
	work.Wait()
	text, err := os.ReadFile(filepath.Join(f.Path, "a.1"))
	must(t, err)
	want := `CRM_alert_desc=not renewed; rm -rf /
CRM_alert_epoch=7
CRM_alert_kind=leasedog
CRM_alert_node=node1
CRM_alert_node_sequence=1
CRM_alert_recipient=
CRM_alert_rsc=pg
CRM_alert_task=lease-lost
CRM_alert_timestamp=22:13:20.123456
CRM_alert_timestamp_epoch=1700000000
CRM_alert_timestamp_usec=123456
CRM_alert_version=1
`
	if string(text) != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
	slices.Sort(said)
	if all := strings.Join(said, "\n"); strings.Count(all, "cannot mail") != 2 || strings.Count(all, "may be written") != 2 {
		t.Errorf("warned %q", said)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Slow alerts never make anybody wait: what does not fit is dropped, and said.
func TestAlertsNeverWait(t *testing.T) {
	var warned []string
	a := NewAlerts(folder(t), func(format string, args ...any) { warned = append(warned, fmt.Sprintf(format, args...)) })
	for range maxAlerts + 5 {
		a.Raise(Alert{Event: LeaseWon})
	}
	a.tell(t.Context(), <-a.queue, 1)
	if len(warned) != 1 || warned[0] != "alerts are slow: 5 events were not told" {
		t.Errorf("warned %q", warned)
	}
}
