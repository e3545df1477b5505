package docs_test

import (
	"errors"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The arbiter's unit stays as closed as it is: at most 2.5 on the scale of systemd-analyze(1), and no user but its own.
func TestArbiterUnitIsClosed(t *testing.T) {
	unit := filepath.Join(root, "packaging", "systemd", "leasedog-arbiter.service")
	text := read(t, "packaging/systemd/leasedog-arbiter.service")
	for _, line := range []string{"User=leasedog-arbiter", "NoNewPrivileges=yes", "CapabilityBoundingSet=", "ProtectSystem=strict"} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("the arbiter's unit has no line %s", line)
		}
	}
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("systemd-analyze is not here")
	}
	out, err := exec.CommandContext(t.Context(), "systemd-analyze", "security", "--offline=true", "--threshold=25", unit).CombinedOutput()
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		t.Fatal(err)
	}
	overall := regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`).FindSubmatch(out)
	switch {
	case strings.Contains(string(out), "unrecognized option"):
		t.Skip("this systemd-analyze knows no --offline (it came with 250)")
	case err != nil || overall == nil:
		t.Errorf("%v: %s", err, out)
	}
}
