package pcmk_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/leasedog/leasedog/command"
	"github.com/leasedog/leasedog/pcmk"
)

// TestStatusCaptured checks what is said of real clusters of every version in every captured situation.
func TestStatusCaptured(t *testing.T) {
	find := func(t *testing.T, st pcmk.Status, id string) pcmk.Resource {
		t.Helper()
		r, ok := st.Find(id)
		if !ok {
			t.Fatalf("resource %s is not shown", id)
		}
		return r
	}
	node := func(t *testing.T, st pcmk.Status, name string) pcmk.Node {
		t.Helper()
		n, ok := st.Node(name)
		if !ok {
			t.Fatalf("node %s is not shown", name)
		}
		return n
	}
	tests := []struct {
		situation string
		check     func(*testing.T, pcmk.Status)
	}{
		{"active", func(t *testing.T, st pcmk.Status) {
			if st.Present != pcmk.Yes || st.DC == "" || st.Quorum != pcmk.Yes || st.MaintenanceMode != pcmk.No ||
				st.StonithEnabled != pcmk.No || st.NoQuorumPolicy != "ignore" || st.Symmetric != pcmk.Yes {
				t.Errorf("summary %+v", st)
			}
			n := node(t, st, st.DC)
			if n.Online != pcmk.Yes || n.DC != pcmk.Yes || n.Unclean != pcmk.No || n.Standby != pcmk.No || n.Type != "member" {
				t.Errorf("DC %+v", n)
			}
			r := find(t, st, "r1")
			if r.Agent != "ocf:pacemaker:Dummy" || r.Role != pcmk.RoleStarted || r.Active != pcmk.Yes || r.Managed != pcmk.Yes ||
				r.Blocked != pcmk.No || r.Orphaned != pcmk.No || len(r.Nodes) != 1 {
				t.Errorf("r1 %+v", r)
			}
			roles := map[pcmk.Role]int{}
			for p := range st.Primitives() {
				if p.ID == "s1" {
					roles[p.Role]++
				}
			}
			if roles[pcmk.RolePromoted] != 1 || roles[pcmk.RoleUnpromoted] != 1 || len(roles) != 2 {
				t.Errorf("roles of the promotable clone: %v", roles)
			}
			if c := find(t, st, "ms1"); c.Kind != pcmk.KindClone || c.Promotable != pcmk.Yes || c.Unique != pcmk.No {
				t.Errorf("ms1 %+v", c)
			}
			if c := find(t, st, "cg1"); c.Kind != pcmk.KindGroup || len(c.Children) != 2 {
				t.Errorf("cloned group %+v", c)
			}
			if _, ok := st.Attributes["node1"]["master-s1"]; !ok {
				t.Errorf("attributes %v", st.Attributes)
			}
		}},
		{"maintenance-mode", func(t *testing.T, st pcmk.Status) {
			if st.MaintenanceMode != pcmk.Yes || find(t, st, "r1").Managed != pcmk.No {
				t.Errorf("maintenance %v, r1 managed %v", st.MaintenanceMode, find(t, st, "r1").Managed)
			}
		}},
		{"node-maintenance", func(t *testing.T, st pcmk.Status) {
			if node(t, st, "node1").Maintenance != pcmk.Yes || node(t, st, "node2").Maintenance != pcmk.No {
				t.Errorf("nodes %+v", st.Nodes)
			}
		}},
		{"node-standby", func(t *testing.T, st pcmk.Status) {
			if node(t, st, "node2").Standby != pcmk.Yes || node(t, st, "node1").Standby != pcmk.No {
				t.Errorf("nodes %+v", st.Nodes)
			}
		}},
		{"unmanaged", func(t *testing.T, st pcmk.Status) {
			if find(t, st, "r1").Managed != pcmk.No || find(t, st, "p1").Managed != pcmk.Yes {
				t.Errorf("r1 %v, p1 %v", find(t, st, "r1").Managed, find(t, st, "p1").Managed)
			}
		}},
		{"start-pending", func(t *testing.T, st pcmk.Status) {
			if r := find(t, st, "l1"); r.Role != pcmk.RoleUnknown || r.Pending != "Starting" {
				t.Errorf("l1 %+v", r)
			}
		}},
		{"start-failed", func(t *testing.T, st pcmk.Status) {
			failed := false
			for _, f := range st.Failures {
				failed = failed || f.Resource == "l1" && f.Node == "node1" && f.Task == "start" && f.RC == 1
			}
			count := int64(0)
			for _, h := range st.History {
				if h.Resource == "l1" && h.Node == "node1" {
					count = h.FailCount
				}
			}
			if !failed || count != 1_000_000 {
				t.Errorf("failures %+v, fail-count %d", st.Failures, count)
			}
		}},
		{"stop-failed-blocked", func(t *testing.T, st pcmk.Status) {
			if r := find(t, st, "l1"); r.Blocked != pcmk.Yes || r.Failed != pcmk.Yes || r.Target != pcmk.RoleStopped {
				t.Errorf("l1 %+v", r)
			}
		}},
		{"orphan", func(t *testing.T, st pcmk.Status) {
			if find(t, st, "p1").Orphaned != pcmk.Yes || find(t, st, "r1").Orphaned != pcmk.No {
				t.Error("p1 is not an orphan, or r1 is")
			}
		}},
		{"peer-offline", func(t *testing.T, st pcmk.Status) {
			if n := node(t, st, "node2"); n.Online != pcmk.No || n.Unclean != pcmk.No {
				t.Errorf("node2 %+v", n)
			}
		}},
		{"peer-offline-fencing-on", func(t *testing.T, st pcmk.Status) {
			if n := node(t, st, "node2"); n.Online != pcmk.No || n.Unclean != pcmk.Yes {
				t.Errorf("node2 %+v", n)
			}
		}},
		{"no-dc", func(t *testing.T, st pcmk.Status) {
			if st.Present != pcmk.No || st.DC != "" || st.Quorum != pcmk.Unknown {
				t.Errorf("DC %q present %v quorum %v", st.DC, st.Present, st.Quorum)
			}
		}},
		{"rule-held", func(t *testing.T, st pcmk.Status) {
			if st.Attributes["node1"]["leasedog-pg"] != "7" || find(t, st, "r1").Nodes[0] != "node1" {
				t.Errorf("attributes %v", st.Attributes)
			}
		}},
	}
	for _, v := range versions {
		for _, tt := range tests {
			t.Run(v+"/"+tt.situation, func(t *testing.T) { tt.check(t, status(t, v, tt.situation)) })
		}
	}
}

// TestStatusMissingIsUnknown: no attribute of a node or resource turns into a yes or no by being absent.
func TestStatusMissingIsUnknown(t *testing.T) {
	st, err := pcmk.ParseStatus([]byte(`<pacemaker-result><summary/><nodes><node name="a"/></nodes>
		<resources><resource id="r" removed="true" role="Neu" active="perhaps"/></resources><status code="0"/></pacemaker-result>`))
	if err != nil {
		t.Fatal(err)
	}
	n, r := st.Nodes[0], st.Resources[0]
	for name, b := range map[string]pcmk.Bool{"online": n.Online, "standby": n.Standby, "maintenance": n.Maintenance,
		"unclean": n.Unclean, "pending": n.Pending, "active": r.Active, "managed": r.Managed, "blocked": r.Blocked,
		"quorum": st.Quorum, "DC": st.Present, "maintenance-mode": st.MaintenanceMode, "stonith": st.StonithEnabled} {
		if b != pcmk.Unknown {
			t.Errorf("%s is %v, want unknown", name, b)
		}
	}
	if r.Role != pcmk.RoleUnknown || r.Orphaned != pcmk.Yes {
		t.Errorf("role %q, orphaned %v (3.0.2 says removed)", r.Role, r.Orphaned)
	}
}

func TestStatusRefuses(t *testing.T) {
	whole := capture(t, "3.0.0", "active.mon.xml")
	deep := strings.Repeat("<a>", 100) + strings.Repeat("</a>", 100)
	tests := map[string]string{
		"empty":         "",
		"cut off":       whole[:len(whole)/2],
		"not XML":       "Cluster Summary:\n",
		"other root":    "<crm_mon/>",
		"failed":        strings.Replace(whole, `<status code="0"`, `<status code="1"`, 1),
		"no status":     strings.Replace(whole, `<status code="0" message="OK"/>`, "", 1),
		"no nodes":      `<pacemaker-result><summary/><status code="0"/></pacemaker-result>`,
		"no resources":  `<pacemaker-result><summary><resources_configured number="1"/></summary><nodes/><status code="0"/></pacemaker-result>`,
		"unnamed node":  `<pacemaker-result><summary/><nodes><node online="true"/></nodes><resources/><status code="0"/></pacemaker-result>`,
		"twice":         `<pacemaker-result><status code="1" code="0"/></pacemaker-result>`,
		"two documents": "<a/><b/>",
		"too deep":      "<pacemaker-result>" + deep + "</pacemaker-result>",
		"entity":        `<!DOCTYPE x [<!ENTITY e "x">]><pacemaker-result a="&e;"/>`,
		"fail-count":    strings.Replace(whole, `migration-threshold="1000000"`, `migration-threshold="many"`, 1),
	}
	for name, in := range tests {
		t.Run(name, func(t *testing.T) {
			if st, err := pcmk.ParseStatus([]byte(in)); err == nil {
				t.Errorf("accepted: %+v", st)
			}
		})
	}
}

func TestStatusOfDownCluster(t *testing.T) {
	_, err := cluster(exits(102, `<pacemaker-result><status code="102"/></pacemaker-result>`)).Status(within(t))
	var e *command.Error
	if !pcmk.IsDown(err) || !errors.As(err, &e) {
		t.Errorf("got %v", err)
	}
}

func TestBaseID(t *testing.T) {
	for in, want := range map[string]string{"r1": "r1", "r1:0": "r1", "r1:12": "r1", "a:b": "a:b", ":1": ":1", "r:": "r:", "r:-1": "r:-1"} {
		if got := pcmk.BaseID(in); got != want {
			t.Errorf("BaseID(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzParseStatus(f *testing.F) {
	for _, v := range versions {
		f.Add([]byte(capture(f, v, "active.mon.xml")))
		f.Add([]byte(capture(f, v, "start-failed.mon.xml")))
	}
	f.Add([]byte("<pacemaker-result"))
	f.Fuzz(func(t *testing.T, in []byte) {
		st, err := pcmk.ParseStatus(in)
		if err != nil {
			return
		}
		for _, n := range st.Nodes {
			if n.Name == "" {
				t.Error("a node without a name")
			}
		}
	})
}

func FuzzParseCIB(f *testing.F) {
	for _, v := range versions {
		f.Add([]byte(capture(f, v, "rule-held.cib.xml")))
		f.Add([]byte(capture(f, v, "kinds.cib.xml")))
	}
	c := cluster(exits(1, ""))
	f.Fuzz(func(t *testing.T, in []byte) {
		cib, err := pcmk.ParseCIB(in)
		if err != nil {
			return
		}
		plan, err := c.PlanFrom(cib, "node1", []string{"g1", "p1", "ms1", "c1"})
		for _, p := range plan.Primitives() {
			if err != nil || p.ID == "" && p.Agent == "" && p.Unit == "" {
				t.Errorf("plan %+v beside error %v", plan, err)
			}
		}
		cib.CheckRules([]pcmk.Rule{{Lease: "pg", Resource: "g1", Role: pcmk.RoleStarted}})
		cib.LeaseConstraints("pg")
		cib.OptionChanges()
		_, _ = cib.Pending("node1")
		_, _ = cib.Attribute("node1", "leasedog-pg")
	})
}
