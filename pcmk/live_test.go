package pcmk_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/leasedog/leasedog/command"
	"github.com/leasedog/leasedog/pcmk"
)

// TestLive runs every question against the cluster of the machine it runs on. It changes that cluster: it is for nodes of
// the lab, which have a group g1, a primitive p1 and a promotable clone ms1.
func TestLive(t *testing.T) {
	if os.Getenv("LEASEDOG_PCMK_LIVE") != "1" {
		t.Skip("needs a lab node: set LEASEDOG_PCMK_LIVE=1 there")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	tools, err := pcmk.FindTools()
	must(t, err)
	c := pcmk.New(command.Exec{}, tools, pcmk.Options{})
	node, err := c.LocalNode(ctx)
	must(t, err)
	version, err := c.Version(ctx)
	must(t, err)
	st, err := c.Status(ctx)
	must(t, err)
	if n, ok := st.Node(node); !ok || n.Online != pcmk.Yes {
		t.Fatalf("node %s is not online: %+v", node, n)
	}
	plan, err := c.Plan(ctx, node, []string{"g1", "p1", "ms1"})
	must(t, err)
	t.Logf("%s on %s: %+v", version, node, plan)
	liveAttribute(ctx, t, c, node)
	for deadline := time.Now().Add(time.Minute); ; {
		dc, err := c.DCState(ctx)
		must(t, err)
		if dc.Activity == pcmk.Idle {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the DC never was idle: %+v", dc)
		}
	}
	pending, err := c.Pending(ctx, node)
	must(t, err)
	t.Logf("pending: %v", pending)
	for _, p := range plan.Primitives() {
		if p.Class == "systemd" {
			continue
		}
		direct, err := c.RunAgent(ctx, plan, p, pcmk.Monitor)
		must(t, err)
		t.Logf("%s: %v", p.ID, direct.Condition)
		if p.Class == "lsb" {
			continue
		}
		forced, err := c.Force(ctx, p, pcmk.Monitor)
		must(t, err)
		if direct.Condition != forced.Condition || direct.Condition == pcmk.ConditionUnknown {
			t.Errorf("%s: the agent says %v (%s), crm_resource %v", p.ID, direct.Condition, direct.Message, forced.Condition)
		}
	}
	daemons, err := pcmk.Daemons(pcmk.DefaultProc)
	must(t, err)
	if len(daemons) != 7 {
		t.Errorf("daemons %v, want seven", daemons)
	}
	agents, err := pcmk.AgentProcesses(pcmk.DefaultProc, plan.Primitives())
	must(t, err)
	t.Logf("agents: %+v", agents)
	rules := plan.Rules("live")
	must(t, c.ApplyRules(ctx, version, rules))
	must(t, c.ApplyRules(ctx, version, rules))
	for st, err = c.Status(ctx); err == nil; st, err = c.Status(ctx) {
		closed := true
		for _, g := range st.EffectiveBans(rules, node) {
			closed = closed && g.Closed
		}
		if closed || ctx.Err() != nil {
			break
		}
	}
	must(t, err)
	removed, err := c.RemoveRules(ctx, "live")
	must(t, err)
	if len(removed) != len(rules) {
		t.Errorf("removed %v", removed)
	}
	cib, err := c.CIB(ctx)
	must(t, err)
	for _, o := range cib.OptionChanges() {
		t.Logf("%s: %v -> %s needed %v", o.Name, o.Before, o.After, o.Needed())
		must(t, c.SetOption(ctx, o.Name, o.After))
	}
}

func liveAttribute(ctx context.Context, t *testing.T, c *pcmk.Cluster, node string) {
	t.Helper()
	const name = "leasedog-live"
	await := func(want pcmk.Attribute) {
		t.Helper()
		for { // until ctx ends
			a, err := c.ReadAttribute(ctx, node, name)
			must(t, err)
			if a == want {
				return
			}
		}
	}
	must(t, c.PutAttribute(ctx, name, "42"))
	await(pcmk.Attribute{State: pcmk.Present, Value: "42"})
	must(t, c.DeleteAttribute(ctx, name))
	await(pcmk.Attribute{State: pcmk.Absent})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
