package docs_test

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// Every known mistake of the simulator has its row: caught, by an invariant that the page explains, within 20 000 seeds.
func TestVerificationHasEveryMistake(t *testing.T) {
	page := read(t, "docs/VERIFICATION.md")
	rows := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\| (.+) \| \w+ \| (I\d+) \| (\d+) \|$`).FindAllStringSubmatch(page, -1) {
		seeds, err := strconv.Atoi(m[3])
		rows[m[1]] = err == nil && seeds <= 20_000
		if !strings.Contains(page, "\n| "+m[2]+" |") {
			t.Errorf("VERIFICATION.md does not explain %s", m[2])
		}
	}
	names := regexp.MustCompile(`(?m)^\t\t\{"([^"]+)", "\w+", \[\]edit`).FindAllStringSubmatch(read(t, "sim/mistakes_test.go"), -1)
	if len(names) < 24 {
		t.Errorf("%d known mistakes, want 24 at least", len(names))
	}
	for _, m := range names {
		if !rows[m[1]] {
			t.Errorf("VERIFICATION.md does not say that this mistake is caught: %s (make mutants)", m[1])
		}
	}
}
