package agent

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/leasedog/leasedog/lease"
	"github.com/leasedog/leasedog/pcmk"
)

// filesAgent is an agent that has folders and a clock, and nothing else.
func filesAgent(t testing.TB) *Agent {
	t.Helper()
	a := &Agent{opt: Options{RunDir: t.TempDir(), StateDir: t.TempDir(), Now: func() lease.Instant { return lease.Instant(time.Hour) }}}
	a.opt.KernelBootID = filepath.Join(a.opt.RunDir, "kernel")
	if err := os.WriteFile(a.opt.KernelBootID, []byte("0e6a1c4c-6e5c-4b0e-9f6e-5f7b7a3d9a11\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return a
}

func recordOf(t testing.TB, state lease.RunState) lease.RunRecord {
	b, err := lease.Profile("lan")
	if err != nil {
		t.Fatal(err)
	}
	return lease.RunRecord{Lease: "pg", State: state, Epoch: 7, Hold: b.Hold(), Budget: b, Sent: lease.Instant(59 * time.Minute),
		Party: lease.Party{Node: "node1", BootID: "b", Instance: lease.Instance{Start: 1, Nonce: 1}}}
}

func fileOf(f *testing.F, v any) []byte {
	f.Helper()
	path := filepath.Join(f.TempDir(), "x")
	if err := writeJSON(path, v); err != nil {
		f.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	return text
}

// FuzzRunRecord: what /run says is either taken whole, as an agent of this boot may have written it, or an error; and a
// Holder that takes it up holds nothing for longer than its budget after it was last renewed.
func FuzzRunRecord(f *testing.F) {
	for _, s := range []lease.RunState{lease.RunHeld, lease.RunLeaving, lease.RunPaused, lease.RunLosing, lease.RunReleased} {
		f.Add(fileOf(f, recordOf(f, s)))
	}
	f.Add([]byte("null"))
	f.Add([]byte("{}"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, text []byte) {
		a := filesAgent(t)
		if err := os.WriteFile(a.recordPath("pg"), text, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := a.readRecord("pg")
		if err != nil || r == nil {
			if err == nil {
				t.Error("a file that is there counts as none")
			}
			return
		}
		if err := a.writeRecord(*r); err != nil {
			t.Fatal(err)
		}
		if again, err := a.readRecord("pg"); err != nil || cmp.Diff(r, again) != "" {
			t.Errorf("written again it is another: %v %s", err, cmp.Diff(r, again))
		}
		if r.Lease != "pg" || r.Party.Node == "" || r.Sent > a.opt.Now() {
			t.Errorf("%q is taken for a record", text)
		}
		now := a.opt.Now()
		b, _ := lease.Profile("lan")
		h := lease.NewHolder(lease.HolderOptions{Lease: "pg", Self: lease.Party{Node: r.Party.Node, BootID: r.Party.BootID,
			Instance: lease.Instance{Start: now, Nonce: 2}}, Budget: b}, &lease.Known{})
		guard := &lease.GuardState{Epoch: r.Epoch, Sent: r.Sent, Until: r.Sent.Add(r.Budget.HardDeadline())}
		h.Step(now, lease.Found{Record: r, Guard: guard})
		if p := h.View().Phase; p == lease.Held && now >= r.Sent.Add(r.Budget.LossAfter) {
			t.Errorf("held at %v by %+v", now, r)
		}
		for i := range 5 {
			h.Step(now.Add(time.Duration(i)*time.Minute), lease.Tick{})
		}
		if p := h.View().Phase; p == lease.Held || p == lease.Leaving {
			t.Errorf("%v four minutes later without a renewal, by %+v", p, r)
		}
	})
}

// What no agent of this boot can have written is an error, so that its lease goes through losing.
func TestDamagedRunRecords(t *testing.T) {
	a := filesAgent(t)
	for name, change := range map[string]func(*lease.RunRecord){
		"another lease's": func(r *lease.RunRecord) { r.Lease = "web" },
		"no state":        func(r *lease.RunRecord) { r.State = "" },
		"no epoch":        func(r *lease.RunRecord) { r.Epoch = 0 },
		"an absurd epoch": func(r *lease.RunRecord) { r.Epoch = lease.MaxEpoch + 1 },
		"nobody's":        func(r *lease.RunRecord) { r.Party = lease.Party{} },
		"sent later":      func(r *lease.RunRecord) { r.Sent = a.opt.Now() + 1 },
		"no loss_after":   func(r *lease.RunRecord) { r.Budget.LossAfter = 0 },
		"a negative hold": func(r *lease.RunRecord) { r.Hold = -1 },
	} {
		r := recordOf(t, lease.RunHeld)
		change(&r)
		must(t, writeJSON(a.recordPath("pg"), r))
		if got, err := a.readRecord("pg"); err == nil {
			t.Errorf("%s: read as %+v", name, got)
		}
	}
	must(t, writeJSON(a.recordPath("pg"), recordOf(t, lease.RunHeld)))
	if r, err := a.readRecord("pg"); err != nil || r == nil {
		t.Errorf("a good one: %v, %v", r, err)
	}
}

// FuzzKnown: what a node knows of its arbiter is read whole, or is an error: a damaged file must not make it believe old
// answers.
func FuzzKnown(f *testing.F) {
	f.Add(fileOf(f, lease.Known{Stamp: lease.Stamp{StoreID: "s1", Generation: 9}, DeadStores: []string{"s0"}, Epochs: map[string]lease.Epoch{"pg": 7}}))
	f.Add([]byte("null"))
	f.Add([]byte(`{"stamp":{"StoreID":"s1"},"epochs":{"pg":2000000000000000}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		a := filesAgent(t)
		if err := os.WriteFile(a.knownPath(), text, 0o600); err != nil {
			t.Fatal(err)
		}
		k, err := a.loadKnown()
		if err != nil {
			return
		}
		if k.Stamp.StoreID == "" {
			t.Errorf("%q is a node that knows nothing", text)
		}
		for _, e := range k.Epochs {
			if e > lease.MaxEpoch {
				t.Errorf("epoch %d", e)
			}
		}
	})
}

// FuzzBootID: of one boot there is never a second id while a guard runs, whatever became of the files.
func FuzzBootID(f *testing.F) {
	good := fileOf(f, bootIdentity{Kernel: "0e6a1c4c-6e5c-4b0e-9f6e-5f7b7a3d9a11", Random: "5d1f"})
	f.Add(good, good)
	f.Add([]byte("null"), good)
	f.Add([]byte("{}"), []byte("{}"))
	f.Fuzz(func(t *testing.T, run, kept []byte) {
		a := filesAgent(t)
		for path, text := range map[string][]byte{filepath.Join(a.opt.RunDir, "boot.json"): run, filepath.Join(a.opt.StateDir, "boot.json"): kept} {
			if err := os.WriteFile(path, text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		id, err := a.bootID(true)
		if err != nil {
			return
		}
		again, err := a.bootID(true)
		if err != nil || id != again {
			t.Errorf("%q, and then %q (%v)", id, again, err)
		}
	})
}

// FuzzPlan: a plan that was kept is used only if it names what to stop.
func FuzzPlan(f *testing.F) {
	f.Add(fileOf(f, pcmk.Plan{Node: "node1", Resources: []pcmk.Guarded{{ID: "g-pg", Primitives: []pcmk.Primitive{{ID: "p", Class: "ocf"}}}}}))
	f.Add([]byte("null"))
	f.Fuzz(func(t *testing.T, text []byte) {
		a := filesAgent(t)
		a.node = "node1"
		if err := os.WriteFile(a.planPath("pg"), text, 0o600); err != nil {
			t.Fatal(err)
		}
		k := &keeper{a: a, name: "pg"}
		k.loadPlan()
		if k.plan != nil && (len(k.plan.Primitives()) == 0 || k.plan.Node != "node1") {
			t.Errorf("%q is used as a plan", text)
		}
	})
}
