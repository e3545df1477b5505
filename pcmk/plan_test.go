package pcmk_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/leasedog/leasedog/pcmk"
)

func ids(ps []pcmk.Primitive) string {
	var all []string
	for _, p := range ps {
		all = append(all, p.ID)
	}
	return strings.Join(all, " ")
}

func TestPlanCaptured(t *testing.T) {
	for _, v := range versions {
		t.Run(v, func(t *testing.T) {
			f := says(map[string]string{"cibadmin --query --local": capture(t, v, "active.cib.xml")})
			plan, err := cluster(f).Plan(within(t), "node1", []string{"g1", "ms1", "c1", "p1"})
			if err != nil {
				t.Fatal(err)
			}
			// The order constraint puts ms1 before g1, which was named first.
			if got := ids(plan.Primitives()); got != "s1 r1 r2 u1 l1 d1 d2 p1" {
				t.Errorf("start order %q", got)
			}
			if plan.Node != "node1" || plan.FeatureSet == "" {
				t.Errorf("node %q, feature set %q", plan.Node, plan.FeatureSet)
			}
			g := map[string]pcmk.Primitive{}
			for _, p := range plan.Primitives() {
				g[p.ID] = p
			}
			want := pcmk.Primitive{ID: "r1", Class: "ocf", Provider: "pacemaker", Type: "Dummy",
				Agent: "/usr/lib/ocf/resource.d/pacemaker/Dummy", Guarded: "g1", Role: pcmk.RoleStarted,
				Params:   map[string]string{"fake": `own & "quoted"`, "op_sleep": "0"}, // own over the template's
				Meta:     map[string]string{"resource-stickiness": "10"},
				Timeouts: map[string]time.Duration{"start": 33 * time.Second, "monitor": 21 * time.Second, "stop": time.Minute}}
			if diff := cmp.Diff(want, g["r1"]); diff != "" {
				t.Errorf("r1 (-want +got):\n%s", diff)
			}
			if g["r1"].Timeout("demote") != pcmk.DefaultTimeout || g["r1"].Timeout("stop") != time.Minute {
				t.Errorf("timeouts %v %v", g["r1"].Timeout("demote"), g["r1"].Timeout("stop"))
			}
			if g["u1"].Unit != "pkunit.service" || g["u1"].Agent != "" {
				t.Errorf("u1 %+v", g["u1"])
			}
			if g["l1"].Class != "lsb" || filepath.Base(g["l1"].Agent) != "pklsb" {
				t.Errorf("l1 %+v", g["l1"])
			}
			// Among sets of equal score the last wins: what `crm_resource -g` said on each version.
			if g["p1"].Params["fake"] != "second" {
				t.Errorf("p1 %+v", g["p1"].Params)
			}
			s := g["s1"]
			if s.Role != pcmk.RolePromoted || !s.Clone || s.Meta["clone-max"] != "2" || s.Meta["notify"] != "true" ||
				s.Meta["promoted-max"] != "1" || s.Meta["master-max"] != "1" {
				t.Errorf("s1 %+v", s)
			}
			if g["d1"].Role != pcmk.RoleStarted || !g["d1"].Clone || g["d1"].ID != "d1" {
				t.Errorf("d1 %+v", g["d1"])
			}
		})
	}
}

// TestPlanNodeRule: parameters that depend on the node's name are those of the local node.
func TestPlanNodeRule(t *testing.T) {
	for node, want := range map[string]string{"node1": "on-node1", "node2": "elsewhere"} {
		plan, err := cluster(exits(1, "")).PlanFrom(cib(t, "2.1.5", "active"), node, []string{"g1"})
		if err != nil {
			t.Fatal(err)
		}
		if got := plan.Primitives()[1].Params["fake"]; got != want {
			t.Errorf("on %s: %q, want %q", node, got, want)
		}
	}
}

func TestPlanRefusesKinds(t *testing.T) {
	for _, v := range versions {
		for id, reason := range map[string]string{
			"cu": "globally unique", "fence1": "fencing device", "remote1": "remote node", "guest1": "remote node", "b1": "bundle",
			"nosuch": "does not exist", "r1": "name g1 instead", "inb1": "name b1 instead",
		} {
			_, err := cluster(exits(1, "")).PlanFrom(cib(t, v, "kinds"), "node1", []string{"g1", id})
			var refused *pcmk.RefusedError
			if !errors.As(err, &refused) || refused.Resource != id || !strings.Contains(err.Error(), reason) ||
				!strings.Contains(err.Error(), "resource "+id+" cannot be guarded") {
				t.Errorf("%s: %s: %v", v, id, err)
			}
		}
		if _, err := cluster(exits(1, "")).PlanFrom(cib(t, v, "kinds"), "node1", []string{"cu", "b1"}); err == nil ||
			!strings.Contains(err.Error(), "cu") || !strings.Contains(err.Error(), "b1") {
			t.Errorf("%s: not every reason at once: %v", v, err)
		}
	}
}

func config(t *testing.T, resources string) *pcmk.CIB {
	t.Helper()
	c, err := pcmk.ParseCIB([]byte(`<cib><configuration><crm_config/><nodes><node id="1"/><node id="2"/></nodes><resources>` +
		resources + `</resources><constraints/></configuration></cib>`))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestPlanRefusesConfigurations(t *testing.T) {
	prim := func(attrs, body string) string {
		return `<primitive id="x" class="ocf" provider="p" type="T" ` + attrs + `>` + body + `</primitive>`
	}
	rule := func(body string) string {
		return prim("", `<instance_attributes id="i"><rule id="ru">`+body+`</rule><nvpair name="a" value="b"/></instance_attributes>`)
	}
	tests := []struct{ name, xml, reason string }{
		{"empty group", `<group id="x"/>`, "is empty"},
		{"empty clone", `<clone id="x"><meta_attributes id="m"/></clone>`, "is empty"},
		{"template", `<template id="x" class="ocf"/>`, "not a resource"},
		{"missing template", `<primitive id="x" template="t"/>`, "does not exist"},
		{"secret", prim("", `<instance_attributes id="i"><nvpair name="password" value="lrm://"/></instance_attributes>`), "secret"},
		{"date rule", rule(`<date_expression operation="gt" start="2020-01-01"/>`), "rule (ru)"},
		{"attribute rule", rule(`<expression attribute="site" operation="eq" value="a"/>`), "rule (ru)"},
		{"empty rule", rule(``), "empty rule"},
		{"class", `<primitive id="x" class="upstart" type="a"/>`, `class "upstart"`},
		{"no class", `<primitive id="x"/>`, "cannot be used"},
		{"agent name", `<primitive id="x" class="lsb" type="../../bin/sh"/>`, "cannot be used"},
		{"provider", `<primitive id="x" class="ocf" type="a"/>`, "provider"},
		{"timeout", prim("", `<operations><op name="stop" timeout="soon"/></operations>`), "timeout of stop"},
		{"unique clone in doubt", `<clone id="x"><meta_attributes id="m"><nvpair name="globally-unique" value="?"/></meta_attributes>` +
			`<primitive id="y" class="ocf" provider="p" type="T"/></clone>`, "globally unique"},
		{"remote in a group", `<group id="x"><primitive id="y" class="ocf" provider="pacemaker" type="remote"/></group>`, "member y"},
		{"dangling reference", prim("", `<instance_attributes id-ref="nowhere"/>`), "nowhere"},
		{"score", prim("", `<instance_attributes id="i" score="high"/>`), "high"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			plan, err := cluster(exits(1, "")).PlanFrom(config(t, tt.xml), "node1", []string{"x"})
			var refused *pcmk.RefusedError
			if !errors.As(err, &refused) || !strings.Contains(err.Error(), tt.reason) {
				t.Errorf("got %+v, %v, want a refusal with %q", plan, err, tt.reason)
			}
		})
	}
	c := cluster(exits(1, ""))
	if _, err := c.PlanFrom(config(t, ""), "node1", nil); err == nil {
		t.Error("a plan of nothing was made")
	}
	if _, err := c.PlanFrom(config(t, prim("", "")), "node1", []string{"x", "x"}); err == nil {
		t.Error("a resource named twice was accepted")
	}
}

func TestPlanDetails(t *testing.T) {
	init := t.TempDir()
	if err := os.WriteFile(filepath.Join(init, "old"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	c := pcmk.New(exits(1, ""), pcmk.Tools{}, pcmk.Options{InitDir: init, OCFRoot: "/opt/ocf"})
	plan, err := c.PlanFrom(config(t, `<master id="m"><group id="mg"><primitive id="a" class="ocf" provider="p" type="T"/></group></master>
		<group id="g"><primitive id="b" class="service" type="old"/><primitive id="c" class="service" type="new"/>
		<primitive id="d" class="systemd" type="x.mount"/>
		<primitive id="e" class="ocf" provider="p" type="T"><instance_attributes id-ref="shared"/></primitive></group>
		<primitive id="f" class="ocf" provider="p" type="T"><instance_attributes id="shared" score="-5"><nvpair id="n" name="k" value="v"/>
		</instance_attributes><instance_attributes id="s2" score="-6"><nvpair id-ref="n" name="l"/><nvpair id="n3" name="k" value="weaker"/>
		</instance_attributes></primitive>`), "n1", []string{"m", "g", "f"})
	if err != nil {
		t.Fatal(err)
	}
	p := plan.Primitives()
	if p[0].Role != pcmk.RolePromoted || plan.Resources[0].Kind != pcmk.KindClone || p[0].Agent != "/opt/ocf/resource.d/p/T" {
		t.Errorf("legacy master: %+v", p[0])
	}
	if p[1].Class != "lsb" || p[2].Class != "systemd" || p[2].Unit != "new.service" || p[3].Unit != "x.mount" {
		t.Errorf("services: %+v", p[1:4])
	}
	if p[4].Params["k"] != "v" {
		t.Errorf("referenced set: %v", p[4].Params)
	}
	if diff := cmp.Diff(map[string]string{"k": "v", "l": "v"}, p[5].Params); diff != "" {
		t.Errorf("scores: %s", diff)
	}
}
