package lab

import (
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestCutPorts(t *testing.T) {
	for _, test := range []struct {
		cut  Cut
		want string
	}{
		{Cut{"heartbeat", BothWays}, "hb-node1"},
		{Cut{"node1-arbiter", In}, "lan-node1"},
		{Cut{"node2-arbiter", Out}, "lan-node2"},
		{Cut{"node2", BothWays}, "hb-node2 lan-node2"},
		{Cut{"arbiter", BothWays}, "lan-arbiter"},
	} {
		ports, err := test.cut.ports()
		if err != nil || strings.Join(ports, " ") != test.want {
			t.Errorf("%v: got %v, %v, want %s", test.cut, ports, err, test.want)
		}
	}
	for _, bad := range []Cut{{"node3", BothWays}, {"heartbeat", "sideways"}, {}} {
		if _, err := bad.ports(); err == nil {
			t.Errorf("%+v was taken for a cut", bad)
		}
	}
}

func TestOpenRefusesNamesThatTheKernelWouldNotTake(t *testing.T) {
	for _, id := range []string{"", "A", "a-b", "../x", "thirteenchars"} {
		if _, err := Open(id, nil); !errors.Is(err, errBadID) {
			t.Errorf("%q: got %v, want errBadID", id, err)
		}
	}
}

// Clusters live side by side only while nothing that belongs to the whole machine is named alike.
func TestNamesHoldTheClusterID(t *testing.T) {
	a, b := &Cluster{ID: "a", Repo: "/r"}, &Cluster{ID: "b", Repo: "/r"}
	for _, host := range Hosts() {
		if a.full(host) == b.full(host) || a.hostDir(host) == b.hostDir(host) {
			t.Errorf("%s has the same name in two clusters", host)
		}
	}
}

func TestClassifyEnds(t *testing.T) {
	end := func(script string) error { return exec.Command("/bin/sh", "-c", script).Run() }
	for script, want := range map[string]string{"exit 0": PoweredOff, "exit 133": WasReset, "exit 1": Crashed, "kill -9 $$": Crashed} {
		if got := (&Cluster{}).classify(end(script), 1).What; got != want {
			t.Errorf("%s: got %s, want %s", script, got, want)
		}
	}
}

func TestRenderEveryFile(t *testing.T) {
	for _, stack := range []Stack{StackPlain, StackNaive, StackClassic, StackLeasedog} {
		cfg := Config{Suite: "bookworm", Stack: stack, Profile: "lan", Token: time.Second, Systemd: true, Promotable: true}
		for _, name := range []string{"corosync.conf", "resources.xml", "leasedog.toml", "arbiter.toml", "canary", "lock"} {
			text, err := render(cfg, name)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(text), "@LOCK_URL@") || strings.Contains(string(text), "<no value>") {
				t.Errorf("%s on %s: not everything was filled in:\n%s", name, stack, text)
			}
		}
	}
}

func TestNaiveLock(t *testing.T) {
	var l naiveLock
	t0 := time.Unix(1000, 0)
	for i, step := range []struct {
		path, client string
		at           time.Duration
		want         bool
	}{
		{"/lock", "a", 0, true},
		{"/lock", "b", time.Second, false},
		{"/updatelock", "a", 5 * time.Second, true},
		{"/lock", "b", 12 * time.Second, false},
		{"/lock", "b", 13 * time.Second, true},
		{"/updatelock", "a", 14 * time.Second, false},
		{"/unlock", "a", 14 * time.Second, false},
		{"/unlock", "b", 14 * time.Second, true},
		{"/lock", "a", 14 * time.Second, true},
		{"/", "a", 14 * time.Second, false},
	} {
		if got := l.handle(step.path, step.client, t0.Add(step.at)); got != step.want {
			t.Errorf("step %d %s by %s: got %v", i, step.path, step.client, got)
		}
	}
}

func TestParseMembership(t *testing.T) {
	m, err := parseMembership(`<pacemaker-result><summary><current_dc present="true" name="node2"/></summary>
		<nodes><node name="node2" online="true"/><node name="node1" online="false"/></nodes>
		<resources><group id="g-app"><resource id="canary" role="Started"><node name="node2"/></resource>
		<resource id="vip" role="Stopped"/></group></resources></pacemaker-result>`)
	if err != nil {
		t.Fatal(err)
	}
	if m.DC != "node2" || strings.Join(m.Online, " ") != "node2" || strings.Join(m.Running["canary"], " ") != "node2" ||
		len(m.Running["vip"]) != 0 {
		t.Errorf("got %+v", m)
	}
	if _, err := parseMembership("Connection refused"); err == nil {
		t.Error("text was taken for crm_mon's XML")
	}
}
