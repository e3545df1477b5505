package lease

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var rewrite = flag.Bool("rewrite", false, "write what the scenarios print into their files; then read the diff")

// scenarioCase is one command of a scenario file: comments and the command line, "----", what it prints, an empty
// line.
type scenarioCase struct {
	comments string
	command  string
	want     string
}

// runScenarios runs every file that matches glob. start returns, for a new file, what a command prints. The whole
// output is compared; with -rewrite it is written instead.
func runScenarios(t *testing.T, glob string, start func(t *testing.T) func(command string) string) {
	t.Helper()
	files, err := filepath.Glob(glob)
	if err != nil || len(files) == 0 {
		t.Fatalf("find scenarios %q: %d files, %v", glob, len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			src, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			run := start(t)
			cases := parseScenario(t, string(src))
			var out bytes.Buffer
			for i := range cases {
				c := &cases[i]
				got := run(c.command)
				if !*rewrite && got != c.want {
					t.Errorf("%s\n(-want +got)\n%s", c.command, cmp.Diff(c.want, got))
				}
				out.WriteString(c.comments + c.command + "\n----\n" + got + "\n")
			}
			if *rewrite && !bytes.Equal(out.Bytes(), src) {
				if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func parseScenario(t *testing.T, src string) []scenarioCase {
	t.Helper()
	var out []scenarioCase
	var c scenarioCase
	const (
		inComments = iota
		inSeparator
		inOutput
	)
	state := inComments
	end := func() {
		if state == inOutput {
			out = append(out, c)
		}
		c, state = scenarioCase{}, inComments
	}
	for _, line := range strings.Split(strings.TrimRight(src, "\n"), "\n") {
		if state == inSeparator && line != "----" { // no output yet: -rewrite fills it in
			state = inOutput
			end()
		}
		switch {
		case state == inOutput && line == "":
			end()
		case state == inOutput:
			c.want += line + "\n"
		case state == inSeparator:
			state = inOutput
		case line == "" || strings.HasPrefix(line, "#"):
			c.comments += line + "\n"
		default:
			c.command, state = line, inSeparator
		}
	}
	if state == inSeparator {
		state = inOutput
	}
	end()
	return out
}

// scenarioT is what a world needs of a test: testing.T and rapid.T have it.
type scenarioT interface {
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}
