package pcmk

import (
	"strings"
	"testing"
	"time"
)

func TestMovedAway(t *testing.T) {
	const cib = `<cib><configuration><crm_config/><nodes/><resources/><constraints>%</constraints></configuration></cib>`
	for name, c := range map[string]struct {
		constraint string
		want       string // part of the words; "" for no wish
	}{
		"move elsewhere": {`<rsc_location id="cli-prefer-g1" rsc="g1" role="Started" node="node2" score="INFINITY"/>`, "is to be on node2"},
		"move to here":   {`<rsc_location id="cli-prefer-g1" rsc="g1" node="node1" score="INFINITY"/>`, ""},
		"ban from here":  {`<rsc_location id="cli-ban-g1-on-node1" rsc="g1" node="node1" score="-INFINITY"/>`, "banned from here"},
		"ban from there": {`<rsc_location id="cli-ban-g1-on-node2" rsc="g1" node="node2" score="-INFINITY"/>`, ""},
		"of another":     {`<rsc_location id="cli-ban-g2-on-node1" rsc="g2" node="node1" score="-INFINITY"/>`, ""},
		"a standing one": {`<rsc_location id="loc-g1" rsc="g1" node="node2" score="INFINITY"/>`, ""},
		"a mild one":     {`<rsc_location id="cli-prefer-g1" rsc="g1" node="node2" score="100"/>`, ""},
		"our own rule":   {`<rsc_location id="leasedog-app-g1" rsc="g1"><rule id="x" score="-INFINITY"/></rsc_location>`, ""},
	} {
		parsed, err := ParseCIB([]byte(strings.Replace(cib, "%", c.constraint, 1)))
		if err != nil {
			t.Fatal(err)
		}
		got := parsed.MovedAway("node1", []string{"g1"})
		if got == "" != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestFailedAt(t *testing.T) {
	local := time.Date(2026, 11, 23, 23, 26, 10, 0, time.Local)
	for text, want := range map[string]time.Time{
		"Mon Nov 23 23:26:10 2026":                 local,
		local.Format("2006-01-02 15:04:05 -07:00"): local,
		"2026-11-23 23:26:10Z":                     time.Date(2026, 11, 23, 23, 26, 10, 0, time.UTC),
		"":                                         {},
		"yesterday":                                {},
	} {
		if got := (History{LastFailure: text}).FailedAt(); !got.Equal(want) {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}
