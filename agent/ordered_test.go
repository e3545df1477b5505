package agent

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leasedog/leasedog/agent/control"
	"github.com/leasedog/leasedog/config"
	"github.com/leasedog/leasedog/lease"
	"github.com/leasedog/leasedog/pcmk"
)

const behindLease = `<rsc_order id="o" first="lease" then="g"/><rsc_colocation id="c" rsc="g" with-rsc="lease" score="INFINITY"/>`

// A stop of the agent would never end if a lease could be asked for meanwhile.
func TestCompete_WhileTheAgentIsStopped(t *testing.T) {
	for _, verb := range []control.Verb{control.VerbAcquire, control.VerbOrderedStart} {
		proc := procDir(t, controlled)
		synctest.Test(t, func(t *testing.T) {
			f := idleCluster()
			f.cib = orderedCIB(t, "60s", "", behindLease)
			k := testKeeper(t, f, proc)
			withLoop(t, k, config.AcquireOnDemand)
			k.a.inLoop(func() { k.step(lease.Found{Active: lease.No}); k.a.leaving = true })
			_, err := (handler{k.a}).Do(t.Context(), control.Request{Verb: verb, Lease: "pg", Resource: "lease"})
			var refusal *control.Error
			if !errors.As(err, &refusal) || refusal.Code != control.CodeTryAgain || !strings.Contains(refusal.Message, "being stopped") {
				t.Errorf("%s: %v", verb, err)
			}
			if v := k.holder.View(); v.Asked || v.Phase != lease.Standby {
				t.Errorf("%s: phase %s, asked %v", verb, v.Phase, v.Asked)
			}
		})
	}
}

func orderedCIB(t *testing.T, startTimeout, meta, constraints string) *pcmk.CIB {
	t.Helper()
	cib, err := pcmk.ParseCIB([]byte(`<cib><configuration><crm_config/><nodes/><resources>` +
		`<primitive id="lease" class="ocf" provider="leasedog" type="lease"><meta_attributes id="m">` + meta + `</meta_attributes><operations>` +
		`<op id="s" name="start" interval="0" timeout="` + startTimeout + `"/></operations></primitive><group id="g"/></resources><constraints>` +
		constraints + `<rsc_location id="l" rsc="g"><rule id="r" score="-INFINITY"><expression id="e" attribute="leasedog-pg" operation="not_defined"/>` +
		`</rule></rsc_location></constraints></configuration></cib>`))
	must(t, err)
	return cib
}

// withLoop steps one keeper until the test ends, as the agent's loop would.
func withLoop(t *testing.T, k *keeper, mode config.AcquireMode) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	k.a.life, k.a.calls, k.a.poke = ctx, make(chan func()), make(chan struct{}, 1)
	k.a.keepers = []*keeper{k}
	k.a.known = &lease.Known{}
	k.a.self = lease.Party{Node: "node1", BootID: "b", Instance: lease.Instance{Start: 1, Nonce: 1}}
	k.conf = config.Lease{Name: "pg", Resources: []string{"g"}, Acquire: mode}
	k.polls = map[uint64]context.CancelFunc{}
	k.holder = k.newHolder()
	k.learnPlan(twoPrimitives, nil)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case l := <-k.a.mail:
				l.to.step(l.ev)
			case f := <-k.a.calls:
				f()
			case <-ctx.Done():
				return
			}
		}
	}()
	t.Cleanup(func() {
		stop()
		<-ended
		close(k.a.done)
		synctest.Wait()
	})
}

// What stands for an idle DC: only a call that Pacemaker makes and waits for, with everything guarded behind it, while the
// attribute reads as absent; and only for the turn in which that was so.
func TestNothingUnderWay(t *testing.T) {
	for _, tc := range []struct {
		name    string
		ordered bool
		order   string
		change  func(*fakeCluster)
		want    string // "" settled
	}{
		{"ordered", true, behindLease, func(*fakeCluster) {}, ""},
		{"run by hand", false, behindLease, func(*fakeCluster) {}, "not run by Pacemaker"},
		{"not behind", true, "", func(*fakeCluster) {}, "not everything"},
		{"optional", true, strings.Replace(behindLease, `then="g"`, `then="g" kind="Optional"`, 1), func(*fakeCluster) {}, "not everything"},
		{"configuration unknown", true, behindLease, func(f *fakeCluster) { f.cib = nil }, "hangs"},
		{"attribute unknown", true, behindLease, func(f *fakeCluster) { f.readErr = errors.New("frozen") }, "does not read as absent"},
		{"attribute stays", true, behindLease, func(f *fakeCluster) { f.value, f.sticky = "7", true }, "does not read as absent"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			proc := procDir(t, controlled)
			synctest.Test(t, func(t *testing.T) {
				f := idleCluster()
				f.dc = pcmk.DC{Node: "node2", Activity: pcmk.Transition}
				f.cib = orderedCIB(t, "60s", "", tc.order)
				tc.change(f)
				k := testKeeper(t, f, proc)
				withLoop(t, k, config.AcquireOnDemand)
				k.gate.set(0)
				err := k.nothingUnderWay(t.Context(), control.Request{Resource: "lease", Ordered: tc.ordered}, k.gate.timesOpened())
				if settled, _ := k.gate.state(); settled != (tc.want == "") || settled != (err == nil) {
					t.Fatalf("settled %v, %v", settled, err)
				}
				if err != nil && !strings.Contains(err.Error(), tc.want) {
					t.Errorf("%v, want %q", err, tc.want)
				}
				if proven := k.prove(t.Context(), twoPrimitives); (proven == nil) != (tc.want == "") {
					t.Errorf("proof with a busy DC: %v", proven)
				}
				k.gate.set(8)
				k.gate.set(0)
				if settled, _ := k.gate.state(); settled {
					t.Error("it still counts after the gate was opened again")
				}
			})
		})
	}
}

// A call counts while Pacemaker waits for its answer, and not after a lease that was held since: what is slow here may outlive
// both.
func TestNothingUnderWay_Late(t *testing.T) {
	request := control.Request{Resource: "lease", Ordered: true}
	for _, tc := range []struct {
		name      string
		meanwhile func(k *keeper, hangUp func())
		want      string
	}{
		{"in time", func(*keeper, func()) {}, ""},
		{"the lease was held and lost", func(k *keeper, _ func()) { k.gate.set(8); k.gate.set(0) }, "was held since"},
		{"nobody waits any more", func(_ *keeper, hangUp func()) { hangUp() }, "nobody waits"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			proc := procDir(t, controlled)
			synctest.Test(t, func(t *testing.T) {
				f := &slowRead{fakeCluster: idleCluster()}
				f.cib = orderedCIB(t, "60s", "", behindLease)
				k := testKeeper(t, f.fakeCluster, proc)
				k.gate.cluster = f
				withLoop(t, k, config.AcquireOnDemand)
				k.gate.set(0)
				ctx, hangUp := context.WithCancel(t.Context())
				defer hangUp()
				f.reading = func() { tc.meanwhile(k, hangUp) }
				err := k.nothingUnderWay(ctx, request, k.gate.timesOpened())
				if settled, _ := k.gate.state(); settled != (tc.want == "") || settled != (err == nil) {
					t.Fatalf("settled %v, %v", settled, err)
				}
				if err != nil && !strings.Contains(err.Error(), tc.want) {
					t.Errorf("%v, want %q", err, tc.want)
				}
			})
		})
	}
}

// slowRead is a cluster where something happens while the attribute is read.
type slowRead struct {
	*fakeCluster
	reading func()
}

func (s *slowRead) ReadAttribute(ctx context.Context, node, name string) (pcmk.Attribute, error) {
	s.reading()
	return s.fakeCluster.ReadAttribute(ctx, node, name)
}

// A start makes this node compete and says what it waits for; a stop ends that, and is done at once when nothing is held.
func TestOrderedStartAndStop(t *testing.T) {
	proc := procDir(t, controlled)
	synctest.Test(t, func(t *testing.T) {
		f := idleCluster()
		f.cib = orderedCIB(t, "60s", "", behindLease)
		k := testKeeper(t, f, proc)
		withLoop(t, k, config.AcquireOnDemand)
		h := handler{k.a}
		ask := func(verb control.Verb) (string, error) {
			return h.Do(t.Context(), control.Request{Verb: verb, Lease: "pg", Resource: "lease", Ordered: true})
		}
		view := func() (v lease.View) {
			k.a.inLoop(func() { v = k.holder.View() })
			return v
		}
		again := func(what string, err error) {
			t.Helper()
			var refusal *control.Error
			if !errors.As(err, &refusal) || refusal.Code != control.CodeTryAgain {
				t.Errorf("%s: %v, want try again", what, err)
			}
		}
		for _, verb := range []control.Verb{control.VerbOrderedStart, control.VerbOrderedStop} {
			_, err := ask(verb)
			again("before the first look", err)
		}
		k.post(lease.Found{Active: lease.No})
		k.post(lease.Reading{WhyNot: []string{"the cluster is in maintenance mode"}, FreshUntil: lease.Never})
		_, err := ask(control.VerbOrderedStart)
		again("start", err)
		if v := view(); !v.Asked || v.Retired {
			t.Errorf("a start was asked for: %+v", v)
		}
		f.monitors = map[string]int{"r2": 0}
		_, err = ask(control.VerbOrderedStop)
		again("stop with something active", err)
		f.monitors = nil
		if _, err := ask(control.VerbOrderedStop); err != nil {
			t.Errorf("stop: %v", err)
		}
		if v := view(); v.Asked || !v.Retired {
			t.Errorf("a stop was asked for: %+v", v)
		}
		f.readErr = errDown
		_, err = ask(control.VerbOrderedStop)
		again("stop while the attribute cannot be read", err)
	})
}

// A lease that this node asks for by itself is not for Pacemaker to start.
func TestOrderedStartNeedsOnDemand(t *testing.T) {
	for _, mode := range []config.AcquireMode{config.AcquireAuto, config.AcquireManual} {
		proc := procDir(t, controlled)
		synctest.Test(t, func(t *testing.T) {
			k := testKeeper(t, idleCluster(), proc)
			withLoop(t, k, mode)
			for _, verb := range []control.Verb{control.VerbOrderedStart, control.VerbOrderedCheck} {
				_, err := (handler{k.a}).Do(t.Context(), control.Request{Verb: verb, Lease: "pg", Resource: "lease", Ordered: true})
				var refusal *control.Error
				if !errors.As(err, &refusal) || refusal.Code != control.CodeRefused || !strings.Contains(refusal.Hint, "on-demand") {
					t.Errorf("%s, %s: %v", mode, verb, err)
				}
			}
		})
	}
}

func TestOrderedCheck(t *testing.T) {
	const expires = `<nvpair id="f" name="failure-timeout" value="30s"/>`
	for _, tc := range []struct {
		name, timeout, meta, constraints, resource string

		refused bool
		words   string
	}{
		{"as it should be", "17s", expires, behindLease, "lease", false, ""},
		{"start too short", "16s", expires, behindLease, "lease", true, "may have to wait 16.75s"},
		{"no constraints", "17s", expires, "", "lease", true, "g is not ordered behind lease"},
		{"never tried again", "17s", "", behindLease, "lease", false, "warning: a start of lease that gets no lease bans it"},
		{"not configured yet", "17s", expires, behindLease, "other", false, "needs a timeout of 17s"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			proc := procDir(t, controlled)
			synctest.Test(t, func(t *testing.T) {
				f := idleCluster()
				f.cib = orderedCIB(t, tc.timeout, tc.meta, tc.constraints)
				k := testKeeper(t, f, proc)
				withLoop(t, k, config.AcquireOnDemand)
				message, err := (handler{k.a}).orderedCheck(t.Context(), k, control.Request{Resource: tc.resource})
				var refusal *control.Error
				if errors.As(err, &refusal) != tc.refused || tc.refused && refusal.Code != control.CodeRefused || err != nil && !tc.refused {
					t.Fatalf("%q, %v", message, err)
				}
				if err != nil {
					message = err.Error()
				}
				if !strings.Contains(message, tc.words) || tc.words == "" && message != "" {
					t.Errorf("%q, want %q", message, tc.words)
				}
			})
		})
	}
	if roundUp(16750*time.Millisecond) != 17*time.Second || roundUp(17*time.Second) != 17*time.Second {
		t.Error("a timeout is rounded down")
	}
}
