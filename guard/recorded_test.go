package guard

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/leasedog/leasedog/guard/guardapi"
	"github.com/leasedog/leasedog/lease"
	"github.com/leasedog/leasedog/test/recorded"
)

var record = flag.String("record", "", "record what this release's agent and guard say to each other; then read the diff")

const heardIn = "testdata/recorded"

// packets is one exchange at the guard's socket.
type packets struct {
	Request json.RawMessage `json:"request"`
	Reply   json.RawMessage `json:"reply"`
}

// talk is what agents ask of a guard: all that there is.
func talk() []guardapi.Request {
	ask := func(op guardapi.Op, started lease.Instant) guardapi.Request {
		return guardapi.Request{Op: op, Lease: "pg", Epoch: 7, Instance: instance(started)}
	}
	arm := func(op guardapi.Op, started, until lease.Instant) guardapi.Request {
		r := ask(op, started)
		r.Sent, r.Until, r.StopBudget, r.DyingText = 100*second, until, 2*time.Second, "pg on node1"
		return r
	}
	note := ask(guardapi.OpNote, 60)
	note.State, note.Because = "losing", "no renewal was acknowledged"
	return []guardapi.Request{
		{Op: guardapi.OpStatus}, arm(guardapi.OpArm, 50, 105*second), arm(guardapi.OpArm, 40, 106*second), // the second is an older instance
		arm(guardapi.OpArm, 60, 106*second), {Op: guardapi.OpStatus}, note, arm(guardapi.OpShorten, 60, 104*second),
		ask(guardapi.OpDisarm, 50), ask(guardapi.OpDisarm, 60), {Op: guardapi.OpStatus}, {Op: "no such word"},
	}
}

// socketRig is a guard that has everything to say in its status.
func socketRig(t *testing.T) *rig {
	r := newRig(t, true)
	r.base = guardapi.Status{PID: 70, Version: "v0.1.0", BootID: "boot-1", Mode: guardapi.ModeRequired, Device: "/dev/watchdog9",
		Identity: "iTCO_wdt", Watchdog: 5 * time.Second, NoWayOut: true, KillTimer: true, RealTime: true, Chances: 1, ResetBy: "sysrq",
		PauseProtection: "rtc", Warnings: []string{"nowayout"}}
	return r
}

// The agent of one release and the guard of another understand each other: an upgrade replaces the agent and leaves the guard.
func TestSocketOfOtherReleases(t *testing.T) {
	if *record != "" {
		r, list := socketRig(t), []packets{}
		for _, req := range talk() {
			request, err := json.Marshal(req)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, packets{request, replyTo(t, r, request)})
		}
		writeTalk(t, *record, list)
	}
	files, err := filepath.Glob(filepath.Join(heardIn, "*", "socket.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no release is recorded: %v", err)
	}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var list []packets
		if err := json.Unmarshal(text, &list); err != nil {
			t.Fatal(err)
		}
		for name, change := range map[string]func([]byte) ([]byte, error){
			"as it was": func(b []byte) ([]byte, error) { return b, nil }, "and fields of later": recorded.WithFuture,
		} {
			t.Run(filepath.Base(filepath.Dir(path))+" "+name, func(t *testing.T) { hears(t, list, change) })
		}
		for _, p := range list {
			understood(t, p.Request, &guardapi.Request{})
			understood(t, p.Reply, &guardapi.Reply{})
		}
	}
}

// hears puts an older agent's requests to a guard of today, and an older guard's replies to an agent of today.
func hears(t *testing.T, list []packets, change func([]byte) ([]byte, error)) {
	r := socketRig(t)
	for i, p := range list {
		request, err := change(p.Request)
		if err != nil {
			t.Fatal(err)
		}
		if d := recorded.Differs(p.Reply, replyTo(t, r, request)); d != "" {
			t.Errorf("%s: %s", p.Request, d)
		}
		text, err := change(p.Reply)
		if err != nil {
			t.Fatal(err)
		}
		var then, now guardapi.Reply
		if err := json.Unmarshal(text, &now); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(p.Reply, &then); err != nil {
			t.Fatal(err)
		}
		if now.OK != then.OK || now.Until != then.Until || now.Status.Shows("pg", 7) != then.Status.Shows("pg", 7) {
			t.Errorf("the agent makes %+v of %s", now, text)
		}
		if armed := i > 0 && i < len(list)-3; now.Status.Shows("pg", 7) != armed {
			t.Errorf("after %s an agent that adopts sees %+v", p.Request, now.Status.Armed)
		}
	}
}

// replyTo is what the guard replies to a packet on a connection of its own.
func replyTo(t *testing.T, r *rig, packet []byte) []byte {
	t.Helper()
	var req guardapi.Request
	if err := json.Unmarshal(packet, &req); err != nil {
		t.Fatal(err)
	}
	reply, err := json.Marshal(r.handle(r.connect(), req))
	if err != nil {
		t.Fatal(err)
	}
	return reply
}

func understood(t *testing.T, text []byte, into any) {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		t.Errorf("%s: %v", text, err)
		return
	}
	back, err := json.Marshal(into)
	if err != nil {
		t.Fatal(err)
	}
	if d := recorded.Differs(text, back); d != "" {
		t.Error(d)
	}
}

func writeTalk(t *testing.T, release string, list []packets) {
	t.Helper()
	text, err := json.MarshalIndent(list, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(heardIn, release, "socket.json")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}
