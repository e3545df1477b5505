package guard

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/leasedog/leasedog/guard/guardapi"
	"github.com/leasedog/leasedog/lease"
)

// FuzzPackets: whatever is sent to the guard, what is armed has its kill timer, nobody brings a deadline past for
// nothing, and a guard that has begun to reset goes on.
func FuzzPackets(f *testing.F) {
	who := instance(90 * second)
	for _, r := range []guardapi.Request{
		{Op: guardapi.OpStatus},
		{Op: guardapi.OpArm, Lease: "pg", Epoch: 7, Instance: who, Sent: 99 * second, Until: 105 * second, StopBudget: time.Second},
		{Op: guardapi.OpShorten, Lease: "pg", Epoch: 7, Instance: who, Sent: 99 * second, Until: 102 * second},
		{Op: guardapi.OpDisarm, Lease: "pg", Epoch: 7, Instance: who},
		{Op: guardapi.OpNote, Lease: "pg", Epoch: 7, Instance: who, State: "losing", Because: "no renewal"},
	} {
		text, err := json.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text, text)
	}
	f.Add([]byte(`{"op":"arm","lease":"pg","epoch":8,"instance":"1-0000000000000001","sent":1,"until":9223372036854775806}`), []byte(`{}`))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		r := newRig(t, false)
		if reply := r.arm(r.connect(), 7, 50, 5*time.Second); !reply.OK {
			t.Fatal(reply)
		}
		for _, packet := range [][]byte{first, second} {
			var req guardapi.Request
			if json.Unmarshal(packet, &req) != nil {
				continue
			}
			req.DyingTo = "" // an address to send to is not asked of this machine
			before := r.status().Armed
			reply := r.handle(r.connect(), req)
			if _, err := json.Marshal(reply); err != nil {
				t.Fatal(err)
			}
			after := r.status().Armed
			if !reply.OK && len(after) < len(before) {
				t.Errorf("%s was refused, and disarmed %+v", packet, before)
			}
			nearest := lease.Never
			for _, a := range after {
				nearest = lease.Earlier(nearest, a.Until)
				if a.Until == lease.Never {
					t.Errorf("%s arms without an end", packet)
				}
			}
			if len(after) > 0 && r.timer.at != nearest.Add(r.slack) || len(after) == 0 && r.timer.at != 0 {
				t.Errorf("after %s the kill timer stands at %v, the nearest deadline is %v", packet, r.timer.at, nearest)
			}
		}
		armed := len(r.status().Armed) > 0
		r.clock = lease.Never - 1
		r.tick()
		if armed && r.resets == 0 {
			t.Errorf("after %s and %s the end of time passes without a reset: %+v", first, second, r.status().Armed)
		}
	})
}

// FuzzSysfs: whatever the kernel's files say of a watchdog, one is chosen that may be used, or none.
func FuzzSysfs(f *testing.F) {
	f.Add("i6300ESB timer", "inactive", "0", "0x8180", "1")
	f.Add("Software Watchdog", "active", "1", "0x8380", "")
	f.Add("iTCO_wdt", "", "", "", "-5")
	f.Fuzz(func(t *testing.T, identity, state, nowayout, options, minimum string) {
		root := t.TempDir()
		dir := filepath.Join(root, "sys/class/watchdog/watchdog0")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for file, text := range map[string]string{"identity": identity, "state": state, "nowayout": nowayout, "options": options, "min_timeout": minimum} {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		w, err := ChooseWatchdog(root, "auto")
		if err != nil {
			if strings.TrimSpace(err.Error()) == "" {
				t.Error("refused without words")
			}
			return
		}
		if w.refusal() != nil || w.Min < 0 {
			t.Errorf("chosen: %+v", w)
		}
	})
}

// FuzzKnownWatchdog: the timeout that was read back once never makes the one in the budget shorter.
func FuzzKnownWatchdog(f *testing.F) {
	f.Add([]byte(`{"device":"/dev/watchdog0","identity":"i6300ESB timer","watchdog":6000000000}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, text []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, knownWatchdogFile), text, 0o600); err != nil {
			t.Fatal(err)
		}
		r := Report{}
		setup := guardapi.Setup{Mode: guardapi.ModeRequired, Device: "auto", Watchdog: 5 * time.Second, TimerSlack: 1}
		if err := r.recall(dir, setup, WatchdogInfo{Path: "/dev/watchdog0", Identity: "i6300ESB timer"}); err != nil {
			t.Fatal(err)
		}
		if r.Watchdog < setup.Watchdog {
			t.Errorf("%q makes W %v", text, r.Watchdog)
		}
	})
}
