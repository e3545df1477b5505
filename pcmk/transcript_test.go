package pcmk_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/leasedog/leasedog/pcmk"
)

// said is one answer of a real tool.
type said struct {
	stdout string
	code   int
}

// transcript is what the tools of a version said on a node of the lab, by command, in order: testdata/capture.sh wrote it.
func transcript(t *testing.T, version string) map[string][]said {
	t.Helper()
	all := map[string][]said{}
	var command, out string
	for line := range strings.Lines(capture(t, version, "tools.txt")) {
		switch {
		case strings.HasPrefix(line, "$ "):
			command, out = strings.TrimSpace(line[2:]), ""
		case strings.HasPrefix(line, "! "):
		case strings.HasPrefix(line, "= "):
			code, err := strconv.Atoi(strings.TrimSpace(line[2:]))
			if err != nil {
				t.Fatalf("%s: %v", command, err)
			}
			all[command] = append(all[command], said{out, code})
		default:
			out += line
		}
	}
	return all
}

// replays answers each call with what was said to it the nth time, counted from 0, or the last time.
func replays(t *testing.T, all map[string][]said, which int) *fake {
	t.Helper()
	return &fake{answer: func(call string) (string, int) {
		if cut, _, ok := strings.Cut(call, " --timeout "); ok { // it is what is left of the deadline
			call = cut + " --timeout 5s"
		}
		if len(all[call]) == 0 {
			t.Fatalf("nothing was said to %q", call)
		}
		a := all[call][min(which, len(all[call])-1)]
		return a.stdout, a.code
	}}
}

// TestTranscript has every question answered by what the tools of each version really said.
func TestTranscript(t *testing.T) {
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			all := transcript(t, version)
			c, ctx := cluster(replays(t, all, 0)), within(t)
			if v, err := c.Version(ctx); v != version || err != nil {
				t.Errorf("version %q, %v", v, err)
			}
			if n, err := c.LocalNode(ctx); n != "node1" || err != nil {
				t.Errorf("local node %q, %v", n, err)
			}
			if dc, err := c.DCState(ctx); dc.Activity != pcmk.Idle || err != nil {
				t.Errorf("DC %+v, %v", dc, err)
			}
			transcriptOfChecks(t, version, c)
			must(t, c.PutAttribute(ctx, "sample", "42"))
			if a, err := c.ReadAttribute(ctx, "node1", "sample"); a != (pcmk.Attribute{State: pcmk.Present, Value: "42"}) || err != nil {
				t.Errorf("after the put: %+v, %v", a, err)
			}
			must(t, c.DeleteAttribute(ctx, "sample"))
			later := cluster(replays(t, all, 1))
			if a, err := later.ReadAttribute(ctx, "node1", "sample"); a != (pcmk.Attribute{State: pcmk.Absent}) || err != nil {
				t.Errorf("after the delete: %+v, %v", a, err)
			}
			if a, err := c.ReadAttribute(ctx, "nosuch", "sample"); err == nil {
				t.Errorf("of a node that does not exist: %+v", a)
			}
			for call, a := range all { // the two codes that ApplyRules and RemoveRules tell from a failure
				if strings.HasPrefix(call, "cibadmin --create") && (a[0].code != 0 || a[1].code != 108) ||
					strings.HasPrefix(call, "cibadmin --delete") && (a[0].code != 0 || a[1].code != 0 && a[1].code != 105) {
					t.Errorf("%s: %d, then %d", call, a[0].code, a[1].code)
				}
			}
			transcriptOfDown(t, later)
			// Before 3.0 the tool waits for a DC, and what ended it is a deadline: nothing is known.
			dc, err := cluster(replays(t, all, 2)).DCState(ctx)
			if version == "3.0.0" && (dc != pcmk.DC{Activity: pcmk.Electing} || err != nil) || version != "3.0.0" && err == nil {
				t.Errorf("without a DC: %+v, %v", dc, err)
			}
		})
	}
}

// transcriptOfChecks compares what crm_resource said of resources of each kind, all of which ran.
func transcriptOfChecks(t *testing.T, version string, c *pcmk.Cluster) {
	t.Helper()
	for _, p := range []struct {
		pcmk.Primitive
		want pcmk.Condition
	}{
		{pcmk.Primitive{ID: "canary", Class: "ocf"}, pcmk.Running},
		{pcmk.Primitive{ID: "vip", Class: "ocf"}, pcmk.Running},
		{pcmk.Primitive{ID: "g-app"}, pcmk.ConditionUnknown},
		{pcmk.Primitive{ID: "nosuch", Class: "ocf"}, pcmk.ConditionUnknown},
	} {
		a, err := c.Force(within(t), p.Primitive, pcmk.Monitor)
		if a.Condition != p.want || (err == nil) != (p.want != pcmk.ConditionUnknown) {
			t.Errorf("%s: %v, %v", p.ID, a.Condition, err)
		}
	}
	// 2.0 runs it, later ones refuse.
	a, err := c.Force(within(t), pcmk.Primitive{ID: "slow", Class: "systemd"}, pcmk.Monitor)
	if version == "2.0.5" && (a.Condition != pcmk.Running || err != nil) || version != "2.0.5" && err == nil {
		t.Errorf("class systemd: %v, %v", a.Condition, err)
	}
	if a, err := c.Force(within(t), pcmk.Primitive{ID: "nosuch", Class: "ocf"}, pcmk.Stop); err == nil {
		t.Errorf("the stop of what does not exist: %+v", a)
	}
}

// transcriptOfDown asks everything of a node on which Pacemaker does not run.
func transcriptOfDown(t *testing.T, c *pcmk.Cluster) {
	t.Helper()
	ctx := within(t)
	_, nodeErr := c.LocalNode(ctx)
	_, dcErr := c.DCState(ctx)
	_, cibErr := c.CIB(ctx)
	_, checkErr := c.Force(ctx, pcmk.Primitive{ID: "canary", Class: "ocf"}, pcmk.Monitor)
	for name, err := range map[string]error{"crm_node": nodeErr, "crmadmin": dcErr, "cibadmin": cibErr, "crm_resource": checkErr,
		"attrd_updater": c.PutAttribute(ctx, "sample", "42")} {
		if !pcmk.IsDown(err) {
			t.Errorf("%s without Pacemaker: %v", name, err)
		}
	}
}
