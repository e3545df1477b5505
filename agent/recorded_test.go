package agent

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/leasedog/leasedog/lease"
	"github.com/leasedog/leasedog/test/recorded"
)

var record = flag.String("record", "", "record what this release leaves in /run and /var/lib; then read the diff")

const leftBy = "testdata/recorded"

// timed is a pause with an end.
const timed = "paused-with-end"

// recordedStates are what a lease may be in /run, and what a successor makes of it at once.
func recordedStates() map[lease.RunState]lease.Phase {
	return map[lease.RunState]lease.Phase{lease.RunHeld: lease.Held, lease.RunLeaving: lease.Leaving, lease.RunPaused: lease.Paused,
		timed: lease.Paused, lease.RunLosing: lease.Losing, lease.RunReleased: lease.Losing}
}

// recordRelease writes what this release leaves behind.
func recordRelease(t *testing.T, release string) {
	t.Helper()
	for s := range recordedStates() {
		r := recordOf(t, s)
		switch s {
		case lease.RunPaused:
			r.Maintenance = true
		case timed:
			r.State, r.PauseFor = lease.RunPaused, time.Hour
		}
		writeLeft(t, release, string(s), r)
	}
	writeLeft(t, release, "known", lease.Known{Stamp: lease.Stamp{StoreID: "store-2", Generation: 12}, DeadStores: []string{"store-1"},
		Epochs: map[string]lease.Epoch{"pg": 7}})
	writeLeft(t, release, "boot", bootIdentity{Kernel: "0e6a1c4c-6e5c-4b0e-9f6e-5f7b7a3d9a11", Random: "00112233aabbccdd"})
}

func writeLeft(t *testing.T, release, name string, v any) {
	t.Helper()
	path := filepath.Join(leftBy, release, name+".json")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	text, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

// An agent takes up what one of another release left, an older or a newer one: every field is understood, and a lease that
// was held is adopted while its guard is armed.
func TestStateOfOtherReleases(t *testing.T) {
	if *record != "" {
		recordRelease(t, *record)
	}
	folders, err := filepath.Glob(filepath.Join(leftBy, "*"))
	if err != nil || len(folders) == 0 {
		t.Fatalf("no release is recorded: %v", err)
	}
	for _, dir := range folders {
		for _, later := range []bool{false, true} {
			for s, phase := range recordedStates() {
				t.Run(filepath.Base(dir)+" "+string(s), func(t *testing.T) { takesUp(t, left(t, dir, string(s), later), phase) })
			}
			a := filesAgent(t)
			text := left(t, dir, "known", later)
			put(t, a.knownPath(), text)
			known, err := a.loadKnown()
			if err != nil {
				t.Fatal(err)
			}
			survives(t, left(t, dir, "known", false), known)
			put(t, filepath.Join(a.opt.RunDir, "boot.json"), left(t, dir, "boot", later))
			if id, err := a.bootID(true); err != nil || id != "0e6a1c4c-6e5c-4b0e-9f6e-5f7b7a3d9a11.00112233aabbccdd" {
				t.Errorf("%s: the boot id became %s, %v: a proof of death", dir, id, err)
			}
		}
	}
}

func left(t *testing.T, dir, name string, later bool) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name+".json"))
	if err == nil && later {
		text, err = recorded.WithFuture(text)
	}
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func put(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// survives fails unless v says all that text says.
func survives(t *testing.T, text []byte, v any) {
	t.Helper()
	now, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	// What a later release added is not ours to keep.
	if d := recorded.Differs(text, now); d != "" {
		t.Error(d)
	}
}

func takesUp(t *testing.T, text []byte, want lease.Phase) {
	a := filesAgent(t)
	put(t, a.recordPath("pg"), text)
	r, err := a.readRecord("pg")
	if err != nil || r == nil {
		t.Fatal(r, err)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(text, &fields); err != nil {
		t.Fatal(err)
	}
	if _, later := fields["a_field_of_later"]; !later {
		survives(t, text, r)
	}
	b, err := lease.Profile("lan")
	if err != nil {
		t.Fatal(err)
	}
	now := r.Sent.Add(time.Second)
	h := lease.NewHolder(lease.HolderOptions{Lease: "pg", Self: lease.Party{Node: r.Party.Node, BootID: r.Party.BootID,
		Instance: lease.Instance{Start: now, Nonce: 2}}, Budget: b}, &lease.Known{})
	guard := &lease.GuardState{Epoch: r.Epoch, Sent: r.Sent, Until: r.Sent.Add(r.Budget.HardDeadline())}
	switch {
	case r.PauseFor > 0:
		guard.Until = r.Sent.Add(r.PauseFor + r.Budget.StopBudget)
	case r.State == lease.RunPaused || r.State == lease.RunReleased:
		guard = nil
	}
	h.Step(now, lease.Found{Record: r, Guard: guard})
	v := h.View()
	if v.Phase != want || v.Epoch != 7 {
		t.Errorf("it is %s with epoch %d, expected %s with epoch 7", v.Phase, v.Epoch, want)
	}
	if want == lease.Held && (!v.Adopting || v.LoseAt != r.Sent.Add(r.Budget.LossAfter)) {
		t.Errorf("it is not adopted as it was: %+v", v)
	}
}
