package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/leasedog/leasedog/agent/control"
)

// answeringAgent answers with one error after the other, and with the last one for ever; at the end of its answers the
// operation's time is over.
type answeringAgent struct {
	answers []error
	states  []control.State // of lease pg, for Status; "" is answers' turn
	asked   []control.Verb
	over    context.CancelFunc
}

func (s *answeringAgent) next() error {
	if len(s.answers) == 0 {
		return nil
	}
	err := s.answers[0]
	if len(s.answers) > 1 {
		s.answers = s.answers[1:]
	} else if s.over != nil {
		s.over()
	}
	return err
}

func (s *answeringAgent) Do(_ context.Context, r control.Request) (string, error) {
	s.asked = append(s.asked, r.Verb)
	if r.Lease != "pg" || r.Resource != "lease" || !r.Ordered {
		return "", fmt.Errorf("asked %+v", r)
	}
	return "done", s.next()
}

func (s *answeringAgent) Status(context.Context) (control.Status, error) {
	if len(s.states) > 0 {
		st := control.Status{Leases: []control.Lease{{Name: "other", State: control.StateHeld}, {Name: "pg", State: s.states[0]}}}
		return st, nil
	}
	return control.Status{Leases: []control.Lease{{Name: "other", State: control.StateHeld}}}, s.next()
}

func TestOCF(t *testing.T) {
	notYet := control.Refuse(control.CodeTryAgain, "", "held by node2")
	wrong := control.Refuse(control.CodeRefused, "write on-demand", `lease pg has acquire = "auto"`)
	unknown := control.Refuse(control.CodeNoLease, "", `there is no lease "pg"`)
	notRoot := control.Refuse(control.CodeForbidden, "", "only root may")
	gone := fmt.Errorf("%w (nobody listens)", control.ErrNotRunning)
	busy := errors.New("ask the agent: it closed the connection")
	type verbs = []control.Verb
	for name, c := range map[string]struct {
		op      string
		answers []error
		states  []control.State
		guard   bool
		paused  bool // by its record
		code    int
		words   string // part of what is said
		last    verbs  // the last verbs that were asked
	}{
		"start":                        {op: "start", answers: []error{notYet, notYet, nil}, words: "done"},
		"start, lost race":             {op: "start", answers: []error{notYet, notYet}, code: 1, words: "not held in time: held by node2", last: verbs{"ordered-start", "ordered-stop"}},
		"start, agent restarts":        {op: "start", answers: []error{gone, busy, notYet, nil}, words: "done"},
		"start, no agent":              {op: "start", answers: []error{gone}, code: 1, words: "not running"},
		"start, wrong mode":            {op: "start", answers: []error{wrong, nil}, code: 6, words: "acquire"},
		"start, unknown lease":         {op: "start", answers: []error{unknown, nil}, code: 6, words: "there is no lease"},
		"start, not root":              {op: "start", answers: []error{notRoot, nil}, code: 4, words: "only root"},
		"stop":                         {op: "stop", answers: []error{notYet, nil}, words: "done"},
		"stop, not done":               {op: "stop", answers: []error{notYet, notYet}, code: 1, words: "held by node2"},
		"stop, unknown lease":          {op: "stop", answers: []error{unknown}, words: "nothing of lease pg is held"},
		"stop, agent ended":            {op: "stop", answers: []error{gone, notYet}, words: "nothing of lease pg is held"},
		"stop, agent died":             {op: "stop", answers: []error{gone, gone}, guard: true, code: 1, words: "not running"},
		"stop, agent comes back":       {op: "stop", answers: []error{gone, notYet, nil}, guard: true, words: "done"},
		"monitor":                      {op: "monitor", states: []control.State{control.StateHeld}},
		"monitor, paused":              {op: "monitor", states: []control.State{control.StatePaused}},
		"monitor, leaving":             {op: "monitor", states: []control.State{control.StateLeaving}, code: 7},
		"monitor, losing":              {op: "monitor", states: []control.State{control.StateLosing}, code: 7},
		"monitor, acquiring":           {op: "monitor", states: []control.State{control.StateAcquiring}, code: 7},
		"monitor, stands by":           {op: "monitor", states: []control.State{control.StateStandby}, code: 7},
		"monitor, unknown lease":       {op: "monitor", answers: []error{nil}, code: 7},
		"monitor, agent ended":         {op: "monitor", answers: []error{gone}, code: 7},
		"monitor, agent died":          {op: "monitor", answers: []error{gone, gone}, guard: true, code: 1, words: "cannot be told"},
		"monitor, no agent in a pause": {op: "monitor", answers: []error{gone, gone}, paused: true},
		"monitor, not paused any more": {op: "monitor", states: []control.State{control.StateStandby}, paused: true, code: 7},
		"monitor, agent does not tell": {op: "monitor", answers: []error{busy, busy}, code: 1, words: "cannot be told"},
		"validate-all":                 {op: "validate-all", answers: []error{nil}, words: "done"},
		"validate-all, wrong":          {op: "validate-all", answers: []error{wrong}, code: 6, words: "acquire"},
		"validate-all, no agent":       {op: "validate-all", answers: []error{gone}, code: 1, words: "not running"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			agent := &answeringAgent{answers: c.answers, states: c.states, over: cancel}
			var out strings.Builder
			call := &ocfCall{agent: agent, guarded: func(context.Context) bool { return c.guard },
				paused: func(string) bool { return c.paused }, lease: "pg", id: "lease", ordered: true,
				pace: time.Microsecond, out: &out}
			err := map[string]func(context.Context) error{"start": call.start, "stop": call.stop, "monitor": call.monitor,
				"validate-all": call.validate}[c.op](ctx)
			code := report(&out, err)
			if code != c.code || !strings.Contains(out.String(), c.words) || c.words == "" && out.Len() > 0 {
				t.Errorf("exit code %d, %q; want %d, %q", code, out.String(), c.code, c.words)
			}
			if n := len(agent.asked); n < len(c.last) || fmt.Sprint(agent.asked[n-len(c.last):]) != fmt.Sprint(c.last) {
				t.Errorf("asked %v, want %v at the end", agent.asked, c.last)
			}
		})
	}
}

// The shell around it: bad input has OCF's exit codes and one clear line, and what is not there holds nothing.
func TestOCFShell(t *testing.T) {
	agent, err := filepath.Abs("../../packaging/ocf/lease")
	if err != nil {
		t.Fatal(err)
	}
	echo := filepath.Join(t.TempDir(), "leasedog")
	if err := os.WriteFile(echo, []byte("#!/bin/sh\necho \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args, env []string
		code      int
		out       string // the whole of it; "" is checked too, "*" is not
	}{
		"nothing":               {code: 3, out: "*"},
		"unknown":               {args: []string{"dance"}, code: 3, out: "usage: " + agent + " start|stop|monitor|validate-all|meta-data\n"},
		"meta-data":             {args: []string{"meta-data"}, out: "*"},
		"start":                 {args: []string{"start"}, env: []string{"OCF_RESKEY_lease=pg"}, out: "ocf start pg --resource lease\n"},
		"by Pacemaker":          {args: []string{"stop"}, env: []string{"OCF_RESKEY_lease=pg", "OCF_RESOURCE_INSTANCE=l-pg", "OCF_RESKEY_CRM_meta_timeout=60000", "OCF_RESKEY_CRM_meta_on_node=node1"}, out: "ocf stop pg --resource l-pg --timeout 60000ms --ordered\n"},
		"bad timeout":           {args: []string{"monitor"}, env: []string{"OCF_RESKEY_lease=pg", "OCF_RESKEY_CRM_meta_timeout=10s; reboot"}, out: "ocf monitor pg --resource lease\n"},
		"no lease, start":       {args: []string{"start"}, code: 6, out: "ocf:leasedog:lease: the parameter lease is not set\n"},
		"no lease, validate":    {args: []string{"validate-all"}, code: 6, out: "ocf:leasedog:lease: the parameter lease is not set\n"},
		"no lease, monitor":     {args: []string{"monitor"}, code: 7},
		"no lease, stop":        {args: []string{"stop"}},
		"no program, start":     {args: []string{"start"}, env: []string{"OCF_RESKEY_lease=pg", "LEASEDOG=/nowhere"}, code: 5, out: "ocf:leasedog:lease: /nowhere is not installed\n"},
		"no program, monitor":   {args: []string{"monitor"}, env: []string{"OCF_RESKEY_lease=pg", "LEASEDOG=/nowhere"}, code: 7},
		"no program, stop":      {args: []string{"stop"}, env: []string{"OCF_RESKEY_lease=pg", "LEASEDOG=/nowhere"}},
		"a name that is a flag": {args: []string{"start"}, env: []string{"OCF_RESKEY_lease=--help"}, code: 6, out: "*"},
	} {
		cmd := exec.Command("/bin/sh", append([]string{agent}, c.args...)...)
		cmd.Env = append([]string{"PATH=/usr/bin:/bin", "LEASEDOG=" + echo}, c.env...)
		out, err := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != c.code || c.out != "*" && string(out) != c.out {
			t.Errorf("%s: exit code %d, %q, %v; want %d, %q", name, code, out, err, c.code, c.out)
		}
	}
}
