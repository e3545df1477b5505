package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/leasedog/leasedog/test/lab"
	"github.com/leasedog/leasedog/test/vm"
)

const root = ".."

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// sources calls f for every Go file of the project.
func sources(t *testing.T, f func(path, text string)) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "bin"):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".go"):
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		f(filepath.ToSlash(rel), string(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Every test that FAILURES.md names exists: a Go test, a story below lease/testdata, or a row of the laboratory
// or of the emulated machine.
func TestFailuresNameRealTests(t *testing.T) {
	known := map[string]bool{}
	tests := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	sources(t, func(path, text string) {
		if strings.HasSuffix(path, "_test.go") {
			for _, m := range tests.FindAllStringSubmatch(text, -1) {
				known[m[1]] = true
			}
		}
	})
	for _, s := range lab.Scenarios() {
		known[s.Name] = true
	}
	for _, row := range vm.Rows() {
		known[row.Name] = true
	}
	stories, err := filepath.Glob(filepath.Join(root, "lease", "testdata", "*", "*.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range stories {
		known[filepath.Base(filepath.Dir(path))+"/"+strings.TrimSuffix(filepath.Base(path), ".txt")] = true
	}
	named := 0
	code := regexp.MustCompile("`([^`]+)`")
	for n, line := range strings.Split(read(t, "docs/FAILURES.md"), "\n") {
		cells := strings.Split(line, "|")
		if len(cells) != 7 || strings.HasPrefix(cells[1], "---") || strings.TrimSpace(cells[1]) == "failure" {
			if strings.HasPrefix(line, "|") && len(cells) != 7 {
				t.Errorf("FAILURES.md:%d: %d cells, want 5", n+1, len(cells)-2)
			}
			continue
		}
		for _, m := range code.FindAllStringSubmatch(cells[5], -1) {
			named++
			if !known[m[1]] {
				t.Errorf("FAILURES.md:%d: there is no test, story or scenario %q", n+1, m[1])
			}
		}
	}
	if named == 0 {
		t.Error("FAILURES.md names no test")
	}
}

// Every key of the configuration is explained in a manual page, and nothing else is.
func TestManualExplainsEveryKey(t *testing.T) {
	key := regexp.MustCompile(`(?m)^(?:#   |# )?([a-z_]+) =`)
	explained := regexp.MustCompile(`(?m)^\*\*([a-z_]+)\*\* =`)
	for reference, page := range map[string]string{
		"config/reference.toml":         "packaging/man/leasedog.toml.5.md",
		"config/arbiter.reference.toml": "packaging/man/leasedog-arbiter.8.md",
	} {
		have, want := map[string]bool{}, map[string]bool{}
		for _, m := range key.FindAllStringSubmatch(read(t, reference), -1) {
			want[m[1]] = true
		}
		for _, m := range explained.FindAllStringSubmatch(read(t, page), -1) {
			have[m[1]] = true
			if !want[m[1]] {
				t.Errorf("%s explains %s, which is not in %s", page, m[1], reference)
			}
		}
		for k := range want {
			if !have[k] {
				t.Errorf("%s does not explain %s", page, k)
			}
		}
	}
}

// Every verb has its place in a manual page.
func TestManualNamesEveryVerb(t *testing.T) {
	use := regexp.MustCompile(`Use:\s+"([a-z-]+)`)
	for dir, page := range map[string]string{
		"cmd/leasedog/":         "packaging/man/leasedog.8.md",
		"cmd/leasedog-arbiter/": "packaging/man/leasedog-arbiter.8.md",
	} {
		text, verbs := read(t, page), 0
		sources(t, func(path, source string) {
			if !strings.HasPrefix(path, dir) || strings.HasSuffix(path, "_test.go") {
				return
			}
			for _, m := range use.FindAllStringSubmatch(source, -1) {
				if verbs++; !strings.Contains(text, "**"+m[1]+"**") && !strings.Contains(text, " "+m[1]+"**") &&
					!strings.HasPrefix(m[1], "leasedog") {
					t.Errorf("%s does not name the verb %s of %s", page, m[1], path)
				}
			}
		})
		if verbs == 0 {
			t.Errorf("%s has no verbs", dir)
		}
	}
}

// Every folder with code has its line in ARCHITECTURE.md.
func TestArchitectureNamesEveryFolder(t *testing.T) {
	text, missing := read(t, "ARCHITECTURE.md"), map[string]bool{}
	sources(t, func(path, _ string) {
		dir := filepath.ToSlash(filepath.Dir(path))
		if dir != "." && !strings.HasSuffix(path, "_test.go") && !strings.Contains(text, "\n"+dir+"/ ") {
			missing[dir] = true
		}
	})
	for dir := range missing {
		t.Errorf("ARCHITECTURE.md has no line for %s/", dir)
	}
}

// The targets that README.md names exist.
func TestReadmeNamesRealTargets(t *testing.T) {
	makefile := read(t, "Makefile")
	for _, m := range regexp.MustCompile("`(?:sudo )?make ([a-z-]+)").FindAllStringSubmatch(read(t, "README.md"), -1) {
		if !strings.Contains(makefile, "\n"+m[1]+":") {
			t.Errorf("README.md names make %s, which the Makefile has not", m[1])
		}
	}
}
