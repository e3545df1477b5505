package pcmk

import (
	"slices"
	"testing"
)

// Whatever is not known to be guarded is not.
func TestUnguarded(t *testing.T) {
	g := Rule{Lease: "pg", Resource: "g", Role: RoleStarted}
	ms := Rule{Lease: "pg", Resource: "ms", Role: RolePromoted}
	const db = `<group id="g"><primitive id="p" class="ocf" provider="heartbeat" type="Dummy"/></group>`
	for name, c := range map[string]struct {
		resources, constraints string
		rules                  []Rule
		want                   []string
	}{
		"nothing at all":   {"", "", nil, nil},
		"guarded":          {db, g.XML("2.1.5"), []Rule{g}, nil},
		"promoted":         {`<clone id="ms"><primitive id="s" class="ocf" provider="x" type="y"/></clone>`, ms.XML("2.1.5"), []Rule{ms}, nil},
		"no rule":          {db, "", []Rule{g}, []string{"g"}},
		"no lease":         {db, g.XML("2.1.5"), nil, []string{"g"}},
		"another's rule":   {db, Rule{Lease: "web", Resource: "g", Role: RoleStarted}.XML("2.1.5"), []Rule{g}, []string{"g"}},
		"one beside":       {db + `<primitive id="mail" class="systemd" type="postfix"/>`, g.XML("2.1.5"), []Rule{g}, []string{"mail"}},
		"clone beside":     {db + `<clone id="c"><primitive id="dlm" class="ocf" provider="pacemaker" type="controld"/></clone>`, g.XML("2.1.5"), []Rule{g}, []string{"c"}},
		"bundle":           {`<bundle id="b"/>`, "", nil, []string{"b"}},
		"empty group":      {`<group id="e"/>`, "", nil, []string{"e"}},
		"a lease":          {`<primitive id="l" class="ocf" provider="leasedog" type="lease"/>`, "", nil, nil},
		"not our lease":    {`<primitive id="l" class="ocf" provider="heartbeat" type="lease"/>`, "", nil, []string{"l"}},
		"fencing":          {`<primitive id="f" class="stonith" type="fence_leasedog"/><clone id="fc"><primitive id="f2" class="stonith" type="x"/></clone>`, "", nil, nil},
		"fencing template": {`<template id="t" class="stonith" type="x"/><primitive id="f" template="t"/>`, "", nil, nil},
		"other template":   {`<template id="t" class="ocf" provider="x" type="y"/><primitive id="f" template="t"/>`, "", nil, []string{"f"}},
		"lost template":    {`<primitive id="f" template="gone"/>`, "", nil, []string{"f"}},
		"mixed group":      {`<group id="m"><primitive id="l" class="ocf" provider="leasedog" type="lease"/><primitive id="q" class="lsb" type="q"/></group>`, "", nil, []string{"m"}},
	} {
		cib, err := ParseCIB([]byte(`<cib><configuration><crm_config/><nodes/><resources>` + c.resources + `</resources><constraints>` +
			c.constraints + `</constraints></configuration></cib>`))
		if err != nil {
			t.Fatal(err)
		}
		if got := cib.Unguarded(c.rules); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
