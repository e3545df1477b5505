package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// guideScenarios run docs/GUIDE.md from its text on a pair that has never seen leasedog.
func guideScenarios() []Scenario {
	bare := Config{Stack: StackBare, Token: time.Second}
	var rows []Scenario
	for _, shell := range []string{"pcs", "crmsh"} {
		rows = append(rows, Scenario{Name: "guide-" + shell, Config: bare, Bound: guideBound(),
			About: "docs/GUIDE.md from its text, with " + shell + ": from bare nodes to a protected group, the holder is cut off, and out again",
			Run:   func(ctx context.Context, r *Run) error { return playGuide(ctx, r, shell) }})
	}
	return rows
}

// guideBound is the hold of profile standard, which init names where Pacemaker remembers no stops, and what the cut adds.
func guideBound() time.Duration { return budgetOf("standard").hold + 2500*time.Millisecond }

// block is a fenced block of the guide: its words (arbiter, nodes, node1; pcs or crmsh; until), its lines, and what it is to say.
type block struct {
	words, lines, says []string
}

// guideBlocks reads the blocks of commands that one shell's reader would type.
func guideBlocks(text, shell string) (blocks []block, err error) {
	var open *block
	lang, skip := "", false
	for n, line := range strings.Split(text, "\n") {
		fence, isFence := strings.CutPrefix(line, "```")
		words := strings.Fields(fence)
		switch {
		case !isFence && lang == "text" && !skip:
			open.says = append(open.says, line)
		case !isFence && lang == "sh" && !skip:
			open.lines = append(open.lines, line)
		case !isFence:
		case lang != "":
			lang = ""
		case len(words) == 0 || words[0] != "sh" && words[0] != "text" || words[0] == "text" && open == nil:
			return nil, fmt.Errorf("line %d: a block is sh and where it is typed, or text below one", n+1)
		case words[0] == "text":
			lang = "text"
		default:
			lang = "sh"
			other := map[string]string{"pcs": "crmsh", "crmsh": "pcs"}[shell]
			if skip = slices.Contains(words, other); !skip {
				blocks = append(blocks, block{words: words[1:]})
				open = &blocks[len(blocks)-1]
			}
		}
	}
	if lang != "" || len(blocks) == 0 {
		return nil, errors.New("a block has no end, or there is none")
	}
	return blocks, nil
}

// guide is one reading of it.
type guide struct {
	*Run
	codes map[string]string
}

// at puts the lab's names where the guide has its own. Containers have no kernel watchdog.
func (g *guide) at(host, line string) string {
	return strings.NewReplacer("10.0.9.1:7443", arbiterPort, "pg=g-pg", leaseName+"=g-app", "-pg-g-pg", "-"+leaseName+"-g-app", "leasedog-pg", "leasedog-"+leaseName,
		"g-pg", "g-app", "CODE", g.codes[host]+" --watchdog systemd").Replace(line)
}

// codeOf returns the node for which a line asks for a code.
func codeOf(line string) (node string, ok bool) {
	words := strings.Fields(line)
	if len(words) == 5 && words[1] == "pki" && words[2] == "code" {
		return words[4], true
	}
	return "", false
}

func (g *guide) run(ctx context.Context, b block) error {
	hosts := []string{b.words[0]}
	if b.words[0] == "nodes" {
		hosts = Nodes()
	}
	for _, host := range hosts {
		out, err := g.typeAt(ctx, host, b)
		if err != nil {
			return err
		}
		for _, want := range b.says {
			if !strings.Contains(out, g.at(host, want)) {
				g.Fail("the guide shows %q; it says: %s", g.at(host, want), out)
			}
		}
	}
	return nil
}

// typeAt types the lines of a block on a host, with "until" again and again until all have exit code 0.
func (g *guide) typeAt(ctx context.Context, host string, b block) (all string, err error) {
	for _, line := range b.lines {
		cmd := g.at(host, line)
		var out string
		again := func() error {
			out, err = g.Exec(ctx, host, "/bin/sh", "-ec", "cd /root; "+cmd)
			return err
		}
		g.Event("%s# %s", host, line)
		if slices.Contains(b.words, "until") {
			err = waitFor(ctx, cmd, time.Minute, again)
		} else {
			err = again()
		}
		if err != nil {
			return all, err
		}
		if node, ok := codeOf(line); ok {
			g.codes[node] = strings.TrimSpace(out)
		}
		all += out
	}
	return all, nil
}

// bringPackages builds them and puts them where a reader has downloaded them to.
func (r *Run) bringPackages(ctx context.Context) error {
	root, err := r.Rootfs(ctx, r.Config.Suite)
	if err != nil {
		return err
	}
	if _, err := r.install(ctx, root, ""); err != nil {
		return err
	}
	if _, _, err := r.ship(ctx); err != nil {
		return err
	}
	for host, pkg := range map[string]string{Arbiter: "leasedog-arbiter", Node1: "leasedog", Node2: "leasedog"} {
		if err := r.on(ctx, host, "cp", "/shared/debs/"+pkg+".deb", "/root/"+pkg+"_0_amd64.deb"); err != nil {
			return err
		}
	}
	return nil
}

func playGuide(ctx context.Context, r *Run, shell string) error {
	// Whatever comes of it, the next row gets a fresh pair.
	defer func() { _ = r.update(func(s *State) { s.Ready = false }) }()
	text, err := os.ReadFile(filepath.Join(r.Repo, "docs", "GUIDE.md"))
	if err != nil {
		return err
	}
	blocks, err := guideBlocks(string(text), shell)
	if err != nil {
		return fmt.Errorf("docs/GUIDE.md: %w", err)
	}
	if err := r.bringPackages(ctx); err != nil {
		return err
	}
	g := &guide{Run: r, codes: map[string]string{}}
	start := Now()
	for i, b := range blocks {
		if strings.Contains(b.lines[0], "--remove") { // the last section
			if err := g.cutOffHolder(ctx); err != nil {
				return err
			}
		}
		if err := g.run(ctx, b); err != nil {
			return err
		}
		if strings.Contains(b.lines[0], "--apply") {
			r.Event("protected after %.0f s, block %d of %d", Now().Sub(start).Seconds(), i+1, len(blocks))
		}
	}
	r.expectNoReset()
	return nil
}

// cutOffHolder: the group that the guide protects is cut off, and the other node takes over.
func (g *guide) cutOffHolder(ctx context.Context) error {
	holder := ""
	err := waitFor(ctx, "one node to run the group", time.Minute, func() error {
		for _, node := range Nodes() {
			if l, _, err := g.Status(ctx, node); err == nil && l.State == "held" {
				holder = node
			}
		}
		if holder == "" {
			return errors.New("nobody holds the lease")
		}
		return g.runsNow(ctx, holder)
	})
	if err != nil {
		return err
	}
	g.Holder = holder
	if err := g.outlastGuard(ctx); err != nil {
		return err
	}
	if err := g.CutOff(ctx, holder); err != nil {
		return err
	}
	g.expectTakeoverWithin(ctx, guideBound()+time.Second)
	if err := g.step("heal", func() error { return g.Heal(ctx) }); err != nil {
		return err
	}
	return waitFor(ctx, "the pair to form again", joinLimit, func() error { return g.together(ctx) })
}
