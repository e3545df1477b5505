package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"

	"github.com/leasedog/leasedog/boottime"
	"github.com/leasedog/leasedog/config"
	"github.com/leasedog/leasedog/lease"
	"github.com/leasedog/leasedog/pcmk"
	"github.com/leasedog/leasedog/systemd"
)

// fakeCluster is a Pacemaker of which each answer can be changed. Tools of the attribute count how many run at once.
type fakeCluster struct {
	cib     *pcmk.CIB // nil: cannot be read
	Cluster           // anything not written here is not called

	mu       sync.Mutex
	value    string // "" absent
	readErr  error
	frozen   bool // puts hang until they are killed
	shown    string
	accepted func(value string) // a put is taken and applied later, or never
	sticky   bool               // a delete is accepted and not applied
	running  int
	most     int
	calls    []string
	dc       pcmk.DC
	dcErr    error
	pending  []pcmk.PendingOp
	status   pcmk.Status
	pendErr  error
	monitors map[string]int
	monErr   error
	onRun    func(pcmk.Action)
}

func (f *fakeCluster) tool(name string) func() {
	f.mu.Lock()
	f.calls = append(f.calls, name)
	f.running++
	f.most = max(f.most, f.running)
	f.mu.Unlock()
	return func() { f.mu.Lock(); f.running--; f.mu.Unlock() }
}

func (f *fakeCluster) PutAttribute(ctx context.Context, name, value string) error {
	if strings.HasSuffix(name, "-state") {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.shown = value
		return nil
	}
	defer f.tool("put " + value)()
	if f.accepted != nil {
		f.accepted(value)
		return nil
	}
	if f.frozen {
		<-ctx.Done()
		return ctx.Err()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.value = value
	return nil
}

func (f *fakeCluster) DeleteAttribute(context.Context, string) error {
	defer f.tool("delete")()
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.sticky {
		f.value = ""
	}
	return nil
}

func (f *fakeCluster) ReadAttribute(_ context.Context, _, name string) (pcmk.Attribute, error) {
	if strings.HasSuffix(name, "-state") {
		f.mu.Lock()
		defer f.mu.Unlock()
		return pcmk.Attribute{State: pcmk.Present, Value: f.shown}, nil
	}
	defer f.tool("read")()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.readErr != nil {
		return pcmk.Attribute{}, f.readErr
	}
	if f.value == "" {
		return pcmk.Attribute{State: pcmk.Absent}, nil
	}
	return pcmk.Attribute{State: pcmk.Present, Value: f.value}, nil
}

func (f *fakeCluster) Status(context.Context) (pcmk.Status, error) { return f.status, nil }

func (f *fakeCluster) DCState(context.Context) (pcmk.DC, error) { return f.dc, f.dcErr }

func (f *fakeCluster) Pending(context.Context, string, ...string) ([]pcmk.PendingOp, error) {
	return f.pending, f.pendErr
}

func (f *fakeCluster) RunAgent(_ context.Context, _ pcmk.Plan, p pcmk.Primitive, act pcmk.Action) (pcmk.Answer, error) {
	if f.onRun != nil {
		f.onRun(act)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, string(act)+" "+p.ID)
	if f.monErr != nil {
		return pcmk.Answer{}, f.monErr
	}
	code, ok := f.monitors[p.ID]
	if !ok {
		code = 7
	}
	conditions := map[int]pcmk.Condition{0: pcmk.Running, 7: pcmk.Stopped, 8: pcmk.Promoted, 9: pcmk.PromotedFailed,
		190: pcmk.Degraded, 191: pcmk.PromotedDegraded}
	return pcmk.Answer{Action: act, Code: code, Condition: conditions[code]}, nil
}

type fakeUnits struct {
	Units
	active string
	job    string
	main   int
	pids   []int
	err    error
	ended  []string
	asked  int // how often for the state of a unit
}

func (f *fakeUnits) Unit(context.Context, string) (systemd.UnitState, error) {
	f.asked++
	return systemd.UnitState{Active: f.active, MainPID: f.main}, f.err
}
func (f *fakeUnits) Reboot(context.Context) error { f.ended = append(f.ended, "reboot"); return f.err }
func (f *fakeUnits) PowerOff(context.Context) error {
	f.ended = append(f.ended, "power off")
	return f.err
}
func (f *fakeUnits) JobType(context.Context, string) (string, error)  { return f.job, f.err }
func (f *fakeUnits) Processes(context.Context, string) ([]int, error) { return f.pids, nil }

// procDir makes a /proc with one process for each line "PID EXE ARG... [ENV=VALUE]".
func procDir(t *testing.T, processes ...string) string {
	t.Helper()
	root := t.TempDir()
	for _, line := range append(processes, "1 /sbin/init") {
		w := strings.Fields(line)
		dir := filepath.Join(root, w[0])
		var args, env []string
		for _, x := range w[2:] {
			if strings.Contains(x, "=") {
				env = append(env, x)
			} else {
				args = append(args, x)
			}
		}
		must(t, os.Mkdir(dir, 0o755))
		must(t, os.Symlink(w[1], filepath.Join(dir, "exe")))
		must(t, os.WriteFile(filepath.Join(dir, "cmdline"), []byte(strings.Join(append([]string{w[1]}, args...), "\x00")+"\x00"), 0o644))
		must(t, os.WriteFile(filepath.Join(dir, "environ"), []byte(strings.Join(env, "\x00")), 0o644))
		stat := fmt.Sprintf("%s (x) S 1 %s", w[0], strings.Repeat("1 ", 40))
		must(t, os.WriteFile(filepath.Join(dir, "stat"), []byte(stat), 0o644))
	}
	return root
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

const controlled = "50 /usr/libexec/pacemaker/pacemaker-controld"

var twoPrimitives = pcmk.Plan{Resources: []pcmk.Guarded{{ID: "g", Kind: pcmk.KindGroup, Role: pcmk.RoleStarted, Primitives: []pcmk.Primitive{
	{ID: "r1", Class: "ocf", Provider: "lab", Type: "db", Agent: "/usr/lib/ocf/resource.d/lab/db", Role: pcmk.RoleStarted},
	{ID: "r2", Class: "ocf", Provider: "lab", Type: "db", Agent: "/usr/lib/ocf/resource.d/lab/db", Role: pcmk.RoleStarted},
}}}}

func testKeeper(t *testing.T, f *fakeCluster, proc string) *keeper {
	log, _ := logtest.NewNullLogger()
	a := &Agent{log: logrus.NewEntry(log), node: "node1", done: make(chan struct{}), mail: make(chan letter), knownDisk: newQueue()}
	a.opt = Options{Cluster: f, Units: &fakeUnits{active: "inactive"}, Proc: proc, RunDir: t.TempDir(), StateDir: t.TempDir(),
		Now: func() lease.Instant { return lease.Instant(time.Now().UnixNano()) }}
	b, _ := lease.Profile("lan")
	a.bud.Store(&b)
	a.clock, a.slept = a.newAudit(), boottime.Suspended()
	k := &keeper{a: a, name: "pg", conf: config.Lease{Name: "pg"}, files: newQueue(), guard: newQueue()}
	k.gate = newGate("leasedog-pg", "node1", f, a.pacemakerDown, pollEvery, func(lease.Epoch) {})
	k.ladder = &ladder{k: k}
	return k
}

func (f *fakeCluster) CIB(context.Context) (*pcmk.CIB, error) {
	if f.cib == nil {
		return nil, errors.New("hangs")
	}
	return f.cib, nil
}

func idleCluster() *fakeCluster { return &fakeCluster{dc: pcmk.DC{Node: "node1", Activity: pcmk.Idle}} }

// Every single thing that the proof needs, taken away, makes it fail. The first case is the proof itself.
func TestProve(t *testing.T) {
	busy := pcmk.DC{Node: "node2", Activity: pcmk.Transition}
	starting := "77 /bin/sh /usr/lib/ocf/resource.d/lab/db start OCF_RESOURCE_INSTANCE=r2"
	for _, tc := range []struct {
		name   string
		change func(*fakeCluster)
		proc   []string
		want   string // "" proven
	}{
		{"proven", func(*fakeCluster) {}, []string{controlled}, ""},
		{"a monitor at work does not matter", func(*fakeCluster) {},
			[]string{controlled, strings.Replace(starting, "start", "monitor", 1)}, ""},
		{"attribute cannot be read", func(f *fakeCluster) { f.readErr = errors.New("hangs") }, []string{controlled}, "not proven absent"},
		{"attribute stays", func(f *fakeCluster) { f.value, f.sticky = "7", true }, []string{controlled}, "not proven absent"},
		{"DC busy", func(f *fakeCluster) { f.dc = busy }, []string{controlled}, "DC"},
		{"DC unknown", func(f *fakeCluster) { f.dcErr = errors.New("hangs") }, []string{controlled}, "DC"},
		{"no DC", func(f *fakeCluster) { f.dc = pcmk.DC{Activity: pcmk.Electing} }, []string{controlled}, "DC"},
		{"start pending", func(f *fakeCluster) { f.pending = []pcmk.PendingOp{{Resource: "r1", Task: "start"}} }, []string{controlled}, "pending"},
		{"pending unknown", func(f *fakeCluster) { f.pendErr = errors.New("hangs") }, []string{controlled}, "pending"},
		{"start of an orphaned agent in flight", func(*fakeCluster) {}, []string{controlled, starting}, "at work"},
		{"still running", func(f *fakeCluster) { f.monitors = map[string]int{"r2": 0} }, []string{controlled}, "r2 is running"},
		{"monitor says 1", func(f *fakeCluster) { f.monitors = map[string]int{"r1": 1} }, []string{controlled}, "r1 is unknown"},
		{"monitor says 5", func(f *fakeCluster) { f.monitors = map[string]int{"r1": 5} }, []string{controlled}, "r1 is unknown"},
		{"monitor hangs", func(f *fakeCluster) { f.monErr = errors.New("killed") }, []string{controlled}, "killed"},
		{"without any daemon", func(f *fakeCluster) { f.readErr, f.dcErr, f.pendErr = errDown, errDown, errDown }, nil, ""},
		{"without pacemakerd only", func(f *fakeCluster) { f.readErr, f.dcErr, f.pendErr = errDown, errDown, errDown },
			[]string{"51 /usr/libexec/pacemaker/pacemaker-execd"}, "not proven absent"},
		{"without any daemon, still running", func(f *fakeCluster) {
			f.readErr, f.dcErr, f.pendErr = errDown, errDown, errDown
			f.monitors = map[string]int{"r1": 0}
		}, nil, "r1 is running"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := idleCluster()
			tc.change(f)
			proc := procDir(t, tc.proc...)
			synctest.Test(t, func(t *testing.T) {
				k := testKeeper(t, f, proc)
				k.gate.set(0)
				err := k.prove(t.Context(), twoPrimitives)
				if tc.want == "" && err != nil {
					t.Fatalf("not proven: %v", err)
				}
				if tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
					t.Fatalf("want an error with %q, got %v", tc.want, err)
				}
			})
		})
	}
}

var errDown = errors.New("no daemon answers")

// An idle DC counts once since the gate closed, and no longer when it was opened in between.
func TestProve_IdleOnceSinceTheGateClosed(t *testing.T) {
	f := idleCluster()
	k := testKeeper(t, f, procDir(t, controlled))
	k.gate.set(0)
	must(t, k.prove(t.Context(), twoPrimitives))
	f.dc = pcmk.DC{Node: "node2", Activity: pcmk.Transition}
	must(t, k.prove(t.Context(), twoPrimitives))
	k.gate.set(7)
	k.gate.set(0)
	if err := k.prove(t.Context(), twoPrimitives); err == nil {
		t.Fatal("an idle DC from before the gate was open counts")
	}
}

// A gate that opens while the proof goes on voids it.
func TestProve_VoidWhenTheGateOpens(t *testing.T) {
	f := idleCluster()
	k := testKeeper(t, f, procDir(t, controlled))
	k.gate.set(0)
	f.onRun = func(pcmk.Action) { k.gate.set(8) }
	if err := k.prove(t.Context(), twoPrimitives); err == nil {
		t.Fatal("proven although the gate was opened meanwhile")
	}
}

// Under a rule on the promoted role 0 or 7 is stopped; 8, 9, 190, 191 and the rest are not (attack 16).
func TestProve_PromotedRole(t *testing.T) {
	plan := pcmk.Plan{Resources: []pcmk.Guarded{{ID: "ms", Kind: pcmk.KindClone, Role: pcmk.RolePromoted, Primitives: []pcmk.Primitive{
		{ID: "s", Class: "ocf", Agent: "/usr/lib/ocf/resource.d/lab/s", Role: pcmk.RolePromoted, Clone: true}}}}}
	for code, ok := range map[int]bool{0: true, 7: true, 8: false, 9: false, 190: false, 191: false, 1: false, 5: false} {
		f := idleCluster()
		f.monitors = map[string]int{"s": code}
		k := testKeeper(t, f, procDir(t, controlled))
		k.gate.set(0)
		if err := k.prove(t.Context(), plan); (err == nil) != ok {
			t.Errorf("monitor %d: %v", code, err)
		}
	}
}

// Class systemd: inactive, and no process in its control group.
func TestProve_SystemdUnit(t *testing.T) {
	plan := pcmk.Plan{Resources: []pcmk.Guarded{{ID: "u", Role: pcmk.RoleStarted, Primitives: []pcmk.Primitive{
		{ID: "u", Class: "systemd", Unit: "db.service", Role: pcmk.RoleStarted}}}}}
	for _, tc := range []struct {
		u  fakeUnits
		ok bool
	}{
		{fakeUnits{active: "inactive"}, true}, {fakeUnits{active: "failed"}, true},
		{fakeUnits{active: "failed", pids: []int{9}}, false}, {fakeUnits{active: "deactivating"}, false},
		{fakeUnits{active: "active"}, false}, {fakeUnits{err: errDown}, false},
	} {
		k := testKeeper(t, idleCluster(), procDir(t, controlled))
		k.a.opt.Units = &tc.u
		k.gate.set(0)
		if err := k.prove(t.Context(), plan); (err == nil) != tc.ok {
			t.Errorf("%+v: %v", tc.u, err)
		}
	}
}

// A plan without a primitive proves nothing.
func TestProve_EmptyPlan(t *testing.T) {
	k := testKeeper(t, idleCluster(), procDir(t, controlled))
	k.gate.set(0)
	if err := k.prove(t.Context(), pcmk.Plan{}); err == nil {
		t.Fatal("an empty plan was proven stopped")
	}
}

// One attribute tool at a time: a put that hangs is killed and gone before the delete starts (attack 5).
func TestGate_PutIsGoneBeforeDelete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := idleCluster()
		f.frozen = true
		k := testKeeper(t, f, "/nonexistent")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go k.gate.work(ctx)
		k.gate.set(7)
		synctest.Wait()
		f.mu.Lock()
		f.value = "7" // attrd took it although its answer never came
		f.mu.Unlock()
		k.gate.set(0)
		synctest.Wait()
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.most != 1 || f.value != "" {
			t.Fatalf("%d tools at once, value %q, calls %v", f.most, f.value, f.calls)
		}
	})
}

// Before the Holder has begun, nothing is asserted: a lease may be about to be adopted.
func TestGate_AssertsNothingBeforeItBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := idleCluster()
		f.value = "7"
		k := testKeeper(t, f, "/nonexistent")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go k.gate.work(ctx)
		time.Sleep(time.Minute) // the bubble's clock
		if f.value != "7" || len(f.calls) != 0 {
			t.Fatalf("value %q, calls %v", f.value, f.calls)
		}
	})
}

// The value is put again at each poll, since attrd forgets it when it crashes; so is the absence.
func TestGate_AssertsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := idleCluster()
		k := testKeeper(t, f, "/nonexistent")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go k.gate.work(ctx)
		for _, want := range []string{"7", ""} {
			var e lease.Epoch
			wrong := "9"
			if want == "7" {
				e, wrong = 7, ""
			}
			k.gate.set(e)
			synctest.Wait()
			f.mu.Lock()
			f.value = wrong
			f.mu.Unlock()
			k.gate.saw(wrong)                        // what the survey reads
			time.Sleep(pollEvery + time.Millisecond) // the bubble's clock
			synctest.Wait()
			f.mu.Lock()
			if f.value != want {
				t.Errorf("want %q again, got %q", want, f.value)
			}
			f.mu.Unlock()
		}
	})
}

func TestLadder_Rungs(t *testing.T) {
	k := testKeeper(t, idleCluster(), "/nonexistent")
	at := func(d time.Duration) lease.Instant { return lease.Instant(1000 * time.Second).Add(d) }
	s := k.a.budget().StopBudget
	for _, tc := range []struct {
		stop        lease.Stop
		force, kill lease.Instant
	}{
		{lease.Stop{From: at(0), Until: at(s)}, at(s * 40 / 100), at(s * 70 / 100)},
		{lease.Stop{From: at(0), Until: at(s / 2)}, at(s / 2 * 40 / 100), at(s / 2 * 70 / 100)},
		{lease.Stop{From: at(0), Until: lease.Never}, at(s * 40 / 100), lease.Never},
		{lease.Stop{Orderly: at(time.Minute), From: at(time.Minute), Until: lease.Never}, at(time.Minute), lease.Never},
	} {
		k.ladder.stop = tc.stop
		if force, kill := k.ladder.rungs(); force != tc.force || kill != tc.kill {
			t.Errorf("%+v: force %v kill %v, want %v %v", tc.stop, force, kill, tc.force, tc.kill)
		}
	}
}

// The forced stop goes from the last started to the first, and under a promoted rule it only demotes (attack 16).
func TestLadder_Force(t *testing.T) {
	f := idleCluster()
	f.monitors = map[string]int{"r1": 0, "r2": 0}
	k := testKeeper(t, f, procDir(t, controlled))
	k.plan = &twoPrimitives
	k.ladder.force(t.Context())
	if got := strings.Join(f.calls, ", "); got != "monitor r2, stop r2, monitor r1, stop r1" {
		t.Errorf("forced stop: %s", got)
	}
	f = idleCluster()
	f.monitors = map[string]int{"s": 8}
	k = testKeeper(t, f, procDir(t, controlled))
	k.plan = &pcmk.Plan{Resources: []pcmk.Guarded{{ID: "ms", Role: pcmk.RolePromoted, Primitives: []pcmk.Primitive{
		{ID: "s", Class: "ocf", Role: pcmk.RolePromoted}}}}}
	k.ladder.force(t.Context())
	if got := strings.Join(f.calls, ", "); got != "monitor s, demote s" {
		t.Errorf("forced demote: %s", got)
	}
}

// An attribute that comes back in the middle of a proof voids it, although it is deleted again (a late put).
func TestProve_VoidWhenTheAttributeComesBack(t *testing.T) {
	f := idleCluster()
	k := testKeeper(t, f, procDir(t, controlled))
	k.gate.set(0)
	late := true
	f.onRun = func(pcmk.Action) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if late {
			late, f.value = false, "7"
		}
	}
	if err := k.prove(t.Context(), twoPrimitives); err == nil {
		t.Fatal("proven although the attribute was there while the monitors ran")
	}
	must(t, k.prove(t.Context(), twoPrimitives))
}

// A put that attrd has taken and that does not show yet is followed by a delete: absence alone proves nothing then.
func TestGate_AcknowledgedPutIsDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := idleCluster()
		f.accepted = func(string) {}
		k := testKeeper(t, f, procDir(t, controlled))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go k.gate.work(ctx)
		k.gate.set(7)
		time.Sleep(time.Second) // the bubble's clock
		k.gate.set(0)
		f.mu.Lock()
		f.calls = nil
		f.mu.Unlock()
		must(t, k.prove(ctx, twoPrimitives))
		f.mu.Lock()
		defer f.mu.Unlock()
		if !strings.Contains(strings.Join(f.calls, ", "), "delete") {
			t.Fatalf("no delete after a put that never showed: %v", f.calls)
		}
	})
}

// A queue with a job that waits for the loop ends with the agent all the same.
func TestRun_EndsWithAJobThatPosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := testKeeper(t, idleCluster(), "/nonexistent")
		ctx, cancel := context.WithCancel(t.Context())
		var drivers sync.WaitGroup
		drivers.Go(func() { k.files.work(ctx) })
		k.files.add("", func(context.Context) { k.post(lease.RunWritten{}) })
		synctest.Wait()
		cancel()
		close(k.a.done)
		drivers.Wait()
	})
}

// A proof that takes its time is not cut off for the forced stop, which begins in its own time beside it.
func TestLadder_ForcesBesideAProof(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := idleCluster()
		f.monitors = map[string]int{"r1": 0, "r2": 0}
		var forced, cut time.Duration
		began := time.Now()
		var mu sync.Mutex
		slow := slowReads{fakeCluster: f, read: func(ctx context.Context) {
			<-ctx.Done()
			mu.Lock()
			defer mu.Unlock()
			if cut == 0 {
				cut = time.Since(began)
			}
		}}
		f.onRun = func(act pcmk.Action) {
			mu.Lock()
			defer mu.Unlock()
			if act == pcmk.Stop && forced == 0 {
				forced = time.Since(began)
			}
		}
		k := testKeeper(t, f, procDir(t, controlled))
		k.a.opt.Cluster = slow
		k.gate = newGate("leasedog-pg", "node1", slow, k.a.pacemakerDown, pollEvery, func(lease.Epoch) {})
		k.plan = &twoPrimitives
		k.gate.set(0)
		s := k.a.budget().StopBudget
		now := k.a.opt.Now()
		ctx, cancel := context.WithCancel(t.Context())
		k.ladder.start(ctx, lease.Stop{Ladder: 1, From: now, Until: now.Add(s)})
		time.Sleep(s)
		cancel()
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		// The tool has a deadline of its own, which ends here.
		if forceDue := s * forceAt / 100; forced < forceDue || forced > forceDue+2*provePace || cut < toolTime {
			t.Errorf("forced after %v (due %v), the proof was cut off after %v", forced, forceDue, cut)
		}
	})
}

// slowReads is a cluster whose attribute is read slowly.
type slowReads struct {
	*fakeCluster
	read func(context.Context)
}

func (s slowReads) ReadAttribute(ctx context.Context, _, _ string) (pcmk.Attribute, error) {
	s.read(ctx)
	return pcmk.Attribute{}, ctx.Err()
}

// A tool that asks a daemon which has gone meanwhile is not waited for: without Pacemaker nothing is asked. The tool may be
// the attempt's, or the gate's, which has it out for longer than any attempt and then waits a moment before the next.
func TestLadder_PacemakerGoesDuringAnAttempt(t *testing.T) {
	for name, asserts := range map[string]bool{"the attempt's tool": false, "the gate's tool": true} {
		t.Run(name, func(t *testing.T) { pacemakerGoes(t, asserts) })
	}
}

func pacemakerGoes(t *testing.T, asserts bool) {
	proc := procDir(t, controlled)
	synctest.Test(t, func(t *testing.T) {
		f := idleCluster()
		slow := slowReads{fakeCluster: f, read: func(ctx context.Context) { <-ctx.Done() }}
		k := testKeeper(t, f, proc)
		k.a.opt.Cluster = slow
		k.gate = newGate("leasedog-pg", "node1", slow, k.a.pacemakerDown, pollEvery, func(lease.Epoch) {})
		k.plan = &twoPrimitives
		k.gate.set(0)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		if asserts {
			go k.gate.work(ctx)
			synctest.Wait()
		}
		began := time.Now()
		k.ladder.start(ctx, lease.Stop{Ladder: 1, Orderly: k.a.opt.Now().Add(time.Minute), Until: lease.Never})
		time.Sleep(300 * time.Millisecond)
		must(t, os.RemoveAll(filepath.Join(proc, "50")))
		if l := <-k.a.mail; l.ev != (lease.Proven{Ladder: 1}) {
			t.Errorf("got %+v", l.ev)
		}
		if took := time.Since(began); took > toolTime/2 {
			t.Errorf("proven after %v, although Pacemaker went after 0.3 s", took)
		}
	})
}

// After the last resort a proof needs no coordinator: it succeeds beside an attempt that hangs in asking one, before the
// reset. (No controller or executor is in this /proc, so that nothing is killed.)
func TestLadder_ProvesBesideAHungAttempt(t *testing.T) {
	proc := procDir(t, "50 /usr/libexec/pacemaker/pacemaker-attrd")
	synctest.Test(t, func(t *testing.T) {
		hung := hungDC{idleCluster()}
		k := testKeeper(t, hung.fakeCluster, proc)
		k.a.opt.Cluster = hung
		k.plan = &twoPrimitives
		k.gate.set(0)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s, began, now := k.a.budget().StopBudget, time.Now(), k.a.opt.Now()
		k.ladder.start(ctx, lease.Stop{Ladder: 1, From: now, Until: now.Add(s)})
		select {
		case l := <-k.a.mail:
			if took := time.Since(began); l.ev != (lease.Proven{Ladder: 1}) || took < s*killAt/100 {
				t.Errorf("%+v after %v", l.ev, took)
			}
		case <-time.After(s):
			t.Error("not proven before the reset")
		}
	})
}

// A coordinator that does not come to rest is not waited for until 70 % once everything has stopped: its queue is cut off
// earlier then, and not earlier than 50 %. While something runs it has its time.
func TestLadder_SeversEarlierFromARestlessDC(t *testing.T) {
	for name, tc := range map[string]struct {
		r1    int // what its monitor says
		share time.Duration
	}{"all stopped": {7, loneAt}, "one runs": {0, killAt}} {
		t.Run(name, func(t *testing.T) {
			proc := procDir(t, "50 /usr/libexec/pacemaker/pacemaker-attrd")
			synctest.Test(t, func(t *testing.T) {
				f := idleCluster()
				f.dc.Activity = pcmk.Transition
				f.monitors = map[string]int{"r1": tc.r1}
				k := testKeeper(t, f, proc)
				k.plan = &twoPrimitives
				k.gate.set(0)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				s, now := k.a.budget().StopBudget, k.a.opt.Now()
				k.ladder.start(ctx, lease.Stop{Ladder: 1, From: now, Until: now.Add(s)})
				due := s * tc.share / 100
				time.Sleep(due - time.Millisecond)
				if _, severed := k.gate.state(); severed {
					t.Errorf("severed before %v", due)
				}
				time.Sleep(2*provePace + 2*time.Millisecond)
				if _, severed := k.gate.state(); !severed {
					t.Errorf("not severed by %v", due+2*provePace)
				}
				if tc.share == loneAt {
					if l := <-k.a.mail; l.ev != (lease.Proven{Ladder: 1}) {
						t.Errorf("got %+v", l.ev)
					}
				}
				cancel()
				close(k.a.done) // both that proved may be posting
				synctest.Wait()
			})
		})
	}
}

// A group that has stopped late leaves its coordinator the time to come to rest.
func TestLadder_SeversNotAtOnce(t *testing.T) {
	k := testKeeper(t, idleCluster(), procDir(t, controlled))
	s, from := k.a.budget().StopBudget, k.a.opt.Now()
	k.ladder.stop = lease.Stop{Ladder: 1, From: from, Until: from.Add(s)}
	for stopped, want := range map[time.Duration]time.Duration{10: 50, 30: 50, 40: 60, 45: 65, 55: 70, 90: 70} {
		k.ladder.lone = from.Add(s * stopped / 100)
		if _, kill := k.ladder.rungs(); kill != from.Add(s*want/100) {
			t.Errorf("stopped at %d %%: severed after %v of %v, want %d %%", stopped, kill.Sub(from), s, want)
		}
	}
}

// hungDC is a cluster whose coordinator never answers.
type hungDC struct{ *fakeCluster }

func (hungDC) DCState(ctx context.Context) (pcmk.DC, error) {
	<-ctx.Done()
	return pcmk.DC{}, ctx.Err()
}

// The last resort ends what could still start something, and spares monitors: the proof's own are among them. The
// processes are real; the /proc that names them is not, so that nothing else on this machine can be meant.
func TestLadder_LastResortSparesMonitors(t *testing.T) {
	const db = "/bin/sh /usr/lib/ocf/resource.d/lab/db "
	ends := map[string]bool{db + "start OCF_RESOURCE_INSTANCE=r2": true, db + "stop OCF_RESOURCE_INSTANCE=r1": true,
		db + "monitor OCF_RESOURCE_INSTANCE=r2": false, db + "start OCF_RESOURCE_INSTANCE=other": false,
		"/usr/libexec/pacemaker/pacemaker-execd": true, "/usr/libexec/pacemaker/pacemaker-attrd": false}
	victims := map[string]*exec.Cmd{}
	var lines []string
	for what := range ends {
		cmd := exec.Command("sleep", "60")
		must(t, cmd.Start())
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		victims[what] = cmd
		lines = append(lines, fmt.Sprintf("%d %s", cmd.Process.Pid, what))
	}
	k := testKeeper(t, idleCluster(), procDir(t, lines...))
	k.plan = &twoPrimitives
	k.gate.set(0)
	if !k.ladder.lastResort(t.Context()) {
		t.Fatal("it was not the last resort")
	}
	for what, dies := range ends {
		cmd := victims[what]
		if !dies { // it must still be there to be ended
			must(t, cmd.Process.Signal(syscall.SIGTERM))
		}
		_ = cmd.Wait()
		if by := cmd.ProcessState.Sys().(syscall.WaitStatus).Signal(); (by == syscall.SIGKILL) != dies {
			t.Errorf("%s ended by %v, expected a kill: %v", what, by, dies)
		}
	}
}

// A proof asks nobody while a resource agent is at work here: that keeps a busy machine busy, and is in vain.
func TestProve_LooksAtProcessesFirst(t *testing.T) {
	f := idleCluster()
	k := testKeeper(t, f, procDir(t, controlled, "77 /bin/sh /usr/lib/ocf/resource.d/lab/db stop OCF_RESOURCE_INSTANCE=r1"))
	if err := k.prove(t.Context(), twoPrimitives); err == nil || len(f.calls) != 0 {
		t.Errorf("got %v after %v", err, f.calls)
	}
}
