package pcmk

import (
	"os"
	"reflect"
	"testing"
	"time"
)

func TestTook(t *testing.T) {
	for _, version := range []string{"2.0.5", "2.1.5", "3.0.0"} {
		text, err := os.ReadFile("testdata/" + version + "/rule-absent.cib.xml")
		if err != nil {
			t.Fatal(err)
		}
		cib, err := ParseCIB(text)
		if err != nil {
			t.Fatal(err)
		}
		// u1 waits for 2 s in its stop, on both nodes.
		if took := cib.Took("stop"); took["u1"] < 2*time.Second || took["u1"] > 4*time.Second || took["r1"] <= 0 || took["r1"] > time.Second {
			t.Errorf("%s: %v", version, took)
		}
		if took := cib.Took("explode"); len(took) != 0 {
			t.Errorf("%s: %v", version, took)
		}
	}
}

func TestTookCountsWhatSucceededOnly(t *testing.T) {
	const op = `<lrm_rsc_op id="x" operation="stop" rc-code="`
	cib, err := ParseCIB([]byte(`<cib><configuration><crm_config/><nodes/><resources/><constraints/></configuration><status>` +
		`<node_state uname="a"><lrm><lrm_resources><lrm_resource id="slow">` + op + `0" op-status="0" exec-time="1500"/></lrm_resource>` +
		`<lrm_resource id="failed">` + op + `1" op-status="0" exec-time="20000"/></lrm_resource>` +
		`<lrm_resource id="pending">` + op + `0" op-status="-1" exec-time="0"/></lrm_resource>` +
		`<lrm_resource id="odd">` + op + `0" op-status="0" exec-time="-4"/></lrm_resource></lrm_resources></lrm></node_state>` +
		`<node_state uname="b"><lrm><lrm_resources><lrm_resource id="slow">` + op + `0" op-status="0" exec-time="900"/></lrm_resource>` +
		`</lrm_resources></lrm></node_state></status></cib>`))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := cib.Took("stop"), map[string]time.Duration{"slow": 1500 * time.Millisecond}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestResourceIDs(t *testing.T) {
	if got := orderCIB(t, "", leasePrim+`<template id="t"/>`, "", "").ResourceIDs(); !reflect.DeepEqual(got, []string{"g", "lease"}) {
		t.Error(got)
	}
}
