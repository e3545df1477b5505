package agent

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leasedog/leasedog/lease"
	"github.com/leasedog/leasedog/pcmk"
)

// What an administrator did to the rule or the resources is an alarm, whoever holds; what stands is none.
func TestRuleAlarms(t *testing.T) {
	plan := pcmk.Plan{Node: "node1", Resources: []pcmk.Guarded{{ID: "g", Kind: pcmk.KindGroup, Role: pcmk.RoleStarted}}}
	rule := plan.Rules("pg")[0]
	banned := []pcmk.Ban{{ID: rule.ID() + "-rule", Resource: "g", Node: "node1", Weight: "-1000000", PromotedOnly: pcmk.No}}
	closed := map[string]map[string]string{"node1": {"leasedog-pg-state": "standby"}}
	open := map[string]map[string]string{"node1": {pcmk.AttributeName(rule.Lease): "3"}}
	gone := &pcmk.RefusedError{Resource: "g", Reason: "it does not exist in the cluster's configuration"}
	intact := rule.XML("2.1.5")
	for _, c := range []struct {
		name, constraints string
		phase             lease.Phase
		planErr           error
		status            pcmk.Status
		want, hint        string // "": no alarm
	}{
		{"all stands, closed", intact, lease.Standby, nil, pcmk.Status{Attributes: closed, Bans: banned}, "", ""},
		{"all stands, open", intact, lease.Held, nil, pcmk.Status{Attributes: open}, "", ""},
		{"attributes unknown", intact, lease.Standby, nil, pcmk.Status{}, "", ""},
		{"no rule", "", lease.Held, nil, pcmk.Status{Attributes: open}, "there is no constraint", "--apply"},
		{"weak rule", strings.Replace(intact, "-INFINITY", "-100", 1), lease.Held, nil, pcmk.Status{Attributes: open}, "was changed", "--apply"},
		{"not applied", intact, lease.Standby, nil, pcmk.Status{Attributes: closed}, "does not apply it", "--apply"},
		{"renamed, holder", intact, lease.Held, gone, pcmk.Status{}, "does not exist", "nobody takes over"},
		{"renamed, standby", intact, lease.Standby, gone, pcmk.Status{}, "does not exist", "both nodes"},
		{"plan not readable", intact, lease.Held, errors.New("no answer"), pcmk.Status{}, "", ""},
	} {
		k := testKeeper(t, idleCluster(), procDir(t))
		k.name, k.gate.name = "pg", pcmk.AttributeName(rule.Lease)
		k.a.node = "node1"
		cib, err := pcmk.ParseCIB([]byte(`<cib><configuration><crm_config/><nodes/><resources><group id="g"/></resources><constraints>` + c.constraints +
			`</constraints></configuration><status/></cib>`))
		if err != nil {
			t.Fatal(err)
		}
		got := k.ruleAlarms(c.phase, plan, c.planErr, cluster{cib: cib, status: c.status})
		switch {
		case c.want == "" && len(got) == 0:
		case c.want == "" || len(got) != 1 || !strings.Contains(got[0].Text, c.want) || !strings.Contains(got[0].Hint, c.hint):
			t.Errorf("%s: %v, want %q", c.name, got, c.want)
		}
	}
}

// The arbiter is told alarms soon after they change, again each minute, and again when it did not answer.
func TestTellAlarms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := testKeeper(t, idleCluster(), procDir(t)).a
		a.calls = make(chan func())
		a.preflight.Warnings = []string{"first"}
		var told []string
		fail := false
		a.opt.Tell = func(_ context.Context, _ string, alarms []string) error {
			if fail {
				return errors.New("no answer")
			}
			told = append(told, strings.Join(alarms, ","))
			return nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan struct{})
		go func() {
			defer close(served)
			for {
				select {
				case f := <-a.calls:
					f()
				case <-ctx.Done():
					return
				}
			}
		}()
		ended := make(chan struct{})
		go func() { defer close(ended); a.tellAlarms(ctx) }()
		expect := func(what string, n int, last string) {
			t.Helper()
			synctest.Wait()
			if len(told) != n || n > 0 && told[n-1] != last {
				t.Errorf("%s: told %q, want %d, the last %q", what, told, n, last)
			}
		}
		wait := func(n int) { must(t, pause(ctx, alarmsLook*time.Duration(n))) }
		wait(1)
		expect("at first", 1, "first")
		wait(2)
		expect("unchanged", 1, "first")
		a.mu.Lock()
		a.preflight.Warnings = []string{"second"}
		a.mu.Unlock()
		wait(1)
		expect("changed", 2, "second")
		wait(6)
		expect("after a minute", 3, "second")
		fail = true
		wait(7)
		expect("no answer", 3, "second")
		fail = false
		wait(1)
		expect("it answers again", 4, "second")
		cancel()
		close(a.done)
		<-ended
		<-served
	})
}
