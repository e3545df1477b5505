package agent

import (
	"strings"
	"testing"
	"time"

	"github.com/leasedog/leasedog/lease"
	"github.com/leasedog/leasedog/pcmk"
)

// servingStatus is a healthy pair of which node1 runs the group.
func servingStatus(change func(*pcmk.Status)) pcmk.Status {
	running := func(id string) pcmk.Resource {
		return pcmk.Resource{ID: id, Kind: pcmk.KindPrimitive, Role: pcmk.RoleStarted, Nodes: []string{"node1"},
			Active: pcmk.Yes, Managed: pcmk.Yes, Failed: pcmk.No}
	}
	node := func(name string) pcmk.Node {
		return pcmk.Node{Name: name, Online: pcmk.Yes, Standby: pcmk.No, Maintenance: pcmk.No, Shutdown: pcmk.No, Pending: pcmk.No}
	}
	st := pcmk.Status{MaintenanceMode: pcmk.No, StopAll: pcmk.No, Nodes: []pcmk.Node{node("node1"), node("node2")},
		Resources: []pcmk.Resource{{ID: "g", Kind: pcmk.KindGroup, Children: []pcmk.Resource{running("r1"), running("r2")}}}}
	if change != nil {
		change(&st)
	}
	return st
}

func member(st *pcmk.Status, i int) *pcmk.Resource { return &st.Resources[0].Children[i] }

func gone(st *pcmk.Status) *pcmk.Resource {
	r := member(st, 1)
	r.Role, r.Nodes, r.Active = pcmk.RoleStopped, nil, pcmk.No
	return r
}

func spent(st *pcmk.Status) {
	gone(st)
	st.History = []pcmk.History{{Node: "node1", Resource: "r2", FailCount: 3, MigrationThreshold: 3}}
}

// startFails is a start that failed a while ago, and another one that is under way.
func startFails(st *pcmk.Status, task string, ago time.Duration) {
	gone(st)
	st.History = []pcmk.History{{Node: "node1", Resource: "r2", FailCount: 3, MigrationThreshold: 1_000_000,
		LastFailure: time.Now().Add(-ago).Format(time.ANSIC)}}
	st.Failures = []pcmk.Failure{{Node: "node1", Resource: "r2", Task: task, RC: 1}}
}

func TestServing(t *testing.T) {
	moved, err := pcmk.ParseCIB([]byte(`<cib><configuration><crm_config/><nodes/><resources/><constraints>` +
		`<rsc_location id="cli-prefer-g" rsc="g" node="node2" score="INFINITY"/></constraints></configuration></cib>`))
	must(t, err)
	busy := pcmk.DC{Node: "node2", Activity: pcmk.Transition}
	for _, tc := range []struct {
		name    string
		status  func(*pcmk.Status)
		around  func(*cluster, *fakeCluster)
		running lease.Tri
		maint   lease.Tri
		why     string // part of CannotRun; "" for none
		planned bool
	}{
		{name: "healthy", running: lease.Yes, maint: lease.No},
		{name: "Pacemaker does not answer", around: func(c *cluster, _ *fakeCluster) { c.statusErr = errDown }},
		{name: "standby", status: func(st *pcmk.Status) { st.Nodes[0].Standby = pcmk.Yes }, running: lease.Yes, maint: lease.No,
			why: "in standby", planned: true},
		{name: "it joins, which is shown as standby", status: func(st *pcmk.Status) { st.Nodes[0].Standby, st.Nodes[0].Pending = pcmk.Yes, pcmk.Yes },
			running: lease.Yes, maint: lease.No},
		{name: "the peer's standby", status: func(st *pcmk.Status) { st.Nodes[1].Standby = pcmk.Yes }, running: lease.Yes, maint: lease.No},
		{name: "being stopped", around: func(c *cluster, _ *fakeCluster) { c.stopping = true }, running: lease.Yes, maint: lease.No,
			why: "being stopped", planned: true},
		{name: "stopped", around: func(c *cluster, _ *fakeCluster) { c.down, c.stopping, c.statusErr = true, true, errDown },
			why: "being stopped", planned: true},
		{name: "crashed", around: func(c *cluster, _ *fakeCluster) { c.down, c.statusErr = true, errDown }, why: "does not run on this node"},
		{name: "moved by crm_resource", around: func(c *cluster, _ *fakeCluster) { c.cib = moved }, running: lease.Yes, maint: lease.No,
			why: "is to be on node2", planned: true},
		{name: "failed too often", status: spent, running: lease.No, maint: lease.No, why: "r2 failed here 3 times"},
		{name: "failed too often on the peer", status: func(st *pcmk.Status) { spent(st); st.History[0].Node = "node2" },
			around: func(_ *cluster, f *fakeCluster) { f.dc = busy }, running: lease.No, maint: lease.No},
		{name: "its start fails again and again", status: func(st *pcmk.Status) { startFails(st, "start", time.Second) },
			around: func(_ *cluster, f *fakeCluster) { f.dc = busy }, running: lease.No, maint: lease.No, why: "start of r2 fails here"},
		{name: "its start failed on the peer", status: func(st *pcmk.Status) {
			startFails(st, "start", time.Second)
			st.Failures[0].Node = "node2"
		}, around: func(_ *cluster, f *fakeCluster) { f.dc = busy }, running: lease.No, maint: lease.No},
		{name: "its start failed long ago", status: func(st *pcmk.Status) { startFails(st, "start", time.Hour) },
			around: func(_ *cluster, f *fakeCluster) { f.dc = busy }, running: lease.No, maint: lease.No},
		{name: "its monitor failed, and it is started", status: func(st *pcmk.Status) { startFails(st, "monitor", time.Second) },
			around: func(_ *cluster, f *fakeCluster) { f.dc = busy }, running: lease.No, maint: lease.No},
		{name: "not run although at rest", status: func(st *pcmk.Status) { gone(st) }, running: lease.No, maint: lease.No,
			why: "does not run r2 here"},
		{name: "being moved or started", status: func(st *pcmk.Status) { gone(st) },
			around: func(_ *cluster, f *fakeCluster) { f.dc = busy }, running: lease.No, maint: lease.No},
		{name: "the DC is not known", status: func(st *pcmk.Status) { gone(st) },
			around: func(_ *cluster, f *fakeCluster) { f.dcErr = errDown }, running: lease.No, maint: lease.No},
		{name: "stopped by its target role", status: func(st *pcmk.Status) { gone(st).Target = pcmk.RoleStopped },
			running: lease.No, maint: lease.No},
		{name: "one is not managed", status: func(st *pcmk.Status) { gone(st).Managed = pcmk.No }, running: lease.No, maint: lease.No},
		{name: "everything is stopped", status: func(st *pcmk.Status) { spent(st); st.StopAll = pcmk.Yes }, running: lease.No, maint: lease.No},
		{name: "maintenance mode", status: func(st *pcmk.Status) { spent(st); st.MaintenanceMode = pcmk.Yes },
			running: lease.No, maint: lease.Yes},
		{name: "maintenance of this node", status: func(st *pcmk.Status) { st.Nodes[0].Maintenance = pcmk.Yes },
			running: lease.Yes, maint: lease.Yes},
		{name: "nothing is managed", status: func(st *pcmk.Status) { member(st, 0).Managed, member(st, 1).Managed = pcmk.No, pcmk.No },
			running: lease.Yes, maint: lease.Yes},
		{name: "maintenance is not shown", status: func(st *pcmk.Status) { st.MaintenanceMode = pcmk.Unknown },
			running: lease.Yes, maint: lease.Unknown},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := idleCluster()
			k := testKeeper(t, f, procDir(t, controlled))
			k.conf.Resources = []string{"g"}
			c := cluster{status: servingStatus(tc.status), cibErr: errDown}
			if tc.around != nil {
				tc.around(&c, f)
			}
			if c.cib != nil {
				c.cibErr = nil
			}
			var r lease.Reading
			k.serving(t.Context(), twoPrimitives, nil, c, &r)
			if r.Running != tc.running || r.Maintenance != tc.maint || r.Planned != tc.planned ||
				(r.CannotRun == "") != (tc.why == "") || !strings.Contains(r.CannotRun, tc.why) {
				t.Errorf("got running %v, maintenance %v, planned %v, %q", r.Running, r.Maintenance, r.Planned, r.CannotRun)
			}
		})
	}
}

// A failure counts from when it happened, not from when it was seen; a clock that was stepped can only do that earlier.
func TestServing_FailedSince(t *testing.T) {
	k := testKeeper(t, idleCluster(), procDir(t, controlled))
	now := k.a.opt.Now()
	if at := k.a.instantOf(time.Now().Add(-4 * time.Second)); now.Sub(at) < 3*time.Second || now.Sub(at) > 5*time.Second {
		t.Errorf("four seconds ago is %v before now", now.Sub(at))
	}
	for name, wall := range map[string]time.Time{"unknown": {}, "in the future": time.Now().Add(time.Hour)} {
		if at := k.a.instantOf(wall); at != 0 {
			t.Errorf("%s: %v", name, at)
		}
	}
}
