package lab

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestMatrix(t *testing.T) {
	rows := []Scenario{{Name: "split", Bound: 2 * time.Second}, {Name: "control", Control: true}}
	good := SuiteResult{Suite: "old", Versions: "pacemaker 2.0.5",
		Results: []Result{{Name: "split", Gap: 1.5, Pass: true}, {Name: "control", Control: true, Overlap: 7, Pass: true}}}
	bad := SuiteResult{Suite: "new", Results: []Result{{Name: "split", Gap: 1, Overlap: 0.25, Evidence: []string{"both ran"}}}}
	skipped := SuiteResult{Suite: "gone", NotRun: "nobody has it", Results: []Result{}}
	for _, tt := range []struct {
		suites []SuiteResult
		want   bool
	}{
		{[]SuiteResult{good, skipped}, true},
		{[]SuiteResult{good, bad}, false},
		{[]SuiteResult{skipped}, false}, // nothing was seen to pass
		{nil, false},
	} {
		if got := Passed(tt.suites); got != tt.want {
			t.Errorf("%v: passed %v", tt.suites, got)
		}
	}
	var out strings.Builder
	if err := WriteMatrix(&out, rows, []SuiteResult{good, bad, skipped}); err != nil {
		t.Fatal(err)
	}
	const want = `
scenario  allowed s  old      new                  gone     
split     2.00       ok 1.50  FAILED 0.25 overlap  not run  
control   overlap    ok 7.00  not run              not run  
old: pacemaker 2.0.5
new: 
new split: both ran
gone: not run: nobody has it
2 ok, 1 FAILED, 3 not run
`
	if out.String() != want[1:] {
		t.Errorf("got\n%s", out.String())
	}
}

func TestVersionsIn(t *testing.T) {
	root := t.TempDir()
	status := "Package: corosync\nStatus: install ok installed\nVersion: 3.1.2-2\n\nPackage: pacemaker\nVersion: 2.0.5-2\n\nPackage: systemd\nVersion: 247.3-7+deb11u5\n"
	path := filepath.Join(root, "var/lib/dpkg/status")
	if err := writeFile(path, []byte(status), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := versionsIn(root)
	if err != nil || got != "pacemaker 2.0.5, corosync 3.1.2, systemd 247.3" {
		t.Errorf("got %q, %v", got, err)
	}
	if err := os.WriteFile(path, []byte("Package: systemd\nVersion: 247.3\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := versionsIn(root); err == nil {
		t.Error("a root without Pacemaker has versions")
	}
}
