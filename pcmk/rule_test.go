package pcmk_test

import (
	"bytes"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/leasedog/leasedog/command"
	"github.com/leasedog/leasedog/pcmk"
)

var pg = []pcmk.Rule{{Lease: "pg", Resource: "g1", Role: pcmk.RoleStarted}, {Lease: "pg", Resource: "ms1", Role: pcmk.RolePromoted}}

func TestCheckLease(t *testing.T) {
	for _, name := range []string{"pg", "a-1", strings.Repeat("a", 32), "state"} {
		if err := pcmk.CheckLease(name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"", "Pg", "a_b", "a.b", "a b", "ä", strings.Repeat("a", 33), "pg-state", "pg\n"} {
		if pcmk.CheckLease(name) == nil {
			t.Errorf("lease name %q was accepted", name)
		}
	}
	if pcmk.AttributeName("pg-state") != pcmk.StateAttributeName("pg") {
		t.Error("-state is refused for a reason that no longer is")
	}
}

func TestRuleRendering(t *testing.T) {
	const words = "not_defined leasedog-pg or leasedog-pg lte 0 or leasedog-pg gt 1000000000000000"
	tests := []struct{ got, want string }{
		{pg[0].Pcs("2.1.5"), "pcs constraint location g1 rule id=leasedog-pg-g1-rule constraint-id=leasedog-pg-g1 score=-INFINITY " + words},
		{pg[1].Pcs("2.1.5"), "pcs constraint location ms1 rule id=leasedog-pg-ms1-rule constraint-id=leasedog-pg-ms1 role=Promoted score=-INFINITY " + words},
		{pg[1].Pcs("2.0.5"), "pcs constraint location ms1 rule id=leasedog-pg-ms1-rule constraint-id=leasedog-pg-ms1 role=master score=-INFINITY " + words},
		{pg[0].Pcs("3.0.0"), "pcs constraint location g1 rule id=leasedog-pg-g1-rule constraint-id=leasedog-pg-g1 score=-INFINITY '" + words + "'"},
		{pg[0].Crmsh("3.0.0"), "crm configure location leasedog-pg-g1 g1 rule '$id=leasedog-pg-g1-rule' -inf: " + words},
		{pg[1].Crmsh("3.0.0"), "crm configure location leasedog-pg-ms1 ms1 rule '$id=leasedog-pg-ms1-rule' '$role=Promoted' -inf: " + words},
		{pg[1].XML("2.0.5"), `<rsc_location id="leasedog-pg-ms1" rsc="ms1"><rule id="leasedog-pg-ms1-rule" role="Master" score="-INFINITY" boolean-op="or">` +
			`<expression id="leasedog-pg-ms1-absent" attribute="leasedog-pg" operation="not_defined"/>` +
			`<expression id="leasedog-pg-ms1-zero" attribute="leasedog-pg" operation="lte" value="0"/>` +
			`<expression id="leasedog-pg-ms1-word" attribute="leasedog-pg" operation="gt" value="1000000000000000"/></rule></rsc_location>`},
	}
	for _, tt := range tests {
		if tt.got != tt.want {
			t.Errorf("got  %s\nwant %s", tt.got, tt.want)
		}
	}
	for v, want := range map[string]bool{"2.0.5": false, "2.1.0": true, "2.1.5-x": true, "3.0.0": true, "1.1.24": false, "": false, "2.1-rc1": true} {
		if got := strings.Contains(pg[1].XML(v), `role="Promoted"`); got != want {
			t.Errorf("version %q: Promoted is %v", v, got)
		}
	}
	if strings.Contains(pg[0].XML("2.1.5"), "role") {
		t.Error("a rule for role Started names a role")
	}
}

// TestRulesCaptured: what this package writes is recognised in the CIB of each version, and in force by crm_mon.
func TestRulesCaptured(t *testing.T) {
	for _, v := range versions {
		for _, s := range cib(t, v, "rule-held").CheckRules(pg) {
			if !s.Exists || !s.Intact || s.Other || s.Reason != "" {
				t.Errorf("%s: %+v", v, s)
			}
		}
		for _, s := range cib(t, v, "active").CheckRules(pg) {
			if s.Exists || s.Intact || s.Reason == "" {
				t.Errorf("%s: without constraints %+v", v, s)
			}
		}
		if got := strings.Join(cib(t, v, "rule-held").LeaseConstraints("pg"), " "); got != "leasedog-pg-g1 leasedog-pg-ms1" {
			t.Errorf("%s: ours are %q", v, got)
		}
		if got := strings.Join(cib(t, v, "rule-held").Dependents(), ", "); got != "constraint leasedog-pg-g1, constraint leasedog-pg-ms1" {
			t.Errorf("%s: what needs leasedog is %q", v, got)
		}
		if got := cib(t, v, "active").Dependents(); len(got) > 0 {
			t.Errorf("%s: without constraints %q needs leasedog", v, got)
		}
		closed := func(situation string) (all string) {
			for _, g := range status(t, v, situation).EffectiveBans(pg, "node1", "node2") {
				all += map[bool]string{true: "c", false: "o"}[g.Closed]
			}
			return all
		}
		for situation, want := range map[string]string{"active": "oooo", "rule-absent": "cccc", "rule-empty": "cccc", "rule-held": "ococ"} {
			if got := closed(situation); got != want {
				t.Errorf("%s: %s: bans %s, want %s", v, situation, got, want)
			}
		}
	}
}

// TestDependents: what stops working without leasedog is found whoever made it.
func TestDependents(t *testing.T) {
	c, err := pcmk.ParseCIB([]byte(`<cib><configuration><crm_config/><nodes/><resources>
<primitive id="ip" class="ocf" provider="heartbeat" type="IPaddr2"/>
<group id="g"><primitive id="l" class="ocf" provider="leasedog" type="lease"/></group>
<template id="tpl" class="ocf" provider="leasedog" type="lease"/>
<primitive id="f" class="stonith" type="fence_leasedog"/>
</resources><constraints>
<rsc_location id="by-hand" rsc="g"><rule id="r" score="-INFINITY"><expression id="e" attribute="leasedog-pg" operation="not_defined"/></rule></rsc_location>
<rsc_location id="leasedog-named-so" rsc="ip" node="n1" score="100"/>
<rsc_location id="site" rsc="ip"><rule id="r2" score="100"><expression id="e2" attribute="pingd" operation="gt" value="0"/></rule></rsc_location>
</constraints></configuration></cib>`))
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(c.Dependents(), ", "); got != "constraint by-hand, resource l, resource tpl, resource f" {
		t.Errorf("what needs leasedog is %q", got)
	}
}

// TestRuleChanged: any change that could turn the ban off is noticed. Each of these was tried by an administrator once.
func TestRuleChanged(t *testing.T) {
	doc := func(r string) *pcmk.CIB {
		c, err := pcmk.ParseCIB([]byte(`<cib><configuration><crm_config/><nodes/><resources/><constraints>` + r +
			`</constraints></configuration></cib>`))
		must(t, err)
		return c
	}
	for i, r := range pg {
		if s := doc(r.XML("2.1.5")).CheckRules(pg)[i]; !s.Intact {
			t.Fatalf("unchanged: %+v", s)
		}
	}
	same := [][2]string{
		{`id="leasedog-pg-g1-zero"`, `id="x"`}, {`operation="lte"`, `operation="lte" type="number"`},
		{`operation="gt"`, `type="integer" operation="gt"`},
	}
	for _, ch := range same {
		if s := doc(strings.Replace(pg[0].XML("2.1.5"), ch[0], ch[1], 1)).CheckRules(pg)[0]; !s.Intact {
			t.Errorf("%s: %s", ch[1], s.Reason)
		}
	}
	changed := [][2]string{
		{`score="-INFINITY"`, `score="INFINITY"`}, {`score="-INFINITY"`, `score="-1000"`}, {`boolean-op="or"`, `boolean-op="and"`},
		{` boolean-op="or"`, ``}, {`rsc="g1"`, `rsc="g2"`}, {`rsc="g1"`, `rsc="g1" resource-discovery="never"`},
		{`rsc="g1"`, `rsc="g1" node="node1"`}, {`rsc="g1"`, `rsc="g1" role="Promoted"`}, {`-rule"`, `-rule" role="Promoted"`},
		{`value="0"`, `value="-1"`}, {`value="1000000000000000"`, `value="9000000000000000"`},
		{`operation="not_defined"`, `operation="defined"`}, {`operation="lte"`, `operation="lt"`},
		{`operation="lte"`, `operation="lte" type="string"`}, {`operation="lte"`, `operation="lte" value-source="meta"`},
		{`attribute="leasedog-pg" operation="gt"`, `attribute="other" operation="gt"`},
		{`<expression id="leasedog-pg-g1-word" attribute="leasedog-pg" operation="gt" value="1000000000000000"/>`, ``},
		{`</rule>`, `<date_expression id="d" operation="gt" start="2030-01-01"/></rule>`},
		{`</rule>`, `</rule><rule id="second" score="0"/>`}, {`</rule>`, `<rule id="inner"/></rule>`},
		{`<rule id="leasedog-pg-g1-rule"`, `<rule id="leasedog-pg-g1-rule" score-attribute="x"`},
	}
	for _, ch := range changed {
		xml := strings.Replace(pg[0].XML("2.1.5"), ch[0], ch[1], 1)
		if xml == pg[0].XML("2.1.5") {
			t.Fatalf("%s: nothing was changed", ch[0])
		}
		if s := doc(xml).CheckRules(pg)[0]; !s.Exists || s.Intact || s.Reason == "" {
			t.Errorf("%s -> %s passed as intact", ch[0], ch[1])
		}
	}
	if s := doc(strings.Replace(pg[1].XML("2.1.5"), ` role="Promoted"`, "", 1)).CheckRules(pg)[1]; s.Intact {
		t.Error("a rule for Promoted without its role passed as intact")
	}
}

// TestEffectiveBansDoubt: a ban that is not complete is no ban.
func TestEffectiveBansDoubt(t *testing.T) {
	ban := pcmk.Ban{ID: "leasedog-pg-g1-rule", Resource: "g1", Node: "a", Weight: "-1000000", PromotedOnly: pcmk.No}
	one := func(change func(*pcmk.Ban)) bool {
		b := ban
		change(&b)
		return pcmk.Status{Bans: []pcmk.Ban{b}}.EffectiveBans(pg[:1], "a")[0].Closed
	}
	if !one(func(*pcmk.Ban) {}) || !one(func(b *pcmk.Ban) { b.Weight = "-INFINITY" }) {
		t.Error("a whole ban is not seen")
	}
	for name, f := range map[string]func(*pcmk.Ban){
		"weight": func(b *pcmk.Ban) { b.Weight = "-100" }, "no weight": func(b *pcmk.Ban) { b.Weight = "" },
		"node": func(b *pcmk.Ban) { b.Node = "b" }, "resource": func(b *pcmk.Ban) { b.Resource = "g2" },
		"id": func(b *pcmk.Ban) { b.ID = "cli-ban-g1" }, "promoted": func(b *pcmk.Ban) { b.PromotedOnly = pcmk.Yes },
		"unknown": func(b *pcmk.Ban) { b.PromotedOnly = pcmk.Unknown },
	} {
		if one(f) {
			t.Errorf("%s: a ban that does not hold passed", name)
		}
	}
}

// cibStore is a made-up cibadmin that carries out what it is asked, or not.
type cibStore struct {
	fake
	constraints string
	ignore      bool
}

func newCIBStore(constraints string) *cibStore {
	s := &cibStore{constraints: constraints}
	s.answer = func(call string) (string, int) {
		_, arg, _ := strings.Cut(call, "--xml-text ")
		switch {
		case strings.HasPrefix(call, "cibadmin --query"):
			return `<cib><configuration><crm_config/><nodes/><resources/><constraints>` + s.constraints +
				`</constraints></configuration></cib>`, 0
		case s.ignore:
		case strings.HasPrefix(call, "cibadmin --create --scope constraints "):
			s.constraints += arg
		case strings.HasPrefix(call, "cibadmin --replace --scope constraints "), strings.HasPrefix(call, "cibadmin --delete --scope constraints "):
			id := regexp.MustCompile(`id="[^"]*"`).FindString(arg)
			s.constraints = regexp.MustCompile(`<rsc_location `+id+`.*?</rsc_location>`).ReplaceAllString(s.constraints, "")
			if strings.Contains(call, "--replace") {
				s.constraints += arg
			}
		default:
			return "", 64
		}
		return "", 0
	}
	return s
}

func TestApplyAndRemoveRules(t *testing.T) {
	const foreign = `<rsc_location id="leasedog-a-b-c" rsc="b-c"><rule id="r"><expression attribute="leasedog-a"/></rule></rsc_location>`
	changed := strings.Replace(pg[0].XML("2.1.5"), "-INFINITY", "INFINITY", 1)
	s := newCIBStore(foreign + changed)
	c := cluster(&s.fake)
	must(t, c.ApplyRules(within(t), "2.1.5", pg))
	if n := strings.Count(s.constraints, "<rsc_location"); n != 3 || !strings.Contains(s.constraints, foreign) ||
		!strings.Contains(s.constraints, pg[0].XML("2.1.5")) || !strings.Contains(s.constraints, pg[1].XML("2.1.5")) {
		t.Fatalf("after apply: %s", s.constraints)
	}
	before := len(s.calls)
	must(t, c.ApplyRules(within(t), "2.1.5", pg))
	for _, call := range s.calls[before:] {
		if !strings.HasPrefix(call, "cibadmin --query") {
			t.Errorf("a second apply wrote: %s", call)
		}
	}
	// leasedog-a-b-c is the id of resource c of lease a-b as well: it must not be overwritten or removed.
	if err := c.ApplyRules(within(t), "2.1.5", []pcmk.Rule{{Lease: "a-b", Resource: "c", Role: pcmk.RoleStarted}}); err == nil ||
		!strings.Contains(s.constraints, foreign) {
		t.Errorf("another lease's constraint was overwritten: %v", err)
	}
	if removed, err := c.RemoveRules(within(t), "a-b"); err != nil || len(removed) != 0 {
		t.Errorf("another lease's constraint was removed: %v, %v", removed, err)
	}
	removed, err := c.RemoveRules(within(t), "pg")
	if err != nil || len(removed) != 2 || s.constraints != foreign {
		t.Errorf("removed %v, %v, left %s", removed, err, s.constraints)
	}
}

// TestNotApplied: exit code 0 without effect is an error.
func TestNotApplied(t *testing.T) {
	s := newCIBStore("")
	s.ignore = true
	if err := cluster(&s.fake).ApplyRules(within(t), "2.1.5", pg); !errors.Is(err, pcmk.ErrNotApplied) {
		t.Errorf("apply: %v", err)
	}
	s.constraints = pg[0].XML("2.1.5")
	if _, err := cluster(&s.fake).RemoveRules(within(t), "pg"); !errors.Is(err, pcmk.ErrNotApplied) {
		t.Errorf("remove: %v", err)
	}
	f := says(map[string]string{"crm_attribute": "", "cibadmin": capture(t, "2.1.5", "active.cib.xml")})
	if err := cluster(f).SetOption(within(t), "batch-limit", "5"); !errors.Is(err, pcmk.ErrNotApplied) {
		t.Errorf("option: %v", err)
	}
	if err := cluster(f).SetOption(within(t), "batch-limit", "-1"); err != nil ||
		!f.asked("crm_attribute --type crm_config --name batch-limit --update=-1") {
		t.Errorf("option: %v, asked %q", err, f.calls)
	}
}

func TestOptionChanges(t *testing.T) {
	needed := func(c *pcmk.CIB) map[string]string {
		m := map[string]string{}
		for _, o := range c.OptionChanges() {
			if o.Reason == "" {
				t.Errorf("%s has no reason", o.Name)
			}
			if o.Needed() {
				m[o.Name] = o.After
			}
		}
		return m
	}
	options := func(nv, resources string) *pcmk.CIB {
		c, err := pcmk.ParseCIB([]byte(`<cib><configuration><crm_config>` + nv + `</crm_config><nodes/><resources>` + resources +
			`</resources><constraints/></configuration></cib>`))
		must(t, err)
		return c
	}
	if got := needed(options("", "")); len(got) != 4 || got["stonith-enabled"] != "false" || got["batch-limit"] != "-1" ||
		got["no-quorum-policy"] != "ignore" || got["start-failure-is-fatal"] != "false" {
		t.Errorf("nothing set: %v", got)
	}
	fenced := options("", `<group id="g"><primitive id="f" class="stonith" type="x"/></group>`)
	if got := needed(fenced); got["stonith-enabled"] != "true" {
		t.Errorf("with a fencing device: %v", got)
	}
	if got := needed(fenced); got["startup-fencing"] != "" {
		t.Errorf("Pacemaker's default is right: %v", got)
	}
	fenced = options(`<cluster_property_set id="o"><nvpair name="startup-fencing" value="no"/></cluster_property_set>`,
		`<primitive id="f" class="stonith" type="x"/>`)
	if got := needed(fenced); got["startup-fencing"] != "true" {
		t.Errorf("with startup-fencing=no: %v", got)
	}
	set := options(`<cluster_property_set id="other"><nvpair name="batch-limit" value="0"/><nvpair name="stonith-enabled" value="true"/></cluster_property_set>
		<cluster_property_set id="cib-bootstrap-options"><nvpair name="stonith-enabled" value="off"/><nvpair name="batch-limit" value="-1"/>
		<nvpair name="no-quorum-policy" value="ignore"/><nvpair name="start-failure-is-fatal" value="no"/></cluster_property_set>`, "")
	if got := needed(set); len(got) != 0 {
		t.Errorf("all set (cib-bootstrap-options comes first): %v", got)
	}
	for _, o := range options("", "").OptionChanges() {
		if o.Name == "stonith-enabled" && !strings.Contains(o.Reason, "unsupported by RHEL and SLES") {
			t.Errorf("reason %q", o.Reason)
		}
	}
}

func TestAlert(t *testing.T) {
	cib := func(alerts string) string {
		return `<cib><configuration><crm_config/><nodes/><resources/><constraints/>` + alerts + `</configuration></cib>`
	}
	for alerts, want := range map[string]bool{
		"": false, "<alerts/>": false, `<alerts><alert id="leasedog" path="/bin/true"/></alerts>`: false,
		`<alerts><alert id="a" path="/bin/true"/><alert id="b" path="` + pcmk.AlertAgent + `"/></alerts>`: true,
		"<alerts>" + pcmk.AlertXML + "</alerts>":                                                          true,
	} {
		c, err := pcmk.ParseCIB([]byte(cib(alerts)))
		must(t, err)
		if c.HasAlert() != want {
			t.Errorf("%s: %v", alerts, !want)
		}
	}
	written := ""
	f := &fake{answer: func(call string) (string, int) {
		if strings.Contains(call, "--modify") {
			written = "<alerts>" + pcmk.AlertXML + "</alerts>"
			return "", 0
		}
		return cib(written), 0
	}}
	must(t, cluster(f).AddAlert(within(t)))
	f.answer = func(call string) (string, int) {
		if strings.Contains(call, "--delete") {
			written = ""
			return "", 0
		}
		return cib(written), 0
	}
	if gone, err := cluster(f).RemoveAlert(within(t)); !gone || err != nil || written != "" {
		t.Errorf("remove it: %v, %v, left %q", gone, err, written)
	}
	if gone, err := cluster(f).RemoveAlert(within(t)); gone || err != nil {
		t.Errorf("remove what is not there: %v, %v", gone, err)
	}
	f.answer = func(string) (string, int) { return cib("<alerts>" + pcmk.AlertXML + "</alerts>"), 0 }
	if _, err := cluster(f).RemoveAlert(within(t)); !errors.Is(err, pcmk.ErrNotApplied) {
		t.Errorf("nothing was removed: %v", err)
	}
	still := strings.Replace(cib("<alerts>"+pcmk.AlertXML+"</alerts>"), "<constraints/>", "<constraints>"+pg[0].XML("2.1.5")+"</constraints>", 1)
	f.answer = func(call string) (string, int) {
		if strings.Contains(call, "--delete") {
			t.Error("it is removed while a rule depends on leasedog")
		}
		return still, 0
	}
	if gone, err := cluster(f).RemoveAlert(within(t)); gone || err != nil {
		t.Errorf("with a rule: %v, %v", gone, err)
	}
	f.answer = func(string) (string, int) { return cib(""), 0 }
	if err := cluster(f).AddAlert(within(t)); !errors.Is(err, pcmk.ErrNotApplied) {
		t.Errorf("nothing was written: %v", err)
	}
}

// TestRuleRole: a word that the DC does not know turns the rule off; its case does not matter, and pcs 0.10 writes "master".
func TestRuleRole(t *testing.T) {
	for _, row := range []struct {
		dc, word string
		intact   bool
	}{
		{"2.0.5-ba59be7122", "Master", true}, {"2.0.5-ba59be7122", "master", true}, {"2.0.5-ba59be7122", "Promoted", false},
		{"2.0.5-ba59be7122", "promoted", false}, {"2.1.5-a3f44794f94", "Master", true}, {"2.1.5-a3f44794f94", "Promoted", true},
		{"3.0.0-3.0.0", "master", true}, {"3.0.0-3.0.0", "promoted", true}, {"3.0.0-3.0.0", "Started", false}, {"3.0.0-3.0.0", "", false},
		{"", "Promoted", true}, {"", "Unpromoted", false},
	} {
		c, err := pcmk.ParseCIB([]byte(`<cib><configuration><crm_config><cluster_property_set id="cib-bootstrap-options"><nvpair id="v" ` +
			`name="dc-version" value="` + row.dc + `"/></cluster_property_set></crm_config><nodes/><resources/><constraints>` +
			strings.Replace(pg[1].XML("2.0.5"), "Master", row.word, 1) + `</constraints></configuration></cib>`))
		must(t, err)
		if s := c.CheckRules(pg)[1]; !s.Exists || s.Intact != row.intact {
			t.Errorf("DC %q, role %q: intact %v %s", row.dc, row.word, s.Intact, s.Reason)
		}
	}
	// While a cluster is upgraded its rules are those of the older version.
	for _, row := range [][3]string{{"2.0.5", "2.1.5", "2.0.5"}, {"2.1.5", "2.0.5", "2.0.5"}, {"3.0.0", "2.1.5", "3.0.0"}} {
		if got := cib(t, row[1], "active").RuleVersion(row[0]); !strings.HasPrefix(got, row[2]) {
			t.Errorf("on %s with a DC of %s rules are written for %s", row[0], row[1], got)
		}
	}
}

// TestRuleTruthTable (attack 14) asks Pacemaker's own scheduler: with the rule a guarded resource runs only where the
// attribute is an epoch. Without the third expression every word opens the gate.
// LEASEDOG_CRM_SIMULATE holds command lines to use, separated by ";", for instance one a release under chroot(8).
func TestRuleTruthTable(t *testing.T) {
	lines := strings.Split(os.Getenv("LEASEDOG_CRM_SIMULATE"), ";")
	if lines[0] == "" {
		lines = nil
		for _, p := range []string{"/usr/sbin/crm_simulate", "/usr/bin/crm_simulate"} {
			if _, err := os.Stat(p); err == nil {
				lines = []string{p}
			}
		}
	}
	if len(lines) == 0 {
		t.Skip("crm_simulate is not installed (pacemaker-cli-utils), and LEASEDOG_CRM_SIMULATE is not set")
	}
	table := []struct {
		value string // "-" is absent
		runs  bool
	}{
		{"-", false}, {"", false}, {"0", false}, {"-1", false}, {"1", true}, {"42", true}, {"999999999999999", true},
		{"1000000000000000", true}, {"1000000000000001", false}, {"held", false}, {"lost", false}, {"true", false},
	}
	// As this package writes them, and in every other form that CheckRules takes for intact.
	forms := [][][2]string{nil, {{`role="Promoted"`, `role="promoted"`}, {`role="Master"`, `role="master"`}}, {{`role="Promoted"`, `role="Master"`}},
		{{` value=`, ` type="number" value=`}}, {{` value=`, ` type="integer" value=`}}}
	for _, line := range lines {
		words := strings.Fields(line)
		run := func(stdin string, args ...string) string {
			t.Helper()
			res, err := command.Exec{}.Run(within(t), command.Cmd{Path: words[0], Args: append(words[1:len(words):len(words)], args...),
				Stdin: []byte(stdin)})
			if err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			return string(bytes.TrimSpace(res.Stdout))
		}
		res, _ := command.Exec{}.Run(within(t), command.Cmd{Path: words[0], Args: append(words[1:len(words):len(words)], "--version")})
		version := regexp.MustCompile(`[0-9]+\.[0-9.]+`).FindString(string(res.Stdout) + res.Stderr) // 2.0.5 prints it there, with 64
		for _, form := range forms {
			constraints := pg[0].XML(version) + pg[1].XML(version)
			for _, change := range form {
				constraints = strings.ReplaceAll(constraints, change[0], change[1])
			}
			for _, row := range table {
				out := run(simulated(version, row.value, constraints), "--xml-pipe", "--simulate")
				started := regexp.MustCompile(`\* Start\s+r1\s+\(.*node1`).MatchString(out)
				promoted := regexp.MustCompile(`\* Promote\s+s1:0\s+\(.*node1`).MatchString(out)
				if started != row.runs || promoted != row.runs {
					t.Errorf("Pacemaker %s, %q, value %q: started %v, promoted %v, want %v\n%s", version, form, row.value, started, promoted,
						row.runs, out)
				}
			}
		}
	}
}

// simulated is a cluster of one node that is up, with probes done, before anything is started.
func simulated(version, value, constraints string) string {
	attribute := ""
	if value != "-" {
		attribute = `<nvpair id="a1" name="leasedog-pg" value="` + value + `"/>`
	}
	schema := "pacemaker-3.5" // of 2.0.5; older ones do not know the type integer
	if strings.HasPrefix(version, "2.1") || strings.HasPrefix(version, "3") {
		schema = "pacemaker-3.7"
	}
	probe := func(id, typ string) string {
		return `<lrm_resource id="` + id + `" class="ocf" provider="pacemaker" type="` + typ + `"><lrm_rsc_op id="` + id +
			`_last_0" operation_key="` + id + `_monitor_0" operation="monitor" crm_feature_set="3.0.14" transition-key="1:1:7:0" ` +
			`transition-magic="0:7;1:1:7:0" call-id="1" rc-code="7" op-status="0" interval="0"/></lrm_resource>`
	}
	return `<cib crm_feature_set="3.0.14" validate-with="` + schema + `" epoch="1" num_updates="1" admin_epoch="0" have-quorum="1" dc-uuid="1">
<configuration><crm_config><cluster_property_set id="o"><nvpair id="o1" name="stonith-enabled" value="false"/>
<nvpair id="o2" name="no-quorum-policy" value="ignore"/></cluster_property_set></crm_config>
<nodes><node id="1" uname="node1"/></nodes>
<resources><group id="g1"><primitive id="r1" class="ocf" provider="pacemaker" type="Dummy"/></group>
<clone id="ms1"><meta_attributes id="m"><nvpair id="m1" name="promotable" value="true"/></meta_attributes>
<primitive id="s1" class="ocf" provider="pacemaker" type="Stateful"/></clone></resources>
<constraints>` + constraints + `</constraints></configuration>
<status><node_state id="1" uname="node1" in_ccm="true" crmd="online" join="member" expected="member">
<transient_attributes id="1"><instance_attributes id="t"><nvpair id="a2" name="master-s1" value="10"/>` + attribute + `</instance_attributes></transient_attributes>
<lrm id="1"><lrm_resources>` + probe("r1", "Dummy") + probe("s1", "Stateful") + `</lrm_resources></lrm></node_state></status></cib>`
}
