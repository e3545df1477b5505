package agent

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"

	"github.com/leasedog/leasedog/agent/control"
	"github.com/leasedog/leasedog/lease"
	"github.com/leasedog/leasedog/pcmk"
)

// What an administrator did to the rule or the resources is an alarm, whoever holds; what stands is none.
func TestRuleAlarms(t *testing.T) {
	plan := pcmk.Plan{Node: "node1", Resources: []pcmk.Guarded{{ID: "g", Kind: pcmk.KindGroup, Role: pcmk.RoleStarted}}}
	rule := plan.Rules("pg")[0]
	banned := []pcmk.Ban{{ID: rule.ID() + "-rule", Resource: "g", Node: "node1", Weight: "-1000000", PromotedOnly: pcmk.No}}
	closed := map[string]map[string]string{"node1": {"leasedog-pg-state": "standby"}}
	member := pcmk.Node{Online: pcmk.Yes, Pending: pcmk.No}
	nodes := func(change func(*pcmk.Node)) []pcmk.Node {
		one, two := member, member
		one.Name, two.Name = "node1", "node2"
		change(&two)
		return []pcmk.Node{one, two}
	}
	both := nodes(func(*pcmk.Node) {})
	banned2 := append(slices.Clone(banned), pcmk.Ban{ID: rule.ID() + "-rule", Resource: "g", Node: "node2", Weight: "-1000000", PromotedOnly: pcmk.No})
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
		{"all stands, closed", intact, lease.Standby, nil, pcmk.Status{Nodes: both, Attributes: closed, Bans: banned2}, "", ""},
		{"all stands, open", intact, lease.Held, nil, pcmk.Status{Nodes: both, Attributes: open, Bans: banned2[1:]}, "", ""},
		{"attributes unknown", intact, lease.Standby, nil, pcmk.Status{}, "", ""},
		{"no rule", "", lease.Held, nil, pcmk.Status{Attributes: open}, "there is no constraint", "--apply"},
		{"weak rule", strings.Replace(intact, "-INFINITY", "-100", 1), lease.Held, nil, pcmk.Status{Attributes: open}, "was changed", "--apply"},
		{"not applied", intact, lease.Standby, nil, pcmk.Status{Nodes: both, Attributes: closed, Bans: banned2[1:]}, "no ban of g on node1", "--apply"},
		{"not applied on the other node", intact, lease.Held, nil, pcmk.Status{Nodes: both, Attributes: open}, "no ban of g on node2", "--apply"},
		{"the other node is gone", intact, lease.Held, nil,
			pcmk.Status{Nodes: nodes(func(n *pcmk.Node) { n.Online = pcmk.No }), Attributes: open}, "", ""},
		{"the other node joins", intact, lease.Held, nil,
			pcmk.Status{Nodes: nodes(func(n *pcmk.Node) { n.Pending = pcmk.Yes }), Attributes: open}, "", ""},
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
		if why := k.ruleGates(plan, cluster{cib: cib, status: c.status}); c.planErr == nil && (len(why) > 0) != (c.want != "") {
			t.Errorf("%s: may not compete because of %q", c.name, why)
		}
	}
}

// What comes and goes is in the log once, and not with every look.
func TestRuleAlarmsAreLogged(t *testing.T) {
	k := testKeeper(t, idleCluster(), procDir(t))
	log, hook := logtest.NewNullLogger()
	k.a.log = logrus.NewEntry(log)
	gone := []control.Alarm{{Text: "no rule", Hint: "apply it"}}
	for _, c := range []struct {
		before, after []control.Alarm
		want          string // "": nothing
		level         logrus.Level
	}{
		{nil, nil, "", 0},
		{nil, gone, "no rule: apply it", logrus.ErrorLevel},
		{gone, gone, "", 0},
		{gone, nil, "mended: no rule", logrus.InfoLevel},
	} {
		hook.Reset()
		k.tellRuleAlarms(c.before, c.after)
		lines := hook.AllEntries()
		switch {
		case c.want == "" && len(lines) == 0:
		case len(lines) != 1 || lines[0].Message != c.want || lines[0].Level != c.level:
			t.Errorf("%v, then %v: %v, want %q", c.before, c.after, lines, c.want)
		}
	}
}

// Status says what comes of resources that are not to run on the holder, and when a node that stands back competes again.
func TestNextOfWhatDoesNotRun(t *testing.T) {
	k := testKeeper(t, idleCluster(), procDir(t))
	held := lease.View{Phase: lease.Held, LoseAt: 3e9, ResetAt: 5e9}
	leaving := held
	leaving.GiveUpAt = 4e9
	failed := survey{cannotRun: "r failed here once", running: lease.No}
	standby := survey{cannotRun: "this node is in standby", planned: true, running: lease.No}
	moved := survey{cannotRun: "g was moved away", planned: true, running: lease.Yes}
	for _, c := range []struct {
		name      string
		view      lease.View
		survey    survey
		after     time.Duration
		want, not string
	}{
		{"runs", held, survey{running: lease.Yes}, 5 * time.Second, "reset in 4.0 s", "lease"},
		{"failed, a peer waits", leaving, failed, 5 * time.Second, "gives the lease up in 3.0 s", ""},
		{"failed, nobody waits", held, failed, 5 * time.Second, "until another node waits", ""},
		{"failed, and never given up", held, failed, 0, "give_up_after is 0", ""},
		{"standby, nobody waits", held, standby, 0, "until another node waits", ""},
		{"moved, and came back", held, moved, 5 * time.Second, "all the same", ""},
		{"stands back, standby", lease.View{Phase: lease.Standby, NotBefore: 9e9}, survey{}, 5 * time.Second, "competes in 8.0 s", ""},
		{"stands back, acquiring", lease.View{Phase: lease.Acquiring, StandBack: 9e9}, survey{}, 5 * time.Second, "stands back for 8.0 s", ""},
		{"stood back", lease.View{Phase: lease.Acquiring, StandBack: 1e9}, survey{}, 5 * time.Second, "waits for the lease", "stands back"},
	} {
		k.conf.GiveUpAfter = c.after
		got := k.next(1e9, c.view, c.survey)
		if !strings.Contains(got, c.want) || c.not != "" && strings.Contains(got, c.not) {
			t.Errorf("%s: %q, want %q, not %q", c.name, got, c.want, c.not)
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
