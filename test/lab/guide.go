package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// guidePath is the document that the rows below read their commands from.
const guidePath = "docs/GUIDE.md"

// The sections of the guide that are played. What stands in others is not.
const (
	guideSetUp = "## Setting up"
	guideTry   = "## Trying it"
)

// writeGuide in the environment has a row put what it saw into the guide's transcripts, instead of comparing.
const writeGuide = "LEASEDOG_WRITE_GUIDE"

// protectedWithin is what the guide promises.
const protectedWithin = 10 * time.Minute

func guideScenarios() []Scenario {
	bare := Config{Stack: StackPlain, Profile: "standard", Token: time.Second, Bare: true}
	row := func(shell string) Scenario {
		return Scenario{Name: "guide-" + shell, Config: bare, Bound: takeoverBound(bare),
			About: "the commands of docs/GUIDE.md, from bare nodes to a protected group, with " + shell + "; the group runs all the time; then the holder is cut off",
			Run:   func(ctx context.Context, r *Run) error { return playGuide(ctx, r, shell) }}
	}
	return []Scenario{row("pcs"), row("crmsh")}
}

// A guideBlock is a block of commands in the guide: "```sh HOST… [pcs|crmsh] [by-hand]", and the "```text" after it, if there is
// one, which is what the commands say.
type guideBlock struct {
	section    string
	hosts      []string
	shell      string // pcs or crmsh; "": both
	byHand     bool   // nothing that a lab could do
	commands   string
	transcript string
	said       [2]int // the transcript's lines, from and up to; 0, 0 without one
}

// parseGuide finds the blocks. Whatever it does not understand is an error: a command that nobody tries is what it is there against.
func parseGuide(text string) ([]guideBlock, error) {
	var blocks []guideBlock
	section, lines := "", strings.Split(text, "\n")
	adjacent := false // the last fence that ended was one of commands
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		if strings.HasPrefix(line, "## ") {
			section = line
		}
		info, fence := strings.CutPrefix(line, "```")
		if !fence {
			adjacent = adjacent && strings.TrimSpace(line) == ""
			continue
		}
		from := i + 1
		for i++; i < len(lines) && lines[i] != "```"; i++ {
		}
		if i == len(lines) {
			return nil, fmt.Errorf("%s:%d: this block has no end", guidePath, from)
		}
		body := strings.Join(lines[from:i], "\n")
		words := strings.Fields(info)
		switch {
		case len(words) == 1 && words[0] == "text" && adjacent:
			last := &blocks[len(blocks)-1]
			last.transcript, last.said, adjacent = body, [2]int{from, i}, false
		case len(words) > 1 && words[0] == "sh":
			b := guideBlock{section: section, commands: body}
			for _, w := range words[1:] {
				switch {
				case slices.Contains(Hosts(), w):
					b.hosts = append(b.hosts, w)
				case w == "pcs" || w == "crmsh":
					b.shell = w
				case w == "by-hand":
					b.byHand = true
				default:
					return nil, fmt.Errorf("%s:%d: %q is no host, and neither pcs, crmsh nor by-hand", guidePath, from, w)
				}
			}
			blocks, adjacent = append(blocks, b), true
		case len(words) == 1 && words[0] == "toml":
			adjacent = false
		default:
			return nil, fmt.Errorf("%s:%d: a block is \"```sh HOST…\", \"```toml\", or \"```text\" right behind one of commands", guidePath, from)
		}
	}
	return blocks, nil
}

// layOut builds the packages and puts them where every host sees them.
func (c *Cluster) layOut(ctx context.Context, root string) error {
	if _, err := c.install(ctx, root, ""); err != nil {
		return err
	}
	debs, err := filepath.Glob(filepath.Join(c.productLink(), "debs", "*.deb"))
	if err != nil || len(debs) != 2 {
		return fmt.Errorf("find the packages: %v %w", debs, err)
	}
	for _, path := range debs {
		if err := copyFile(path, filepath.Join(c.Shared(), "packages", filepath.Base(path))); err != nil {
			return err
		}
	}
	return nil
}

// guidePlay is one reading of the guide.
type guidePlay struct {
	*Run
	shell string
	code  string // the last one that the arbiter printed
	write bool
	text  []string // the guide's lines, as they are to be
}

// swap exchanges the nodes' names where node2 runs the group: in the guide node1 does.
func (g *guidePlay) swap(text string) string {
	if g.Holder == Node1 {
		return text
	}
	return strings.NewReplacer(Node1, Node2, Node2, Node1).Replace(text)
}

// inLab makes of a command what can be run here: with the code that was printed, and without a kernel watchdog.
func (g *guidePlay) inLab(commands string) string {
	commands = strings.ReplaceAll(g.swap(commands), "CODE", g.code)
	return strings.ReplaceAll(commands, "leasedog init --arbiter", "leasedog init --watchdog systemd --arbiter")
}

// play runs the blocks of a section that are for this shell, each on its hosts.
func (g *guidePlay) play(ctx context.Context, blocks []guideBlock, section string) error {
	played := 0
	for _, b := range blocks {
		if b.section != section || b.byHand || b.shell != "" && b.shell != g.shell {
			continue
		}
		for _, host := range b.hosts {
			played++
			out, err := g.onHost(ctx, g.swap(host), g.inLab(b.commands))
			if err != nil {
				return fmt.Errorf("the guide, on %s: %s: %w", host, b.commands, err)
			}
			if strings.HasPrefix(b.commands, "leasedog-arbiter pki code") {
				g.code = codeIn(out)
			}
			g.compare(b, host, g.swap(out))
		}
	}
	if played == 0 {
		return fmt.Errorf("%s has no commands for %s below %q", guidePath, g.shell, section)
	}
	return nil
}

// guideBlockLimit is for a block that waits for something that does not come.
const guideBlockLimit = 3 * time.Minute

// codeIn is the one line that is a word: around it stands what to do with it.
func codeIn(out string) string {
	for line := range strings.Lines(out) {
		if line = strings.TrimSpace(line); line != "" && !strings.Contains(line, " ") {
			return line
		}
	}
	return ""
}

func (g *guidePlay) onHost(ctx context.Context, host, commands string) (string, error) {
	g.Event("%s: %s", host, strings.ReplaceAll(commands, "\n", "; "))
	ctx, cancel := context.WithTimeout(ctx, guideBlockLimit)
	defer cancel()
	script := "exec 2>&1; export DEBIAN_FRONTEND=noninteractive; cd /shared/packages\n" + commands
	out, err := g.Exec(ctx, host, "/bin/sh", "-ec", script)
	if err != nil {
		err = fmt.Errorf("%w: %s", err, tail(out))
	}
	return out, err
}

// sameShape replaces what differs from run to run: numbers with their units, and codes.
func sameShape(text string) string {
	text = regexp.MustCompile(`[0-9a-f]{16,}|[A-Za-z0-9_-]{40,}`).ReplaceAllString(text, "#")
	text = regexp.MustCompile(`(?:[0-9]+(?:\.[0-9]+)?(?:ns|µs|ms|[smhd]\b|[mh])?)+`).ReplaceAllString(text, "#")
	return strings.Join(strings.Fields(text), " ")
}

// guideSuite is the release whose output the guide shows.
const guideSuite = "bookworm"

// compare fails when the guide shows something else than what is said, but for numbers; or it takes that over. Other releases than
// the guide's say it in other words, of pcs and crmsh, and take the same commands.
func (g *guidePlay) compare(b guideBlock, host, out string) {
	if g.Run.Config.Suite != guideSuite || b.said == [2]int{} || host != b.hosts[len(b.hosts)-1] {
		return
	}
	if sameShape(b.transcript) == sameShape(out) {
		return
	}
	if !g.write {
		g.Fail("the guide shows %q for %q, and %s says %q (%s=1 takes it over)", b.transcript, b.commands, host, out, writeGuide)
		return
	}
	// The first line takes all of it and the others vanish, so that the numbers of later lines stay what they are.
	for i := b.said[0]; i < b.said[1]; i++ {
		g.text[i] = removedLine
	}
	said := strings.TrimRight(out, "\n ")
	if b.said[0] == b.said[1] { // nothing was there: before the fence
		g.text[b.said[0]] = said + "\n" + g.text[b.said[0]]
		return
	}
	g.text[b.said[0]] = said
}

// removedLine is none that a document could have.
const removedLine = "\x00"

// whole is the guide as it is to be.
func (g *guidePlay) whole() string {
	return strings.Join(slices.DeleteFunc(slices.Clone(g.text), func(l string) bool { return l == removedLine }), "\n")
}

func (g *guidePlay) save() error {
	if !g.write {
		return nil
	}
	if err := os.WriteFile(filepath.Join(g.Repo, guidePath), []byte(g.whole()), 0o644); err != nil {
		return fmt.Errorf("write the guide: %w", err)
	}
	return nil
}

func playGuide(ctx context.Context, r *Run, shell string) (err error) {
	text, err := os.ReadFile(filepath.Join(r.Repo, guidePath))
	if err != nil {
		return err
	}
	blocks, err := parseGuide(string(text))
	if err != nil {
		return err
	}
	// What is installed afterwards is no bare pair.
	defer func() { err = errors.Join(err, r.update(func(s *State) { s.Ready = false })) }()
	g := &guidePlay{Run: r, shell: shell, write: os.Getenv(writeGuide) != "", text: strings.Split(string(text), "\n")}
	defer func() { err = errors.Join(err, g.save()) }()
	begin := Now()
	if err := g.play(ctx, blocks, guideSetUp); err != nil {
		return err
	}
	took := Now().Sub(begin)
	r.Event("from bare nodes to a protected group: %.1f s", took.Seconds())
	if took > protectedWithin {
		r.Fail("the guide promises %v", protectedWithin)
	}
	if err := r.protected(ctx); err != nil {
		return err
	}
	r.expectStays()
	if err := g.play(ctx, blocks, guideTry); err != nil {
		return err
	}
	if err := r.runsNow(ctx, r.Holder); err != nil {
		return err
	}
	if err := waitFor(ctx, "the standby to wait for the lease", 30*time.Second, func() error { return r.leaseSettled(ctx, r.Holder) }); err != nil {
		return err
	}
	if err := r.CutOff(ctx, r.Holder); err != nil {
		return err
	}
	r.expectTakeover(ctx)
	r.expectNoReset()
	return nil
}

// protected fails unless the holder holds the lease with a guard, the standby waits, and every rule is in place.
func (r *Run) protected(ctx context.Context) error {
	err := waitFor(ctx, "the lease", 30*time.Second, func() error { return r.leaseSettled(ctx, r.Holder) })
	if err != nil {
		return err
	}
	if pid, err := r.guardPID(ctx, r.Holder); err != nil || pid == "0" {
		r.Fail("no guard runs on %s: %q %v", r.Holder, pid, err)
	}
	for _, node := range Nodes() {
		out, err := r.Exec(ctx, node, "leasedog", "constraints", "all", "--cluster-options", "--apply", "--dry-run")
		if err != nil || !strings.Contains(out, "nothing to do: every rule is in place") {
			r.Fail("not everything is in place: %s %v", out, err)
		}
	}
	return nil
}
