package lab

import (
	"os"
	"strings"
	"testing"
)

// The guide that is there can be played, with either shell, and shows what every block with a transcript says.
func TestGuideCanBePlayed(t *testing.T) {
	text, err := os.ReadFile("../../" + guidePath)
	if err != nil {
		t.Fatal(err)
	}
	blocks, err := parseGuide(string(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, shell := range []string{"pcs", "crmsh"} {
		all := map[string]string{}
		for _, b := range blocks {
			if !b.byHand && (b.shell == "" || b.shell == shell) {
				all[b.section] += b.commands + "\n"
			}
		}
		for section, commands := range map[string][]string{
			guideSetUp: {"leasedog-arbiter pki init", "leasedog-arbiter pki code erp node1", "leasedog-arbiter pki code erp node2", "leasedog init --arbiter",
				"systemctl enable --now leasedog\n", "--format " + shell + " >rules"},
			guideTry: {"leasedog switchover app --to node2"},
		} {
			for _, c := range commands {
				if !strings.Contains(all[section], c) {
					t.Errorf("%s: %q is not run below %q", shell, c, section)
				}
			}
		}
	}
	shown := 0
	for _, b := range blocks {
		if b.said != [2]int{} {
			shown++
			if strings.TrimSpace(b.transcript) == "" || strings.Contains(b.transcript, "to be written") || b.byHand {
				t.Errorf("the transcript of %q was not taken from a run", b.commands)
			}
		}
	}
	if shown < 6 {
		t.Errorf("%d transcripts", shown)
	}
}

func TestParseGuide(t *testing.T) {
	blocks, err := parseGuide("## A\n\n```sh node1 node2 pcs\na\nb\n```\n\n```text\nsays\n```\ntalk\n```toml\nx = 1\n```\n## B\n```sh arbiter by-hand\nc\n```")
	if err != nil || len(blocks) != 2 {
		t.Fatalf("%+v %v", blocks, err)
	}
	if b := blocks[0]; b.section != "## A" || strings.Join(b.hosts, " ") != "node1 node2" || b.shell != "pcs" || b.byHand || b.commands != "a\nb" || b.transcript != "says" ||
		b.said != [2]int{8, 9} {
		t.Errorf("%+v", b)
	}
	if b := blocks[1]; b.section != "## B" || !b.byHand || b.said != [2]int{} {
		t.Errorf("%+v", b)
	}
	for _, bad := range []string{"```sh\na\n```", "```\na\n```", "```sh node3\na\n```", "```sh node1\na", "```text\na\n```", "```sh node1\na\n```\nword\n```text\nb\n```",
		"```bash node1\na\n```"} {
		if blocks, err := parseGuide(bad); err == nil {
			t.Errorf("%q was taken for %+v", bad, blocks)
		}
	}
}

func TestSameShape(t *testing.T) {
	for _, same := range [][2]string{
		{"hold 27s, 1.5 s left", "hold 8.75s,  0.25 s left"}, {"after 1m0.5s", "after 240ms"}, {"epoch 1\n", "epoch 12"},
		{"digest 0123456789abcdef0123", "digest fedcba98765432100000"},
	} {
		if sameShape(same[0]) != sameShape(same[1]) {
			t.Errorf("%q is not %q", sameShape(same[0]), sameShape(same[1]))
		}
	}
	for _, other := range [][2]string{{"held", "standby"}, {"node1 holds", "nodes hold"}, {"1 alarm", "no alarm"}} {
		if sameShape(other[0]) == sameShape(other[1]) {
			t.Errorf("%q is taken for %q", other[0], other[1])
		}
	}
}

// Where node2 runs the group, it plays node1's part.
func TestGuideInTheOtherPart(t *testing.T) {
	g := &guidePlay{Run: &Run{Holder: Node2}, code: "abc-def"}
	if got := g.inLab("leasedog init --arbiter https://a --code CODE; leasedog switchover app --to node2; echo node1"); got !=
		"leasedog init --watchdog systemd --arbiter https://a --code abc-def; leasedog switchover app --to node1; echo node2" {
		t.Error(got)
	}
	if got := codeIn("on node1, within 15m0s: leasedog join\nABC-DEF\n"); got != "ABC-DEF" {
		t.Error(got)
	}
}

// A transcript that says something else than the command is a failure, or is replaced, and nothing else is.
func TestGuideCompares(t *testing.T) {
	const doc = "## A\n```sh node1\na\n```\n```text\nheld for 2s\n```\nmore"
	blocks, err := parseGuide(doc)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		says  string
		suite string
		write bool
		fails int
		want  string
	}{
		{"held for 9s\n", guideSuite, false, 0, doc}, {"lost 9s ago\n", guideSuite, false, 1, doc},
		{"held for 9s\n", guideSuite, true, 0, doc}, {"lost 9s ago\n", "trixie", false, 0, doc},
		{"lost\n 9s ago\n\n", guideSuite, true, 0, "## A\n```sh node1\na\n```\n```text\nlost\n 9s ago\n```\nmore"},
	} {
		r := &Run{Config: Config{Suite: tc.suite}, Holder: Node1, say: func(string) {}}
		g := &guidePlay{Run: r, write: tc.write, text: strings.Split(doc, "\n")}
		g.compare(blocks[0], Node1, tc.says)
		if len(g.problems) != tc.fails || g.whole() != tc.want {
			t.Errorf("%q: %q, the guide is then %q", tc.says, g.problems, g.whole())
		}
	}
}
