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

// knownTests are the Go tests, the stories below lease/testdata, and the rows of the laboratory and of the emulated machine.
func knownTests(t *testing.T) map[string]bool {
	t.Helper()
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
	return known
}

// Every test that FAILURES.md and SECURITY.md name in the last cell of a row exists.
func TestPagesNameRealTests(t *testing.T) {
	known := knownTests(t)
	code := regexp.MustCompile("`([^`]+)`")
	for _, page := range []struct {
		file, first string // the first cell of the tables' heads
		cells, rows int    // of each row; at least so many rows
	}{{"docs/FAILURES.md", "failure", 5, 100}, {"docs/SECURITY.md", "threat", 4, 13}} {
		rows := 0
		for n, line := range strings.Split(read(t, page.file), "\n") {
			if !strings.HasPrefix(line, "|") {
				continue
			}
			cells := strings.Split(line, "|")
			if len(cells) != page.cells+2 {
				t.Errorf("%s:%d: %d cells, want %d", page.file, n+1, len(cells)-2, page.cells)
				continue
			}
			if strings.HasPrefix(cells[1], "---") || strings.TrimSpace(cells[1]) == page.first {
				continue
			}
			rows++
			named := code.FindAllStringSubmatch(cells[page.cells], -1)
			if len(named) == 0 && !strings.Contains(cells[page.cells], "—") {
				t.Errorf("%s:%d: no test, and no —", page.file, n+1)
			}
			for _, m := range named {
				if !known[m[1]] {
					t.Errorf("%s:%d: there is no test, story or scenario %q", page.file, n+1, m[1])
				}
			}
		}
		if rows < page.rows {
			t.Errorf("%s has %d rows, want %d at least", page.file, rows, page.rows)
		}
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
