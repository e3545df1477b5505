package packages

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// versionOf runs package.sh with a go command that shows what nfpm would get: the version, and the changelog's.
func versionOf(t *testing.T, describe string) (version, changelog string) {
	t.Helper()
	dir := t.TempDir()
	packaging, err := filepath.Abs("../../packaging")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(packaging, filepath.Join(dir, "packaging")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "go"), []byte("#!/bin/sh\necho \"$VERSION\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "packaging/nfpm/package.sh", "leasedog", describe, "amd64", "deb", "dist")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GO="+filepath.Join(dir, "go"), "SOURCE_DATE_EPOCH=1795643944",
		"FILES=leasedog /usr/sbin 0755 bin/leasedog")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", describe, err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "bin/nfpm/leasedog-changelog.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), `semver: "`)
	changelog, _, _ = strings.Cut(rest, `"`)
	return strings.TrimSpace(string(out)), changelog
}

// TestVersion: what git says becomes a version of semver, in the order in which commits come.
func TestVersion(t *testing.T) {
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("needs a shell")
	}
	for describe, want := range map[string][2]string{
		"c161896":                  {"0.0.0-git.20261125215904.gc161896", "0.0.0~git.20261125215904.gc161896-1"},
		"c161896-dirty":            {"0.0.0-git.20261125215904.gc161896.dirty", "0.0.0~git.20261125215904.gc161896.dirty-1"},
		"unknown":                  {"0.0.0-git.20261125215904.gunknown", "0.0.0~git.20261125215904.gunknown-1"},
		"v1.2.3":                   {"1.2.3", "1.2.3-1"},
		"v1.2.3-dirty":             {"1.2.3+dirty", "1.2.3+dirty-1"},
		"v1.2.3-rc1":               {"1.2.3-rc1", "1.2.3~rc1-1"},
		"v1.2.3-14-gabcdef0":       {"1.2.3+14.gabcdef0", "1.2.3+14.gabcdef0-1"},
		"v1.2.3-14-gabcdef0-dirty": {"1.2.3+14.gabcdef0.dirty", "1.2.3+14.gabcdef0.dirty-1"},
		"v1.2.3-rc1-14-gabcdef0":   {"1.2.3-rc1+14.gabcdef0", "1.2.3~rc1+14.gabcdef0-1"},
	} {
		version, changelog := versionOf(t, describe)
		if version != want[0] || changelog != want[1] {
			t.Errorf("%s becomes %s, in the changelog %s; want %s", describe, version, changelog, want)
		}
	}
}
