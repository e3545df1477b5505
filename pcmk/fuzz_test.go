package pcmk

import (
	"math"
	"os"
	"path/filepath"
	"testing"
)

// FuzzAnswers: what Pacemaker's tools say in words is either understood whole, or it is unknown.
func FuzzAnswers(f *testing.F) {
	for _, text := range []string{
		"Designated Controller is: node1\n", "Designated Controller is: node1 3.0.0\n", "DC not yet elected\n", "Designated Controller is: not yet elected\n",
		"Status of crmd@node1: S_IDLE (ok)\n", "Controller on node1 in state S_IDLE: ok\n", "Controller on node1 in state S_TRANSITION_ENGINE: ok\n",
		"Operation monitor for p1 (ocf:heartbeat:Dummy) returned: 'not running' (7)\n",
		"Operation force-check for p1:0 (ocf:heartbeat:Dummy) returned 0 (ok)\n",
		"20s", "1500ms", "9223372036854775807h", "+infinity", "-INFINITY", "3.19.5", "2.",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if name, known := parseDC(text); name != "" && !known {
			t.Errorf("%q: a DC %q that is not known", text, name)
		}
		if state, err := parseControllerState(text, "node1"); err == nil && state == "" {
			t.Errorf("%q: an empty state", text)
		}
		if code, ok := forcedCode(text, "p1"); ok && code < 0 {
			t.Errorf("%q: exit code %d", text, code)
		}
		if d, err := parseInterval(text); err == nil && d < 0 {
			t.Errorf("%q: a time of %v", text, d)
		}
		if n, err := parseScore(text); err != nil && n != 0 {
			t.Errorf("%q: score %d beside an error", text, n)
		}
		if major, minor, ok := parseVersion(text); ok && (major < 0 || minor < 0) {
			t.Errorf("%q: version %d.%d", text, major, minor)
		}
		_ = roleName(text)
		_ = BaseID(text)
		_ = UnitName(text)
	})
}

// FuzzProc: what /proc says of a process is understood, or unknown.
func FuzzProc(f *testing.F) {
	f.Add([]byte("812 (pacemaker-execd) S 801 812 812 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 1 1 1\n"),
		[]byte("/bin/sh\x00/usr/lib/ocf/resource.d/heartbeat/Dummy\x00start\x00"), []byte("OCF_RESOURCE_INSTANCE=p1\x00HOME=/root\x00"))
	f.Add([]byte("1 (a) b) Z"), []byte{}, []byte{})
	f.Fuzz(func(t *testing.T, stat, cmdline, environ []byte) {
		proc := t.TempDir()
		dir := filepath.Join(proc, "812")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("/bin/sh", filepath.Join(dir, "exe")); err != nil {
			t.Fatal(err)
		}
		for file, text := range map[string][]byte{"stat": stat, "cmdline": cmdline, "environ": environ} {
			if err := os.WriteFile(filepath.Join(dir, file), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		all, err := AgentProcesses(proc, []Primitive{{ID: "p1", Class: "ocf", Provider: "heartbeat", Type: "Dummy"}})
		if err != nil && len(all) > 0 {
			t.Errorf("%+v beside an error", all)
		}
		for _, p := range all {
			if p.PID != 812 || p.Start > math.MaxInt64 {
				t.Errorf("%+v", p)
			}
		}
	})
}
