package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The lab's mutants are compiled in by build tag only: the binary that make build ships has none of them. The second
// half shows that the mark would be found.
func TestShippedBinaryHasNoMutant(t *testing.T) {
	mark := []byte("leasedog lab " + "mutant")
	for _, tc := range []struct {
		tags string
		want bool
	}{{"", false}, {"lab_mutant_noguard", true}, {"lab_mutant_blindguard", true}} {
		bin := filepath.Join(t.TempDir(), "leasedog")
		build := exec.Command("go", "build", "-trimpath", "-tags", tc.tags, "-o", bin, ".")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build with tags %q: %v\n%s", tc.tags, err, out)
		}
		data, err := os.ReadFile(bin)
		if err != nil {
			t.Fatal(err)
		}
		if got := bytes.Contains(data, mark); got != tc.want {
			t.Errorf("tags %q: mutant mark found: %v, want %v", tc.tags, got, tc.want)
		}
	}
}
