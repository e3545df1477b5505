package pcmk_test

import (
	"strings"
	"testing"

	"github.com/leasedog/leasedog/pcmk"
)

func TestReadAttributeCaptured(t *testing.T) {
	tests := []struct {
		situation string
		want      pcmk.Attribute
	}{
		{"rule-held", pcmk.Attribute{State: pcmk.Present, Value: "7"}},
		{"rule-absent", pcmk.Attribute{State: pcmk.Present, Value: ""}}, // set empty once, by hand
		{"rule-empty", pcmk.Attribute{State: pcmk.Present, Value: ""}},
		{"after-start", pcmk.Attribute{State: pcmk.Absent}},
	}
	for _, v := range versions {
		for _, tt := range tests {
			t.Run(v+"/"+tt.situation, func(t *testing.T) {
				f := exits(0, nodeState(t, v, tt.situation, "node1"))
				got, err := cluster(f).ReadAttribute(within(t), "node1", "leasedog-pg")
				if err != nil || got != tt.want {
					t.Errorf("got %+v, %v, want %+v", got, err, tt.want)
				}
				if !f.asked("cibadmin --query --local --xpath /cib/status/node_state[@uname='node1']") {
					t.Errorf("asked %q", f.calls)
				}
				if got, err = cib(t, v, tt.situation).Attribute("node1", "leasedog-pg"); err != nil || got != tt.want {
					t.Errorf("from the CIB: %+v, %v, want %+v", got, err, tt.want)
				}
			})
		}
	}
}

// TestReadAttributeUnknown: absence is said only when the node's own state section was there. Each of these has been taken
// for "absent" by a tool or would be by a careless parser.
func TestReadAttributeUnknown(t *testing.T) {
	const nv = `<nvpair name="leasedog-pg" value="7"/>`
	state := func(node, body string) string {
		return `<node_state uname="` + node + `"><transient_attributes><instance_attributes>` + body +
			`</instance_attributes></transient_attributes></node_state>`
	}
	tests := map[string]*fake{
		"hung":             hung(),
		"no such section":  exits(105, ""),
		"daemon down":      exits(102, ""),
		"generic error":    exits(1, state("node1", "")),
		"empty":            exits(0, ""),
		"another node":     exits(0, state("node2", "")),
		"several nodes":    exits(0, "<xpath-query>"+state("node1", nv)+state("node2", nv)+"</xpath-query>"),
		"cut off":          exits(0, state("node1", nv)[:60]),
		"two values":       exits(0, state("node1", nv+`<nvpair name="leasedog-pg" value="8"/>`)),
		"without a value":  exits(0, state("node1", `<nvpair name="leasedog-pg"/>`)),
		"garbage after it": exits(0, state("node1", "")+"error: lost connection"),
	}
	for name, f := range tests {
		t.Run(name, func(t *testing.T) {
			a, err := cluster(f).ReadAttribute(within(t), "node1", "leasedog-pg")
			if name == "garbage after it" {
				// Text after a complete document is no reason to doubt the document.
				if err != nil || a.State != pcmk.Absent {
					t.Errorf("got %+v, %v", a, err)
				}
				return
			}
			if err == nil || a.State != pcmk.StateUnknown {
				t.Errorf("got %+v, %v, want an error and unknown", a, err)
			}
		})
	}
	if _, err := cluster(exits(0, state("n'1", ""))).ReadAttribute(within(t), "n'1", "x"); err == nil {
		t.Error("a node name with a quote was put into an XPath")
	}
	for _, v := range versions {
		if a, err := cib(t, v, "active").Attribute("node9", "leasedog-pg"); err == nil {
			t.Errorf("%s: attribute of an unknown node is %v", v, a.State)
		}
	}
}

// TestPutIsNotApplied: exit code 0 of attrd_updater is no value in the CIB. The write says nothing of it, the reading does.
func TestPutIsNotApplied(t *testing.T) {
	f := says(map[string]string{"attrd_updater": "", "cibadmin": nodeState(t, "2.1.5", "after-start", "node1")})
	c := cluster(f)
	if err := c.PutAttribute(within(t), "leasedog-pg", "7"); err != nil {
		t.Fatal(err)
	}
	if a, err := c.ReadAttribute(within(t), "node1", "leasedog-pg"); err != nil || a.State != pcmk.Absent {
		t.Errorf("got %+v, %v", a, err)
	}
	if err := c.DeleteAttribute(within(t), "leasedog-pg"); err != nil {
		t.Fatal(err)
	}
	want := "attrd_updater -n leasedog-pg -U 7|attrd_updater -n leasedog-pg -D"
	if got := f.calls[0] + "|" + f.calls[2]; got != want {
		t.Errorf("asked %q, want %q", got, want)
	}
}

func TestPutRefuses(t *testing.T) {
	f := exits(0, "")
	for _, tt := range [][2]string{{"", "1"}, {"a b", "1"}, {"-n", "1"}, {"x", ""}, {"x", "-1"}, {"x", "x++"}, {"x", "x+=1"}} {
		if err := cluster(f).PutAttribute(within(t), tt[0], tt[1]); err == nil {
			t.Errorf("put %q=%q was accepted", tt[0], tt[1])
		}
	}
	if len(f.calls) > 0 {
		t.Errorf("a tool was called: %q", f.calls)
	}
}

func TestDCState(t *testing.T) {
	tests := []struct {
		name, dc, state string
		want            pcmk.DC
		fails           bool
	}{
		{"2.0 idle", "Designated Controller is: node1\n", "Status of crmd@node1: S_IDLE (ok)\n",
			pcmk.DC{Node: "node1", State: "S_IDLE", Activity: pcmk.Idle}, false},
		{"2.0 busy", "Designated Controller is: node1\n", "Status of crmd@node1: S_TRANSITION_ENGINE (ok)\n",
			pcmk.DC{Node: "node1", State: "S_TRANSITION_ENGINE", Activity: pcmk.Transition}, false},
		{"2.1 idle", "Designated Controller is: node1\n", "Controller on node1 in state S_IDLE: ok\n",
			pcmk.DC{Node: "node1", State: "S_IDLE", Activity: pcmk.Idle}, false},
		{"with a version", "Designated Controller is: node1 2.1.8\n", "Controller on node1 in state S_POLICY_ENGINE: ok\n",
			pcmk.DC{Node: "node1", State: "S_POLICY_ENGINE", Activity: pcmk.Transition}, false},
		{"no longer DC", "Designated Controller is: node1\n", "Controller on node1 in state S_NOT_DC: ok\n",
			pcmk.DC{Node: "node1", State: "S_NOT_DC", Activity: pcmk.NotDC}, false},
		{"election", "Designated Controller is: node1\n", "Controller on node1 in state S_ELECTION: ok\n",
			pcmk.DC{Node: "node1", State: "S_ELECTION", Activity: pcmk.Electing}, false},
		{"a state nobody knows", "Designated Controller is: node1\n", "Controller on node1 in state S_NEW: ok\n",
			pcmk.DC{Node: "node1", State: "S_NEW"}, false},
		{"no DC", "error: DC not yet elected\n", "", pcmk.DC{Activity: pcmk.Electing}, false},
		{"another node's answer", "Designated Controller is: node1\n", "Controller on node2 in state S_IDLE: ok\n", pcmk.DC{}, true},
		{"not ok", "Designated Controller is: node1\n", "Controller on node1 in state S_IDLE: failed\n", pcmk.DC{}, true},
		{"a name in the answer", "Designated Controller is: S_IDLE\n", "Controller on node1\n", pcmk.DC{}, true},
		{"nothing", "", "", pcmk.DC{}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := says(map[string]string{"crmadmin -D": tt.dc, "crmadmin -S": tt.state})
			got, err := cluster(f).DCState(within(t))
			if tt.fails {
				if err == nil || got.Activity != pcmk.ActivityUnknown {
					t.Errorf("got %+v, %v, want an error and unknown", got, err)
				}
				return
			}
			if err != nil || got != tt.want {
				t.Errorf("got %+v, %v, want %+v", got, err, tt.want)
			}
			if got.Node != "" && !f.asked("crmadmin -S "+got.Node) {
				t.Errorf("asked %q", f.calls)
			}
		})
	}
	if got, err := cluster(exits(114, "")).DCState(within(t)); err != nil || got.Activity != pcmk.Electing {
		t.Errorf("exit code 114: %+v, %v", got, err)
	}
	// The DC answers who it is and then hangs: its name without what it does is not idle.
	n := 0
	f := &fake{answer: func(string) (string, int) {
		if n++; n == 1 {
			return "Designated Controller is: node2\n", 0
		}
		return "", 124
	}}
	if got, err := cluster(f).DCState(within(t)); err == nil || got.Node != "node2" || got.Activity != pcmk.ActivityUnknown {
		t.Errorf("hung DC: %+v, %v", got, err)
	}
}

func TestPendingCaptured(t *testing.T) {
	for _, v := range versions {
		ops, err := cib(t, v, "start-pending").Pending("node1", "r1", "l1")
		if err != nil || len(ops) != 1 || ops[0] != (pcmk.PendingOp{Resource: "l1", Task: "start", Interval: "0"}) {
			t.Errorf("%s: %+v, %v", v, ops, err)
		}
		if ops, err = cib(t, v, "start-pending").Pending("node1", "r1"); err != nil || len(ops) != 0 {
			t.Errorf("%s: of r1 alone %+v, %v", v, ops, err)
		}
		if ops, err = cib(t, v, "active").Pending("node1"); err != nil || len(ops) != 0 {
			t.Errorf("%s: idle cluster %+v, %v", v, ops, err)
		}
		if ops, err = cib(t, v, "active").Pending("node9"); err == nil {
			t.Errorf("%s: of an unknown node %+v and no error", v, ops)
		}
		broken := strings.ReplaceAll(capture(t, v, "active.cib.xml"), `op-status="0"`, "")
		c, err := pcmk.ParseCIB([]byte(broken))
		if err != nil {
			t.Fatal(err)
		}
		if ops, err = c.Pending("node1"); err == nil {
			t.Errorf("%s: without op-status %+v and no error", v, ops)
		}
	}
}
