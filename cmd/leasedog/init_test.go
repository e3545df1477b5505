package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/leasedog/leasedog/config"
	"github.com/leasedog/leasedog/guard"
	"github.com/leasedog/leasedog/pcmk"
)

// bareNode is a node with a Pacemaker that says what the files of testdata say.
func bareNode(t *testing.T, cib string) (tools string) {
	t.Helper()
	tools = t.TempDir()
	text, err := os.ReadFile("../../pcmk/testdata/2.1.5/" + cib)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(tools, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write("cib.xml", string(text))
	write("cibadmin", "#!/bin/sh\nexec cat "+tools+"/cib.xml\n")
	write("crm_mon", "#!/bin/sh\necho 'Pacemaker 2.1.5'\n")
	for _, name := range []string{"crm_node", "crm_attribute", "attrd_updater", "crm_resource", "crmadmin"} {
		write(name, "#!/bin/sh\necho node1\n")
	}
	return tools
}

// A node without anything gets a configuration and a certificate, and a second run changes neither.
func TestInitJoins(t *testing.T) {
	j, tools := newJoinable(t), bareNode(t, "active.cib.xml")
	// The paths of the certificate are not asked for: this file keeps them off this machine's /etc.
	text, err := os.ReadFile(j.conf)
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.Replace(text, []byte(`["g"]`), []byte(`["g1"]`), 1)
	text = append(text, []byte("[watchdog]\nmode = \"systemd\"\n")...)
	if err := os.WriteFile(j.conf, text, 0o600); err != nil {
		t.Fatal(err)
	}
	rc, out := j.run("", "init", "--tools", tools, "--code", j.code("erp", "node2"))
	if rc != exitUnavailable || !strings.Contains(out, "the certificate is missing") ||
		!strings.Contains(out, "hint: at the arbiter: leasedog-arbiter pki code erp node1") {
		t.Errorf("with another node's code: %d %s", rc, out)
	}
	if rc, out = j.run("", "init", "--tools", tools, "--code", "abc"); rc != exitUsage {
		t.Errorf("with no code at all: %d %s", rc, out)
	}
	rc, out = j.run(j.code("erp", "node1")+"\n", "init", "--tools", tools, "--code", "-")
	if rc != 0 || !strings.Contains(out, "this node is leasedog://erp/node1\n") {
		t.Fatalf("%d %s", rc, out)
	}
	if got := j.identity(); got != "leasedog://erp/node1" {
		t.Error(got)
	}
	before, err := os.ReadFile(j.dir + "/node.pem")
	if err != nil {
		t.Fatal(err)
	}
	if rc, out = j.run("", "init", "--tools", tools); rc != 0 || !strings.Contains(out, "certificate: "+j.dir+"/node.pem is there, unchanged") {
		t.Errorf("again: %d %s", rc, out)
	}
	if after, err := os.ReadFile(j.dir + "/node.pem"); err != nil || !bytes.Equal(before, after) {
		t.Errorf("a second run got another certificate (%v)", err)
	}
	if after, err := os.ReadFile(j.conf); err != nil || !bytes.Equal(text, after) {
		t.Errorf("a second run changed the configuration (%v)", err)
	}
}

// newSetup is a run of init that looks at a folder instead of this machine.
func newSetup(t *testing.T, cib string) (*setup, *bytes.Buffer) {
	t.Helper()
	dir, out := t.TempDir(), &bytes.Buffer{}
	s := &setup{o: &options{configPath: filepath.Join(dir, "etc", "leasedog.toml")}, tools: []string{bareNode(t, cib)},
		places: places{root: dir, etc: filepath.Join(dir, "etc"), corosync: filepath.Join(dir, "corosync.conf")}, out: out, asks: io.Discard}
	if err := os.WriteFile(s.places.corosync, []byte("totem {\n\ttoken: 1000\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return s, out
}

// lookAgain has s look at its node.
func (s *setup) lookAgain(t *testing.T) {
	t.Helper()
	var err error
	if s.now, err = readPresent(s.o.configPath); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if s.found, err = s.look(ctx); err != nil {
		t.Fatal(err)
	}
}

// configure decides and writes.
func (s *setup) configure(t *testing.T) error {
	t.Helper()
	s.lookAgain(t)
	conf, text, err := s.decide()
	if err != nil {
		return err
	}
	return s.write(conf, text)
}

func TestInitAsks(t *testing.T) {
	s, _ := newSetup(t, "active.cib.xml")
	s.in = bufio.NewReader(strings.NewReader("10.0.9.1\npg\ng1, ms1\n  abcd  \n"))
	if err := s.configure(t); err != nil {
		t.Fatal(err)
	}
	conf, err := config.LoadAgent(s.o.configPath)
	if err != nil {
		t.Fatal(err)
	}
	l, ok := conf.Lease("pg")
	if !ok || strings.Join(l.Resources, " ") != "g1 ms1" || conf.Arbiter.URLs[0] != "https://10.0.9.1:7443" || conf.Cluster != "pk" || s.code != "abcd" {
		t.Errorf("%+v, code %q", conf, s.code)
	}
	if info, err := os.Stat(s.o.configPath); err != nil || info.Mode() != 0o644 {
		t.Errorf("%v %v", info, err)
	}
	// Somebody who answers nothing has said nothing.
	s, _ = newSetup(t, "active.cib.xml")
	s.in = bufio.NewReader(strings.NewReader(""))
	if err := s.configure(t); err == nil || !strings.Contains(err.Error(), "missing: --arbiter URL; --lease") {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(s.o.configPath); !os.IsNotExist(err) {
		t.Errorf("something was written: %v", err)
	}
}

// Another configuration is kept, and replaced only with force, then beside its copy.
func TestInitReplaces(t *testing.T) {
	s, _ := newSetup(t, "active.cib.xml")
	s.urls, s.leases, s.code = []string{"10.0.9.1"}, []string{"pg=g1"}, "c"
	if err := s.configure(t); err != nil {
		t.Fatal(err)
	}
	was, err := os.ReadFile(s.o.configPath)
	if err != nil {
		t.Fatal(err)
	}
	s.urls = []string{"10.0.9.2"}
	if err := s.configure(t); err == nil || !strings.Contains(err.Error(), "says something else") {
		t.Errorf("%v", err)
	}
	if text, err := os.ReadFile(s.o.configPath); err != nil || !bytes.Equal(text, was) {
		t.Errorf("%s %v", text, err)
	}
	s.force = true
	if err := s.configure(t); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(s.o.configPath); err != nil || !strings.Contains(string(text), "10.0.9.2") {
		t.Errorf("%s %v", text, err)
	}
	if text, err := os.ReadFile(s.o.configPath + ".old"); err != nil || !bytes.Equal(text, was) {
		t.Errorf("%s %v", text, err)
	}
	// One that cannot be read as a configuration is somebody's too.
	s.force = false
	if err := os.WriteFile(s.o.configPath, []byte("cluster = \n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := s.configure(t); err == nil || !strings.Contains(err.Error(), "it is refused") {
		t.Errorf("%v", err)
	}
}

func TestInitFits(t *testing.T) {
	lease := func(resources ...string) []config.Lease { return []config.Lease{{Name: "a", Resources: resources}} }
	for _, tc := range []struct {
		name, cib, token, profile, why string
		leases                         []config.Lease
	}{
		{"no stop was seen", "active.cib.xml", "1000", "standard", "no stop of ", lease("g1")},
		{"a short stop and a short token", "rule-absent.cib.xml", "1000", "lan", "a stop of", lease("p1")},
		{"a stop that is too long for lan", "rule-absent.cib.xml", "200", "standard", "a stop of 2.", lease("g1")},
		{"a short stop and Corosync's token", "rule-absent.cib.xml", "3000", "standard", "token of 3s", lease("g1")},
		{"a token that nothing fits", "rule-absent.cib.xml", "30000", "standard", "no profile lets", lease("g1")},
		{"a token that cannot be read", "rule-absent.cib.xml", "soon", "standard", "the default, since", lease("g1")},
	} {
		s, _ := newSetup(t, tc.cib)
		if err := os.WriteFile(s.places.corosync, []byte("totem {\n\ttoken: "+tc.token+"\n}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		s.lookAgain(t)
		got, why, err := s.fits(tc.leases)
		if err != nil || got != tc.profile || !strings.Contains(why, tc.why) {
			t.Errorf("%s: %s %s %v", tc.name, got, why, err)
		}
	}
}

func TestInitWatchdog(t *testing.T) {
	s, _ := newSetup(t, "active.cib.xml")
	s.lookAgain(t)
	required := config.Agent{Watchdog: config.Watchdog{Mode: config.WatchdogRequired, Device: config.DeviceAuto}}
	if err := s.checkWatchdog(required); err == nil || !strings.Contains(err.Error(), "no kernel watchdog") {
		t.Errorf("%v", err)
	}
	if err := s.checkWatchdog(config.Agent{Watchdog: config.Watchdog{Mode: config.WatchdogSystemd}}); err != nil {
		t.Error(err)
	}
	folder := filepath.Join(s.places.root, "sys/class/watchdog/watchdog0")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string]string{"identity": "Software Watchdog", "state": "inactive", "nowayout": "0", "options": "0x8180"} {
		if err := os.WriteFile(filepath.Join(folder, file), []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.lookAgain(t)
	if err := s.checkWatchdog(required); err != nil {
		t.Error(err)
	}
	s.found.watchdogs = []guard.WatchdogInfo{{Path: "/dev/watchdog9", Owner: "leasedog (pid 7)", Active: guard.Yes}}
	if err := s.checkWatchdog(required); err != nil {
		t.Errorf("the guard of a lease that is held has it open: %v", err)
	}
}

func TestInitSoftdog(t *testing.T) {
	s, out := newSetup(t, "active.cib.xml")
	s.dryRun = true
	if err := s.loadSoftdog(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.places.etc); !os.IsNotExist(err) {
		t.Errorf("a dry run wrote something: %v", err)
	}
	s.dryRun = false
	for range 2 {
		if err := s.loadSoftdog(); err != nil {
			t.Fatal(err)
		}
	}
	module := filepath.Join(s.places.etc, "modules-load.d/leasedog-softdog.conf")
	if text, err := os.ReadFile(module); err != nil || !strings.Contains(string(text), "\nsoftdog\n") {
		t.Errorf("%s %v", text, err)
	}
	options, err := os.ReadFile(filepath.Join(s.places.etc, "modprobe.d/leasedog-softdog.conf"))
	if err != nil || !strings.Contains(string(options), "soft_noboot=0") {
		t.Errorf("%s %v", options, err)
	}
	if !strings.Contains(out.String(), "is there, unchanged") {
		t.Error(out)
	}
	if err := os.WriteFile(module, []byte("# by somebody\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.loadSoftdog(); err == nil {
		t.Error("somebody else's file was replaced")
	}
	s.force = true
	if err := s.loadSoftdog(); err != nil {
		t.Error(err)
	}
}

// What init takes for stops is what Pacemaker's history says, promoted instances by their demotion.
func TestInitStops(t *testing.T) {
	s, _ := newSetup(t, "rule-absent.cib.xml")
	s.lookAgain(t)
	took := s.found.cib.Took("stop")
	st, err := s.stopsOf(config.Lease{Name: "a", Resources: []string{"g1"}})
	if err != nil {
		t.Fatal(err)
	}
	plan, err := s.found.cluster.PlanFrom(s.found.cib, "node1", []string{"g1"})
	if err != nil {
		t.Fatal(err)
	}
	var want, most time.Duration
	for _, p := range plan.Primitives() {
		want += took[p.ID]
		most += p.Timeout("stop")
	}
	if len(plan.Primitives()) < 2 || st.took != want || st.most != most || len(st.unseen) != 0 {
		t.Errorf("%+v, want %v of %v", st, want, most)
	}
	if plan.Primitives()[0].Role != pcmk.RoleStarted {
		t.Error("g1 is no group any more: this proves nothing")
	}
}
