package pcmk_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/leasedog/leasedog/command"
	"github.com/leasedog/leasedog/pcmk"
)

func primitive(class string) pcmk.Primitive {
	return pcmk.Primitive{ID: "s1", Class: class, Provider: "pacemaker", Type: "Stateful", Agent: "/agent", Role: pcmk.RoleStarted,
		Params: map[string]string{"state": "a b"}, Meta: map[string]string{"clone-max": "2"},
		Timeouts: map[string]time.Duration{"stop": 5 * time.Second}}
}

func TestRunAgentConditions(t *testing.T) {
	tests := []struct {
		class string
		code  int
		want  pcmk.Condition
	}{
		{"ocf", 0, pcmk.Running}, {"ocf", 7, pcmk.Stopped}, {"ocf", 8, pcmk.Promoted}, {"ocf", 9, pcmk.PromotedFailed},
		{"ocf", 190, pcmk.Degraded}, {"ocf", 191, pcmk.PromotedDegraded},
		{"lsb", 0, pcmk.Running}, {"lsb", 3, pcmk.Stopped}, {"lsb", 7, pcmk.ConditionUnknown},
		{"lsb", 1, pcmk.ConditionUnknown}, {"lsb", 2, pcmk.ConditionUnknown}, {"lsb", 4, pcmk.ConditionUnknown},
	}
	for _, code := range []int{1, 2, 3, 4, 5, 6, 10, 126, 127, 128 + 9} {
		tests = append(tests, struct {
			class string
			code  int
			want  pcmk.Condition
		}{"ocf", code, pcmk.ConditionUnknown})
	}
	for _, tt := range tests {
		a, err := cluster(exits(tt.code, "")).RunAgent(within(t), pcmk.Plan{}, primitive(tt.class), pcmk.Monitor)
		if err != nil || a.Condition != tt.want || a.Code != tt.code || a.Done() {
			t.Errorf("%s %d: %+v, %v, want %v", tt.class, tt.code, a, err, tt.want)
		}
	}
}

// TestInactive: the only conditions that count as stopped, for each guarded role (attack 16).
func TestInactive(t *testing.T) {
	for c := pcmk.ConditionUnknown; c <= pcmk.PromotedDegraded+1; c++ {
		started, promoted := pcmk.Primitive{Role: pcmk.RoleStarted}, pcmk.Primitive{Role: pcmk.RolePromoted}
		if got, want := started.Inactive(c), c == pcmk.Stopped; got != want {
			t.Errorf("role Started, %v: inactive %v", c, got)
		}
		if got, want := promoted.Inactive(c), c == pcmk.Stopped || c == pcmk.Running; got != want {
			t.Errorf("role Promoted, %v: inactive %v", c, got)
		}
		if (pcmk.Primitive{}).Inactive(c) != (c == pcmk.Stopped) {
			t.Errorf("role not known, %v", c)
		}
	}
}

func TestRunAgentEnvironment(t *testing.T) {
	f := exits(0, "")
	plan := pcmk.Plan{FeatureSet: "3.16.1", Node: "node1"}
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	a, err := cluster(f).RunAgent(ctx, plan, primitive("ocf"), pcmk.Stop)
	if err != nil || !a.Done() || a.Condition != pcmk.ConditionUnknown {
		t.Fatalf("%+v, %v", a, err)
	}
	for _, want := range []string{"OCF_ROOT=/usr/lib/ocf", "OCF_RA_VERSION_MAJOR=1", "OCF_RA_VERSION_MINOR=1",
		"OCF_RESOURCE_INSTANCE=s1", "OCF_RESOURCE_TYPE=Stateful", "OCF_RESOURCE_PROVIDER=pacemaker", "OCF_RESKEY_state=a b",
		"OCF_RESKEY_CRM_meta_clone_max=2", "OCF_RESKEY_crm_feature_set=3.16.1", "OCF_RESKEY_CRM_meta_timeout=5000",
		"OCF_RESKEY_CRM_meta_on_node=node1"} {
		if !slices.Contains(f.envs[0], want) {
			t.Errorf("environment lacks %s: %q", want, f.envs[0])
		}
	}
	if f.calls[0] != "agent stop" {
		t.Errorf("ran %q", f.calls)
	}
	// With less time left than configured the agent is told what is left.
	short, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if _, err := cluster(f).RunAgent(short, plan, primitive("ocf"), pcmk.Stop); err != nil {
		t.Fatal(err)
	}
	for _, kv := range f.envs[1] {
		if v, ok := strings.CutPrefix(kv, "OCF_RESKEY_CRM_meta_timeout="); ok {
			if ms, err := strconv.Atoi(v); err != nil || ms > 2000 || ms < 1 {
				t.Errorf("timeout %q with 2 s left", v)
			}
		}
	}
}

func TestRunAgentRefuses(t *testing.T) {
	f := exits(0, "")
	c := cluster(f)
	for _, a := range []pcmk.Action{"start", "promote", "migrate_from", ""} {
		if _, err := c.RunAgent(within(t), pcmk.Plan{}, primitive("ocf"), a); err == nil {
			t.Errorf("action %q was run directly", a)
		}
		if _, err := c.Force(within(t), primitive("ocf"), a); err == nil {
			t.Errorf("action %q was forced", a)
		}
	}
	if _, err := c.RunAgent(within(t), pcmk.Plan{}, primitive("systemd"), pcmk.Stop); !errors.Is(err, pcmk.ErrNoDirectRun) {
		t.Errorf("systemd: %v", err)
	}
	if _, err := c.RunAgent(within(t), pcmk.Plan{}, primitive("lsb"), pcmk.Demote); err == nil {
		t.Error("an init script was asked to demote")
	}
	if len(f.calls) > 0 {
		t.Errorf("something was run: %q", f.calls)
	}
	if _, err := c.RunAgent(within(t), pcmk.Plan{}, primitive("lsb"), pcmk.Monitor); err != nil || f.calls[0] != "agent status" {
		t.Errorf("init script: %q, %v", f.calls, err)
	}
}

// TestRunAgentNoAnswer: whatever is not the agent's own exit code is an error.
func TestRunAgentNoAnswer(t *testing.T) {
	for name, e := range map[string]*command.Error{
		"killed at the deadline": {ExitCode: -1, TimedOut: true},
		"killed by a signal":     {ExitCode: -1, Signal: 9},
		"missing":                {ExitCode: -1, NotStarted: true},
		"too much output":        {ExitCode: -1, OutputLimit: true},
	} {
		if a, err := cluster(&fake{err: e}).RunAgent(within(t), pcmk.Plan{}, primitive("ocf"), pcmk.Monitor); err == nil ||
			a.Condition != pcmk.ConditionUnknown {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
	// A daemon that the agent left behind holds the pipe: the agent itself has answered.
	a, err := cluster(&fake{err: &command.Error{PipeHeld: true}}).RunAgent(within(t), pcmk.Plan{}, primitive("ocf"), pcmk.Monitor)
	if err != nil || a.Condition != pcmk.Running {
		t.Errorf("pipe held: %+v, %v", a, err)
	}
}

// TestRunAgentForReal runs a small agent by the real runner.
func TestRunAgentForReal(t *testing.T) {
	agent := filepath.Join(t.TempDir(), "agent")
	script := "#!/bin/sh\ncase $1 in monitor) [ \"$OCF_RESOURCE_INSTANCE$OCF_RESKEY_state\" = 's1a b' ] && exit 8;; esac\nexit 1\n"
	if err := os.WriteFile(agent, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	p := primitive("ocf")
	p.Agent = agent
	a, err := pcmk.New(command.Exec{}, pcmk.Tools{}, pcmk.Options{}).RunAgent(within(t), pcmk.Plan{}, p, pcmk.Monitor)
	if err != nil || a.Condition != pcmk.Promoted {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestForce(t *testing.T) {
	tests := []struct {
		name, out string
		code      int
		want      pcmk.Condition
		fails     bool
	}{
		{"2.0 running", "Operation monitor for s1 (ocf:pacemaker:Stateful) returned: 'ok' (0)\n", 0, pcmk.Running, false},
		{"2.0 promoted", "Operation monitor for s1 (ocf:pacemaker:Stateful) returned: 'master' (8)\n", 8, pcmk.Promoted, false},
		{"2.0 stopped", "Operation monitor for s1 (ocf:pacemaker:Stateful) returned: 'not running' (7)\n", 7, pcmk.Stopped, false},
		{"2.1 promoted", "Operation force-check for s1 (ocf:pacemaker:Stateful) returned 8 (promoted)\n", 8, pcmk.Promoted, false},
		{"3.0 stopped", "Operation force-check for s1 (ocf:pacemaker:Stateful) returned 7 (Not running)\n", 7, pcmk.Stopped, false},
		{"instance", "Operation force-check for s1:0 (ocf:pacemaker:Stateful) returned 0 (OK)\n", 0, pcmk.Running, false},
		{"the tool's own 7", "", 7, 0, true},
		{"codes differ", "Operation force-check for s1 (ocf:pacemaker:Stateful) returned 0 (OK)\n", 7, 0, true},
		{"another resource", "Operation force-check for ms1 (ocf:pacemaker:Stateful) returned 7 (Not running)\n", 7, 0, true},
		{"twice", strings.Repeat("Operation force-check for s1 (ocf:pacemaker:Stateful) returned 7 (Not running)\n", 2), 7, 0, true},
		{"unsupported", "", 3, 0, true},
		{"no such resource", "", 105, 0, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := exits(tt.code, tt.out)
			a, err := cluster(f).Force(within(t), primitive("ocf"), pcmk.Monitor)
			if (err != nil) != tt.fails || a.Condition != tt.want {
				t.Errorf("got %+v, %v", a, err)
			}
		})
	}
	f := exits(0, "Operation force-demote for s1 (ocf:pacemaker:Stateful) returned 0 (ok)\n")
	if a, err := cluster(f).Force(within(t), primitive("ocf"), pcmk.Demote); err != nil || !a.Done() {
		t.Errorf("demote: %+v, %v", a, err)
	}
	if !strings.HasPrefix(f.calls[0], "crm_resource --resource s1 --force-demote --force --timeout ") {
		t.Errorf("asked %q", f.calls)
	}
	if _, err := cluster(f).Force(within(t), primitive("lsb"), pcmk.Monitor); err == nil {
		t.Error("an init script was checked through crm_resource")
	}
}
