package cause

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// FuzzLog: a damaged history stops nobody, whatever it says: it can be shown, and written to.
func FuzzLog(f *testing.F) {
	l, err := Open(filepath.Join(f.TempDir(), GuardFile))
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []Stage{Armed, Announced, Imminent, Averted, Closed} {
		r := Record{Lease: "pg", Epoch: 7, BootID: string(s), Stage: s, By: "guard", Because: "no renewal", Due: time.Unix(9, 0), Slack: "100ms"}
		if err := l.Put(r); err != nil {
			f.Fatal(err)
		}
	}
	text, err := os.ReadFile(l.path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"records":[null,{}]}`))
	f.Add([]byte(``))
	f.Fuzz(func(t *testing.T, text []byte) {
		dir := t.TempDir()
		path := filepath.Join(dir, GuardFile)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		all, _ := Read(dir)
		for _, r := range all {
			_ = r.Text("b")
		}
		_, _ = Why(all, "b")
		l, _ := Open(path)
		want := Record{Lease: "pg", Epoch: 9, BootID: "now", Stage: Armed, By: "guard", Written: time.Unix(99, 0).UTC()}
		if err := l.Put(want); err != nil {
			t.Fatalf("after %q nothing can be written: %v", text, err)
		}
		again, err := Open(path)
		if err != nil {
			t.Fatalf("what was written after %q cannot be read: %v", text, err)
		}
		records := again.Records()
		if n := len(records); n == 0 || n > Keep || records[n-1] != want {
			t.Errorf("after %q the newest of %d is %+v", text, n, records)
		}
	})
}
