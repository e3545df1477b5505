//go:build mutants

package sim

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Each mistake must be caught within so many seeds; fewer are for whoever looks for a hole.
var mutantSeeds = flag.Uint64("sim.mutant-seeds", 20_000, "TestMutation: within how many seeds each mistake must be caught")

var rewrite = flag.Bool("rewrite", false, "write what TestMutation finds into docs/VERIFICATION.md")

// TestMutation makes one known mistake after the other in package lease, by replacing text at compile time (go build
// -overlay; the sources are not touched), and plays worlds until an invariant is broken. A mistake that survives is a hole in
// the simulator.
func TestMutation(t *testing.T) {
	all := append(nodeMistakes(), arbiterMistakes()...)
	for _, m := range all {
		t.Run(strings.ReplaceAll(m.name, " ", "_"), func(t *testing.T) {
			out := m.play(t)
			if m := regexp.MustCompile(`CAUGHT (\d+) (\S+): (.*)`).FindStringSubmatch(out); m != nil {
				t.Logf("seed %s: %s: %s", m[1], m[2], m[3])
			}
			found := regexp.MustCompile(`CAUGHT (\d+) (\w+):`).FindStringSubmatch(out)
			if found == nil {
				t.Fatalf("%s: not caught:\n%s", m.name, out)
			}
			if *rewrite {
				writeRow(t, all, m.name, fmt.Sprintf("| %s | %s | %s | %s |\n", m.name, m.preset, found[2], found[1]))
			}
		})
	}
}

func (m mistake) play(t *testing.T) string {
	dir := t.TempDir()
	sources, err := filepath.Abs("../lease")
	if err != nil {
		t.Fatal(err)
	}
	replace, texts := map[string]string{}, map[string]string{}
	for _, e := range m.edits {
		path := filepath.Join(sources, e.file)
		if texts[path] == "" {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			texts[path] = string(b)
		}
		if n := strings.Count(texts[path], e.old); n != 1 {
			t.Fatalf("%s: %d matches of %q in %s: the code has changed, and the mistake has to follow it", m.name, n, e.old, e.file)
		}
		texts[path] = strings.Replace(texts[path], e.old, e.new, 1)
		replace[path] = filepath.Join(dir, e.file)
	}
	for path, to := range replace {
		if err := os.WriteFile(to, []byte(texts[path]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o644); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "sim.test")
	if out, err := exec.Command("go", "test", "-c", "-vet=off", "-ldflags=-s -w", "-overlay", filepath.Join(dir, "overlay.json"), "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("%s: it does not compile: %v\n%s", m.name, err, out)
	}
	out, err := exec.Command(binary, "-test.run", "^TestFirstViolation$", "-test.v", "-test.timeout", "20m",
		"-sim.preset", m.preset, "-sim.seeds", fmt.Sprint(*mutantSeeds)).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", m.name, err, out)
	}
	return string(out)
}

// writeRow replaces one row of the table, which has a row for each mistake that was ever played, in the order of the list.
func writeRow(t *testing.T, all []mistake, name, row string) {
	const begin, end = "<!-- mutations: make mutants writes this -->\n", "<!-- end of mutations -->"
	path := "../docs/VERIFICATION.md"
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(b), begin)
	old, after, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no place for the table", path)
	}
	rows := map[string]string{}
	for _, line := range strings.SplitAfter(old, "\n") {
		if cells := strings.Split(line, " | "); len(cells) == 4 {
			rows[strings.TrimPrefix(cells[0], "| ")] = line
		}
	}
	rows[name] = row
	table := "| mistake | worlds | caught by | seeds |\n|---|---|---|---|\n"
	for _, m := range all {
		table += rows[m.name]
	}
	if err := os.WriteFile(path, []byte(before+begin+table+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
