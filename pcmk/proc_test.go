package pcmk_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/leasedog/leasedog/pcmk"
)

// process is one entry of a made-up /proc.
type process struct {
	pid, parent  int
	exe          string // "" has none, as a kernel thread
	args, env    []string
	start        int
	withoutFiles bool // ends between the listing and the look
}

func fakeProc(t *testing.T, ps ...process) string {
	t.Helper()
	root := t.TempDir()
	for _, p := range append(ps, process{pid: 1, exe: "/usr/lib/systemd/systemd", args: []string{"/sbin/init"}}) {
		dir := filepath.Join(root, fmt.Sprint(p.pid))
		must(t, os.Mkdir(dir, 0o755))
		if p.withoutFiles {
			continue
		}
		if p.exe != "" {
			must(t, os.Symlink(p.exe, filepath.Join(dir, "exe")))
		}
		join := func(s []string) []byte {
			if len(s) == 0 {
				return nil
			}
			return []byte(strings.Join(s, "\x00") + "\x00")
		}
		must(t, os.WriteFile(filepath.Join(dir, "cmdline"), join(p.args), 0o644))
		must(t, os.WriteFile(filepath.Join(dir, "environ"), join(p.env), 0o644))
		stat := fmt.Sprintf("%d (a) b) S %d 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 %d 0 0\n", p.pid, p.parent, p.start)
		must(t, os.WriteFile(filepath.Join(dir, "stat"), []byte(stat), 0o644))
	}
	must(t, os.Mkdir(filepath.Join(root, "sys"), 0o755))
	return root
}

const (
	dummy = "/usr/lib/ocf/resource.d/pacemaker/Dummy"
	lib   = "/usr/lib/pacemaker/"
)

func TestAgentProcesses(t *testing.T) {
	prims := []pcmk.Primitive{
		{ID: "r1", Class: "ocf", Agent: dummy}, {ID: "s1", Class: "ocf", Agent: dummy},
		{ID: "l1", Class: "lsb", Agent: "/etc/init.d/pklsb"}, {ID: "u1", Class: "systemd", Unit: "u.service"},
	}
	inst := func(id string) []string { return []string{"PATH=/bin", "OCF_RESOURCE_INSTANCE=" + id, "X=y"} }
	const sh = "/usr/bin/dash"
	tests := []struct {
		name string
		p    process
		want string // resource/agent/action, "" if not listed
	}{
		{"agent at work", process{exe: sh, args: []string{"/bin/sh", dummy, "start"}, env: inst("r1")}, "r1/true/start"},
		{"orphan of a killed executor", process{parent: 1, exe: sh, args: []string{"/bin/sh", dummy, "start"}, env: inst("r1")}, "r1/true/start"},
		{"clone instance", process{exe: sh, args: []string{"/bin/sh", dummy, "promote"}, env: inst("s1:0")}, "s1/true/promote"},
		{"shell option before the path", process{exe: sh, args: []string{"/bin/bash", "-e", dummy, "stop"}, env: inst("r1")}, "r1/true/stop"},
		{"binary agent", process{exe: dummy, args: []string{dummy, "monitor"}, env: inst("r1")}, "r1/true/monitor"},
		{"path written otherwise", process{exe: sh, args: []string{"sh", "/usr/lib/ocf//resource.d/pacemaker/Dummy", "stop"}, env: inst("r1")}, "r1/true/stop"},
		{"path without an action", process{exe: sh, args: []string{"sh", dummy}, env: inst("r1")}, "r1/true/?"},
		{"database that an agent started", process{exe: "/usr/bin/postgres", args: []string{"postgres", "-D", "/data"}, env: inst("r1")}, "r1/false/"},
		{"tool run by an agent", process{exe: "/usr/bin/mount", args: []string{"mount", "/dev/x", "/mnt"}, env: inst("r1")}, "r1/false/"},
		{"another resource", process{exe: sh, args: []string{"/bin/sh", dummy, "start"}, env: inst("r2")}, ""},
		{"a name that begins alike", process{exe: sh, args: []string{"/bin/sh", dummy, "start"}, env: inst("r11")}, ""},
		{"an editor on the agent", process{exe: "/usr/bin/vi", args: []string{"vi", dummy}}, ""},
		{"init script", process{exe: sh, args: []string{"/bin/sh", "/etc/init.d/pklsb", "start"}}, "l1/true/start"},
		{"kernel thread", process{}, ""},
		{"ended meanwhile", process{withoutFiles: true}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.p.pid, tt.p.start = 4711, 99
			got, err := pcmk.AgentProcesses(fakeProc(t, tt.p), prims)
			if err != nil {
				t.Fatal(err)
			}
			said := ""
			for _, a := range got {
				said += fmt.Sprintf("%s/%v/%s", a.Resource, a.Agent, a.Action)
				if a.PID != 4711 || a.Start != 99 {
					t.Errorf("process %+v", a.Process)
				}
			}
			if said != tt.want {
				t.Errorf("got %q, want %q", said, tt.want)
			}
		})
	}
}

// TestAgentBeforeExec: the executor's child that has not yet become the agent is counted, the executor itself is not.
func TestAgentBeforeExec(t *testing.T) {
	root := fakeProc(t, process{pid: 10, parent: 1, exe: "/usr/sbin/pacemakerd"},
		process{pid: 11, parent: 10, exe: lib + "pacemaker-execd"}, process{pid: 12, parent: 11, exe: lib + "pacemaker-execd"})
	got, err := pcmk.AgentProcesses(root, []pcmk.Primitive{{ID: "r1", Class: "ocf", Agent: dummy}})
	if err != nil || len(got) != 1 || got[0].PID != 12 || !got[0].Agent || got[0].Resource != "" {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestDaemons(t *testing.T) {
	root := fakeProc(t,
		process{pid: 10, exe: "/usr/sbin/pacemakerd"}, process{pid: 11, exe: lib + "pacemaker-execd", start: 7},
		process{pid: 12, exe: lib + "pacemaker-controld (deleted)"}, // upgraded while it runs
		process{pid: 13, exe: "/usr/bin/vi", args: []string{"pacemaker-based"}}, process{pid: 14}, process{pid: 15, withoutFiles: true})
	got, err := pcmk.Daemons(root)
	if err != nil || len(got) != 3 || got[pcmk.Execd][0] != (pcmk.Process{PID: 11, Start: 7}) || len(got[pcmk.Controld]) != 1 ||
		len(got[pcmk.Pacemakerd]) != 1 {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, err = pcmk.Daemons(fakeProc(t)); err != nil || len(got) != 0 {
		t.Errorf("without Pacemaker: %+v, %v", got, err)
	}
}

// TestProcUnreadable: what cannot be looked at is an error, never "nothing runs".
func TestProcUnreadable(t *testing.T) {
	prims := []pcmk.Primitive{{ID: "r1", Class: "ocf", Agent: dummy}}
	check := func(name, root string) {
		t.Helper()
		if got, err := pcmk.AgentProcesses(root, prims); err == nil {
			t.Errorf("%s: agents %+v and no error", name, got)
		}
	}
	check("missing", filepath.Join(t.TempDir(), "proc"))
	check("empty", t.TempDir())
	if got, err := pcmk.Daemons(t.TempDir()); err == nil {
		t.Errorf("empty: daemons %+v and no error", got)
	}
	root := fakeProc(t, process{pid: 5, exe: "/bin/x"})
	must(t, os.Remove(filepath.Join(root, "5", "environ")))
	must(t, os.Mkdir(filepath.Join(root, "5", "environ"), 0o755)) // reading it fails, and not because it is gone
	check("environ", root)
	root = fakeProc(t, process{pid: 5, exe: lib + "pacemaker-execd"})
	must(t, os.WriteFile(filepath.Join(root, "5", "stat"), []byte("5 (x"), 0o644))
	check("stat", root)
	if got, err := pcmk.Daemons(root); err == nil {
		t.Errorf("stat: daemons %+v and no error", got)
	}
	root = fakeProc(t)
	must(t, os.Mkdir(filepath.Join(root, "6"), 0o755))
	must(t, os.WriteFile(filepath.Join(root, "6", "exe"), nil, 0o644)) // readlink: invalid argument
	check("exe", root)
	if got, err := pcmk.Daemons(root); err == nil {
		t.Errorf("exe: daemons %+v and no error", got)
	}
}

// TestProcForReal finds and kills a real process that looks like an agent, by the real /proc.
func TestProcForReal(t *testing.T) {
	agent := filepath.Join(t.TempDir(), "Dummy")
	must(t, os.WriteFile(agent, []byte("#!/bin/sh\nwhile read x; do echo $x; done\n"), 0o755))
	stdin, in, err := os.Pipe()
	must(t, err)
	out, stdout, err := os.Pipe()
	must(t, err)
	p, err := os.StartProcess("/bin/sh", []string{"/bin/sh", agent, "start"}, &os.ProcAttr{
		Env: []string{"OCF_RESOURCE_INSTANCE=leasedog-test:0"}, Files: []*os.File{stdin, stdout, nil}})
	must(t, err)
	for _, f := range []*os.File{stdin, stdout} {
		must(t, f.Close())
	}
	defer out.Close()
	defer in.Close() // ends it, should the test fail
	answers := func() {
		t.Helper()
		b := make([]byte, 10)
		_, err := in.WriteString("a\n")
		must(t, err)
		if n, err := out.Read(b); err != nil || string(b[:n]) != "a\n" {
			t.Fatalf("the process does not answer: %q, %v", b[:n], err)
		}
	}
	answers()
	prims := []pcmk.Primitive{{ID: "leasedog-test", Class: "ocf", Agent: agent}}
	found, err := pcmk.AgentProcesses(pcmk.DefaultProc, prims)
	if err != nil {
		t.Skipf("other processes cannot be read here (not root?): %v", err)
	}
	if len(found) != 1 || !found[0].Agent || found[0].PID != p.Pid || found[0].Action != "start" {
		t.Fatalf("found %+v, want process %d", found, p.Pid)
	}
	// Another start time is another process: it must live.
	must(t, pcmk.Kill(pcmk.DefaultProc, pcmk.Process{PID: p.Pid, Start: 1}))
	answers()
	must(t, pcmk.Kill(pcmk.DefaultProc, found[0].Process))
	state, err := p.Wait()
	must(t, err)
	if ws, ok := state.Sys().(syscall.WaitStatus); !ok || ws.Signal() != syscall.SIGKILL {
		t.Errorf("it ended by %v", state)
	}
	must(t, pcmk.Kill(pcmk.DefaultProc, found[0].Process)) // gone: nothing to do
}

func TestKillDaemonsRefusesOthers(t *testing.T) {
	for _, name := range []string{"", "systemd", "postgres", "corosync"} {
		if _, err := pcmk.KillDaemons(fakeProc(t), name); err == nil {
			t.Errorf("%q was accepted as a daemon of Pacemaker", name)
		}
	}
	killed, err := pcmk.KillDaemons(fakeProc(t), pcmk.Controld, pcmk.Execd)
	if err != nil || len(killed) != 0 {
		t.Errorf("killed %+v, %v, where none runs", killed, err)
	}
}
