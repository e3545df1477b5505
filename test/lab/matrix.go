package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"
)

// Suites are the Debian releases whose Pacemaker and systemd leasedog supports, the oldest first.
func Suites() []string { return []string{"bullseye", "bookworm", "trixie"} }

// A SuiteResult is one column of the matrix: what the rows did on one release.
type SuiteResult struct {
	Suite string `json:"suite"`
	// Versions are those of the programs that the release brings along, "" if it was not run.
	Versions string `json:"versions,omitempty"`
	// NotRun is why nothing was played on it, "" if it was.
	NotRun  string   `json:"not_run,omitempty"`
	Results []Result `json:"results"`
}

// Passed says whether every row that was played passed on every release, and at least one was played.
func Passed(suites []SuiteResult) bool {
	played := 0
	for _, s := range suites {
		for _, r := range s.Results {
			if !r.Pass {
				return false
			}
			played++
		}
	}
	return played > 0
}

// WriteMatrix prints one line a row and one column a release, what failed, and how much was not run.
func WriteMatrix(out io.Writer, rows []Scenario, suites []SuiteResult) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "scenario\tallowed s\t")
	for _, s := range suites {
		fmt.Fprint(w, s.Suite, "\t")
	}
	fmt.Fprintln(w)
	count := map[string]int{}
	for _, row := range rows {
		bound := "overlap"
		if !row.Control {
			bound = fmt.Sprintf("%.2f", row.Bound.Seconds())
		}
		fmt.Fprintf(w, "%s\t%s\t", row.Name, bound)
		for _, s := range suites {
			word, text := s.cell(row.Name)
			count[word]++
			fmt.Fprint(w, text, "\t")
		}
		fmt.Fprintln(w)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, s := range suites {
		what := s.Versions
		if s.NotRun != "" {
			what = "not run: " + s.NotRun
		}
		fmt.Fprintf(out, "%s: %s\n", s.Suite, what)
		for _, r := range s.Results {
			if !r.Pass {
				for _, line := range r.Evidence {
					fmt.Fprintf(out, "%s %s: %s\n", s.Suite, r.Name, line)
				}
			}
		}
	}
	_, err := fmt.Fprintf(out, "%d ok, %d FAILED, %d not run\n", count["ok"], count["FAILED"], count["not run"])
	return err
}

// cell is what stands in the table for one row: the verdict, and with it what was measured.
func (s SuiteResult) cell(row string) (word, text string) {
	for _, r := range s.Results {
		if r.Name != row {
			continue
		}
		word = "ok"
		if !r.Pass {
			word = "FAILED"
		}
		measured := r.Gap
		if r.Control || r.Overlap > 0 {
			measured = r.Overlap
		}
		text = fmt.Sprintf("%s %.2f", word, measured)
		if r.Overlap > 0 && !r.Control {
			text += " overlap"
		}
		return word, text
	}
	return "not run", "not run"
}

// PlaySuite plays rows on one release. What this machine's sources do not offer is not run, which is no failure.
func PlaySuite(ctx context.Context, clusters []*Cluster, rows []Scenario, suite string, n int, seed uint64,
	say func(*Cluster, string)) (SuiteResult, error) {
	res := SuiteResult{Suite: suite, Results: []Result{}}
	root, err := clusters[0].Offered(ctx, suite)
	if errors.Is(err, ErrNotOffered) {
		res.NotRun = err.Error()
		say(clusters[0], suite+" is skipped: "+res.NotRun)
		return res, nil
	}
	if err != nil {
		return res, err
	}
	if res.Versions, err = versionsIn(root); err != nil {
		return res, err
	}
	say(clusters[0], suite+": "+res.Versions)
	res.Results = PlayAll(ctx, clusters, rows, suite, n, seed, say)
	return res, ctx.Err()
}

// ErrNotOffered says that there is no such release where this machine gets its packages.
var ErrNotOffered = errors.New("this machine's sources do not offer it")

// Offered is Rootfs for a suite that may not be to be had here: ErrNotOffered then.
func (c *Cluster) Offered(ctx context.Context, suite string) (string, error) {
	if err := c.offered(ctx, suite); err != nil {
		return "", err
	}
	return c.Rootfs(ctx, suite)
}

// offered is nil when the suite's root file system is there or can be built.
func (c *Cluster) offered(ctx context.Context, suite string) error {
	if err := c.Deps(ctx); err != nil {
		return err
	}
	if _, err := os.Stat(c.rootfsDir(suite)); err == nil {
		return nil
	}
	mirror, err := mirrorFor(ctx, suite)
	if err != nil || mirror == "" { // "": it is the machine's own release
		return err
	}
	dir, err := os.MkdirTemp("", "leasedog-lab-")
	if err != nil {
		return fmt.Errorf("look for %s: %w", suite, err)
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	// As apt would fetch it, with its proxies and passwords. The address stays out of what is said.
	url := strings.TrimSuffix(mirror, "/") + "/dists/" + suite + "/InRelease"
	if _, err := run(ctx, "/usr/lib/apt/apt-helper", "download-file", url, filepath.Join(dir, "InRelease")); err != nil {
		return fmt.Errorf("%w (or could not be reached: exit code %d)", ErrNotOffered, exitCode(err))
	}
	return nil
}

// versionsIn names the programs that differ between releases, as dpkg recorded them (deb822(5)).
func versionsIn(root string) (string, error) {
	f, err := os.Open(filepath.Join(root, "var/lib/dpkg/status"))
	if err != nil {
		return "", fmt.Errorf("read the versions: %w", err)
	}
	defer f.Close()
	found, name := map[string]string{}, ""
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), "Package: "); ok {
			name = value
		}
		if value, ok := strings.CutPrefix(lines.Text(), "Version: "); ok {
			found[name], _, _ = strings.Cut(value, "-")
		}
	}
	if err := lines.Err(); err != nil {
		return "", fmt.Errorf("read the versions: %w", err)
	}
	var out []string
	for _, pkg := range []string{"pacemaker", "corosync", "systemd"} {
		if found[pkg] == "" {
			return "", fmt.Errorf("read the versions: %s is not installed", pkg)
		}
		out = append(out, pkg+" "+found[pkg])
	}
	return strings.Join(out, ", "), nil
}
