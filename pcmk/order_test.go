package pcmk

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

const (
	plainOrder = `<rsc_order id="o" first="lease" then="g"/>`
	plainWith  = `<rsc_colocation id="c" rsc="g" with-rsc="lease" score="INFINITY"/>`
	leasePrim  = `<primitive id="lease" class="ocf" provider="leasedog" type="lease"><meta_attributes id="m">` +
		`<nvpair id="f" name="failure-timeout" value="30s"/></meta_attributes><operations>` +
		`<op id="s" name="start" interval="0" timeout="45s"/></operations></primitive>`
)

func orderCIB(t *testing.T, options, resources, constraints, more string) *CIB {
	t.Helper()
	c, err := ParseCIB([]byte(fmt.Sprintf(`<cib><configuration><crm_config><cluster_property_set id="cib-bootstrap-options">%s`+
		`</cluster_property_set></crm_config><nodes/><resources>%s<group id="g"><primitive id="r" class="ocf" type="x"/></group></resources>`+
		`<constraints>%s</constraints>%s</configuration></cib>`, options, resources, constraints, more)))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestOrderFirst(t *testing.T) {
	const bare = `<primitive id="lease" class="ocf" provider="leasedog" type="lease"/>`
	for name, c := range map[string]struct {
		options, resources, constraints, more string

		found, retries bool
		start          time.Duration
		missing        string // part of what is missing; "" for nothing
	}{
		"as it should be": {resources: leasePrim, constraints: plainOrder + plainWith, found: true, retries: true, start: 45 * time.Second},
		"not there":       {constraints: plainOrder + plainWith},
		"defaults":        {resources: bare, constraints: plainOrder + plainWith, found: true, start: 20 * time.Second},
		"op_defaults": {resources: bare, constraints: plainOrder + plainWith, found: true, start: time.Minute,
			more: `<op_defaults><meta_attributes id="d"><nvpair id="t" name="timeout" value="1min"/></meta_attributes></op_defaults>`},
		"rsc_defaults": {resources: bare, constraints: plainOrder + plainWith, found: true, retries: true, start: 20 * time.Second,
			more: `<rsc_defaults><meta_attributes id="d"><nvpair id="t" name="failure-timeout" value="60"/></meta_attributes></rsc_defaults>`},
		"failures are for ever": {resources: strings.Replace(leasePrim, "30s", "0", 1), constraints: plainOrder + plainWith, found: true,
			start: 45 * time.Second},
		"starts may fail": {options: `<nvpair id="x" name="start-failure-is-fatal" value="false"/>`, resources: bare,
			constraints: plainOrder + plainWith, found: true, retries: true, start: 20 * time.Second},
		"first of the guarded group": {resources: `<group id="h">` + leasePrim + `</group>`, constraints: plainOrder + plainWith, found: true,
			retries: true, start: 45 * time.Second},
		"no order":           {resources: leasePrim, constraints: plainWith, found: true, retries: true, start: 45 * time.Second, missing: "not ordered"},
		"the other way":      {resources: leasePrim, constraints: `<rsc_order id="o" first="g" then="lease"/>` + plainWith, found: true, retries: true, start: 45 * time.Second, missing: "not ordered"},
		"optional order":     {resources: leasePrim, constraints: `<rsc_order id="o" first="lease" then="g" kind="Optional"/>` + plainWith, found: true, retries: true, start: 45 * time.Second, missing: "not ordered"},
		"advisory order":     {resources: leasePrim, constraints: `<rsc_order id="o" first="lease" then="g" score="0"/>` + plainWith, found: true, retries: true, start: 45 * time.Second, missing: "not ordered"},
		"one way only":       {resources: leasePrim, constraints: `<rsc_order id="o" first="lease" then="g" symmetrical="false"/>` + plainWith, found: true, retries: true, start: 45 * time.Second, missing: "not ordered"},
		"order of stops":     {resources: leasePrim, constraints: `<rsc_order id="o" first="lease" first-action="stop" then="g"/>` + plainWith, found: true, retries: true, start: 45 * time.Second, missing: "not ordered"},
		"only the promotion": {resources: leasePrim, constraints: `<rsc_order id="o" first="lease" then="g" then-action="promote"/>` + plainWith, found: true, retries: true, start: 45 * time.Second},
		"in a clone": {resources: `<clone id="k">` + leasePrim + `</clone>`, constraints: plainOrder + plainWith, found: true, retries: true,
			start: 45 * time.Second, missing: "not in a clone"},
		"an infinite priority": {resources: strings.Replace(leasePrim, `<nvpair id="f"`, `<nvpair id="p" name="priority" value="INFINITY"/><nvpair id="f"`, 1),
			constraints: plainOrder + plainWith, found: true, retries: true, start: 45 * time.Second, missing: "INFINITY"},
		"no colocation":   {resources: leasePrim, constraints: plainOrder, found: true, retries: true, start: 45 * time.Second, missing: "not kept with"},
		"mild colocation": {resources: leasePrim, constraints: plainOrder + strings.Replace(plainWith, "INFINITY", "100", 1), found: true, retries: true, start: 45 * time.Second, missing: "not kept with"},
	} {
		got, err := orderCIB(t, c.options, c.resources, c.constraints, c.more).OrderFirst("lease", []string{"g"})
		if err != nil || got.Found != c.found || got.Retries != c.retries || got.Start != c.start || len(got.NotBehind) > 0 != (c.missing != "") {
			t.Errorf("%s: %+v, %v", name, got, err)
		} else if c.missing != "" && !strings.Contains(got.NotBehind[0], c.missing) {
			t.Errorf("%s: %q", name, got.NotBehind)
		}
	}
	in := orderCIB(t, "", "", plainOrder+plainWith, "")
	if got, err := in.OrderFirst("r", []string{"g"}); err != nil || len(got.NotBehind) != 1 || !strings.Contains(got.NotBehind[0], "a part of g") {
		t.Errorf("a member of what it is to guard: %+v, %v", got, err)
	}
	bad := strings.Replace(leasePrim, "45s", "soon", 1)
	if _, err := orderCIB(t, "", bad, plainOrder, "").OrderFirst("lease", []string{"g"}); err == nil {
		t.Error("a timeout that cannot be read is taken")
	}
}

func TestStartsBehind(t *testing.T) {
	started := func(ids ...string) (out []Guarded) {
		for _, id := range ids {
			out = append(out, Guarded{ID: id, Role: RoleStarted})
		}
		return out
	}
	promoted := []Guarded{{ID: "g", Role: RolePromoted}}
	const ofPromotions = `<rsc_order id="o" first="lease" then="g" then-action="promote"/>`
	with := func(meta string) string {
		return strings.Replace(leasePrim, `<nvpair id="f"`, meta+`<nvpair id="f"`, 1)
	}
	for name, res := range map[string]string{
		"not configured":       "",
		"a part of a clone":    `<clone id="k">` + leasePrim + `</clone>`,
		"active twice is fine": with(`<nvpair id="w" name="multiple-active" value="stop_unexpected"/>`),
		"active twice is fine in its group": `<group id="h"><meta_attributes id="mh"><nvpair id="w" name="multiple-active" value="block"/></meta_attributes>` +
			leasePrim + `</group>`,
		"started although the transition was given up": leasePrim + `<primitive id="x" class="ocf" type="x"><meta_attributes id="mx">` +
			`<nvpair id="px" name="priority" value="INFINITY"/></meta_attributes></primitive>`,
	} {
		if orderCIB(t, "", res, plainOrder+plainWith, "").StartsBehind("lease", started("g")) {
			t.Error("behind it: " + name)
		}
	}
	for name, res := range map[string]string{
		"in a group": `<group id="h">` + leasePrim + `</group>`, "stopped when active twice": with(`<nvpair id="w" name="multiple-active" value="stop_start"/>`),
		"a priority": with(`<nvpair id="w" name="priority" value="999999"/>`),
	} {
		if !orderCIB(t, "", res, plainOrder+plainWith, "").StartsBehind("lease", started("g")) {
			t.Error("not behind it: " + name)
		}
	}
	const sometimes = `<rsc_defaults><meta_attributes id="d"><rule id="dr"><rsc_expression id="de" class="ocf"/></rule>` +
		`<nvpair id="w" name="multiple-active" value="stop_only"/></meta_attributes></rsc_defaults>`
	if orderCIB(t, "", leasePrim, plainOrder+plainWith, sometimes).StartsBehind("lease", started("g")) {
		t.Error("behind it while the defaults may let it be active twice")
	}
	if orderCIB(t, "", leasePrim, plainOrder, "").StartsBehind("lease", started("g")) {
		t.Error("behind it without a colocation")
	}
	ofMasters := strings.Replace(plainWith, `rsc="g"`, `rsc="g" rsc-role="Promoted"`, 1)
	if orderCIB(t, "", leasePrim, plainOrder+ofMasters, "").StartsBehind("lease", started("g")) {
		t.Error("only the promoted one is kept with it")
	}
	for name, tc := range map[string]struct {
		order, first string
		guarded      []Guarded
		want         bool
	}{
		"its own resource":                   {plainOrder, "lease", started("g"), true},
		"another one is not behind it":       {plainOrder, "lease", started("g", "h"), false},
		"another first":                      {plainOrder, "other", started("g"), false},
		"nothing is known to be guarded":     {plainOrder, "lease", nil, false},
		"a promotion of what started before": {plainOrder, "lease", promoted, false},
		"an order of promotions":             {ofPromotions, "lease", promoted, true},
		"a start beside an order of those":   {ofPromotions, "lease", started("g"), false},
		"an order of its stop":               {`<rsc_order id="o" first="lease" then="g" then-action="stop"/>`, "lease", started("g"), false},
	} {
		if got := orderCIB(t, "", leasePrim, tc.order+plainWith, "").StartsBehind(tc.first, tc.guarded); got != tc.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}
