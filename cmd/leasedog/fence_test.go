package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/leasedog/leasedog/agent/control"
)

// fakeFence answers in turn, and its clock moves only while somebody waits.
type fakeFence struct {
	now     time.Time
	answers []any // control.Fence or error; the last one repeats
	asked   []control.Request
}

func (a *fakeFence) Fence(ctx context.Context, r control.Request) (control.Fence, error) {
	a.asked = append(a.asked, r)
	next := a.answers[min(len(a.asked), len(a.answers))-1]
	if err, ok := next.(error); ok {
		return control.Fence{}, err
	}
	return next.(control.Fence), nil
}

func (a *fakeFence) call(t *testing.T, limit time.Duration, args ...string) (code int, out, problem string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	f, err := readFenceOptions(args, strings.NewReader(""), &stderr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	a.now = time.Unix(1000, 0)
	end := a.now.Add(limit)
	c := fenceCall{agent: a, out: &stdout, errs: &stderr, now: func() time.Time { return a.now }, pause: func(_ context.Context, d time.Duration) error {
		if a.now = a.now.Add(d); a.now.After(end) {
			cancel()
			return context.Canceled
		}
		return nil
	}}
	err = c.run(ctx, f)
	code, _ = codeAndHint(err)
	if err == nil {
		code = 0
	}
	if err != nil {
		problem = err.Error()
	}
	return code, stdout.String(), problem
}

func held(left float64) control.Fence {
	return control.Fence{Reason: "node2 holds lease pg", Boot: "b1", FreeInS: control.Known(left)}
}

// A success needs the word of the arbiter. Everything else is a failure, and says why.
func TestFenceEnds(t *testing.T) {
	done := control.Fence{Done: true, Reason: "node2 holds nothing, and is barred until it boots anew"}
	waits := control.Fence{Reason: "only a new boot is a proof", Boot: "b1"}
	away := control.Refuse(control.CodeTryAgain, "", "the arbiter does not answer: no route to host")
	for name, c := range map[string]struct {
		answers []any
		want    string // "" is a success
	}{
		"holds nothing":            {[]any{done}, ""},
		"hold runs out":            {[]any{held(1.0), held(0.7), held(0.4), held(0.1), done}, ""},
		"new boot":                 {[]any{waits, waits, waits, done}, ""},
		"an answer was lost":       {[]any{away, away, done}, ""},
		"goes on renewing":         {[]any{held(5), held(4.7), held(8.7), done}, "is alive and keeps the lease"},
		"granted, then renewed":    {[]any{waits, held(8), held(8.6), done}, "is alive"},
		"paused":                   {[]any{control.Fence{Final: true, Reason: "node2 holds lease pg, paused"}, done}, "paused"},
		"arbiter away":             {[]any{away}, "does not answer"},
		"agent away":               {[]any{control.ErrNotRunning}, "not running"},
		"forbidden":                {[]any{control.Refuse(control.CodeForbidden, "", "only root may fence"), done}, "only root"},
		"another version":          {[]any{control.Refuse(control.CodeBadRequest, "", "this agent does not know"), done}, "does not know"},
		"never certain":            {[]any{waits}, "not certain within 50s: only a new boot is a proof"},
		"what cannot be read":      {[]any{errors.New("the answer says nothing of the fencing")}, "says nothing"},
		"nothing said":             {[]any{control.Fence{}}, "not certain"},
		"away while it is waited":  {[]any{held(60), away}, "does not answer"},
		"hold that does not count": {[]any{held(5)}, "is alive"},
	} {
		for _, action := range []string{"off", "reboot"} {
			a := &fakeFence{answers: c.answers}
			code, out, problem := a.call(t, 50*time.Second, "-o", action, "-n", "node2")
			if (code == 0) != (c.want == "") || code > 1 || !strings.Contains(problem, c.want) || out != "" || strings.Contains(problem, "\n") {
				t.Errorf("%s of %s: exit code %d, %q %q", action, name, code, out, problem)
			}
			for i, r := range a.asked {
				if r.To != "node2" || r.Off != (action == "off") || r.Check || i == 0 && r.Boot != "" {
					t.Errorf("%s of %s asks %+v", action, name, r)
				}
			}
		}
	}
	a := &fakeFence{answers: []any{waits, done}}
	if code, _, _ := a.call(t, 50*time.Second, "--plug=node2", "--delay", "5"); code != 0 || a.asked[1].Boot != "b1" || a.now.Unix() < 1005 {
		t.Errorf("exit code %d at %v, asked %+v", code, a.now, a.asked)
	}
}

// Off is an exit code of its own, which nothing else may have.
func TestFenceLooks(t *testing.T) {
	quiet := func(s float64) control.Fence { return control.Fence{Reason: "heard", QuietS: control.Known(s)} }
	barred := control.Fence{Done: true, Reason: "barred"}
	list := control.Fence{Nodes: []string{"node1", "node2"}}
	away := control.Refuse(control.CodeTryAgain, "", "no answer")
	for name, c := range map[string]struct {
		action  string
		answers []any
		code    int
		out     string
	}{
		"on":                {"status", []any{quiet(1)}, 0, "Status: ON (heard)\n"},
		"off":               {"status", []any{barred}, 2, "Status: OFF (barred)\n"},
		"silent":            {"status", []any{quiet(31)}, 1, ""},
		"never heard":       {"status", []any{control.Fence{Reason: "x"}}, 1, ""},
		"unknown node":      {"status", []any{control.Fence{Final: true, QuietS: control.Known(0.0)}}, 1, ""},
		"status in doubt":   {"status", []any{away}, 1, ""},
		"on: barred":        {"on", []any{barred}, 1, ""},
		"on: lives":         {"on", []any{quiet(1)}, 0, ""},
		"on: in doubt":      {"on", []any{away}, 1, ""},
		"on: unknown":       {"on", []any{control.Fence{Final: true}}, 1, ""},
		"list":              {"list", []any{list}, 0, "node1,\nnode2,\n"},
		"list in doubt":     {"list", []any{away}, 1, ""},
		"list with states":  {"list-status", []any{list, quiet(1), barred}, 0, "node1,,ON\nnode2,,OFF\n"},
		"list with a doubt": {"list-status", []any{list, quiet(1), away}, 0, "node1,,ON\nnode2,,UNKNOWN\n"},
		"monitor":           {"monitor", []any{list, away}, 0, ""},
		"monitor: nobody":   {"monitor", []any{control.Fence{}}, 1, ""},
		"monitor: no agent": {"monitor", []any{control.ErrNotRunning}, 1, ""},
		"monitor: cluster":  {"monitor", []any{away}, 1, ""},
		"validate-all":      {"validate-all", []any{away}, 0, ""},
	} {
		a := &fakeFence{answers: c.answers}
		if code, out, problem := a.call(t, time.Minute, "-o", c.action, "-n", "node2"); code != c.code || out != c.out || code == 1 && problem == "" {
			t.Errorf("%s: exit code %d, %q, %q", name, code, out, problem)
		}
		for _, r := range a.asked {
			if r.To != "" && !r.Check {
				t.Errorf("%s would fence: %+v", name, r)
			}
		}
	}
}

func TestFenceOptions(t *testing.T) {
	const usual = "action=reboot\nnodename=node2\nport=node2\n"
	for name, c := range map[string]struct {
		args []string
		in   string
		want string // plug/action/timeout/delay, or a part of the error
		warn string
	}{
		"short":           {[]string{"-o", "off", "-n", "node2"}, "", "node2/off/50s/0s", ""},
		"joined":          {[]string{"-ooff", "-nnode2", "-vv"}, "", "node2/off/50s/0s", ""},
		"long":            {[]string{"--action=status", "--plug", "node2", "--power-timeout=20"}, "", "node2/status/20s/0s", ""},
		"default action":  {[]string{"-n", "node2"}, "", "node2/reboot/50s/0s", ""},
		"Pacemaker's":     {nil, usual + "nodeid=2\ndelay=3s\npcmk_host_list=a b\n", "node2/reboot/50s/3s", `unknown option "pcmk_host_list"`},
		"only a nodename": {nil, "action=off\nnodename=node2\n", "node2/off/50s/0s", ""},
		"mapped":          {nil, "action=off\nnodename=node2\nplug=n2.example\n", "n2.example/off/50s/0s", ""},
		"comments":        {nil, "# a\n\n  action = off \n\tplug=node2\nverbose\n", "node2/off/50s/0s", ""},
		"former names":    {nil, "option=Disable\nport=node2\n", "node2/off/50s/0s", ""},
		"dashes":          {nil, "power-timeout=7\nplug=node2", "node2/reboot/7s/0s", ""},
		"a number":        {[]string{"-n", "node2", "--power-timeout", "soon"}, "", "not a number of seconds", ""},
		"no time at all":  {nil, "plug=node2\npower_timeout=0\n", "above 0", ""},
		"not a number":    {nil, "plug=node2\ndelay=NaN\n", "not a number of seconds", ""},
		"no node":         {[]string{"-o", "off"}, "", "needs a node", ""},
		"no input":        {nil, "", "needs a node", ""},
		"odd node":        {nil, "plug=node2;reboot\n", "not a node's name", ""},
		"odd action":      {nil, "action=kill\nplug=node2\n", "is none of", ""},
		"odd option":      {[]string{"--force"}, "", "no option --force", ""},
		"stray word":      {[]string{"off"}, "", "is no option", ""},
		"a lone dash":     {[]string{"-"}, "", "is no option", ""},
		"no value":        {[]string{"-n"}, "", "needs a value", ""},
		"far too much":    {nil, "plug=node2\n" + strings.Repeat("#", fenceInput), "more than", ""},
		"the socket":      {nil, usual + "socket=/tmp/evil\n", "node2/reboot/50s/0s", `"socket"`},
		"nobody needed":   {[]string{"-o", "list"}, "", "/list/50s/0s", ""},
	} {
		var warn bytes.Buffer
		f, err := readFenceOptions(c.args, strings.NewReader(c.in), &warn)
		got := strings.Join([]string{f.plug, f.action, f.timeout.String(), f.delay.String()}, "/")
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, c.want) || err == nil && got != c.want || !strings.Contains(warn.String(), c.warn) || c.warn == "" && warn.Len() > 0 || f.socket != "" {
			t.Errorf("%s: %s, want %s (%s)", name, got, c.want, warn.String())
		}
	}
}

// FuzzFenceInput: whatever is on standard input, what comes of it is a known action on a node with a name, or an error.
func FuzzFenceInput(f *testing.F) {
	f.Add("action=off\nport=node2\n")
	f.Add("# x\nnodename=a\n\noption=enable\npower_timeout=1e3\n=\n")
	f.Fuzz(func(t *testing.T, in string) {
		o, err := readFenceOptions(nil, strings.NewReader(in), &bytes.Buffer{})
		if err != nil {
			return
		}
		if o.plug == "" && (o.action == "off" || o.action == "reboot" || o.action == "on") && !o.help && !o.version || o.timeout <= 0 || o.delay < 0 || o.socket != "" {
			t.Errorf("%q is taken as %+v", in, o)
		}
	})
}

// The metadata is what fence-agents' own schema wants. It is not ours to ship: Debian has it in fence-agents,
// /usr/share/cluster/relaxng/metadata.rng (lib/metadata.rng of github.com/ClusterLabs/fence-agents); a root file system of
// the lab has it too.
func TestFenceMetadata(t *testing.T) {
	code, out, _ := (&fakeFence{}).call(t, time.Minute, "-o", "metadata")
	for _, a := range fenceActions() {
		if !strings.Contains(out, `<action name="`+a+`"`) {
			t.Errorf("the metadata lacks the action %s", a)
		}
	}
	if code != 0 || strings.Contains(out, "socket") {
		t.Errorf("exit code %d", code)
	}
	xmllint, err := exec.LookPath("xmllint")
	if err != nil {
		t.Skip("xmllint is not installed")
	}
	const inside = "usr/share/cluster/relaxng/metadata.rng"
	found, _ := filepath.Glob("../../.cache/lab/*/*/" + inside)
	if _, err := os.Stat("/" + inside); err == nil {
		found = append(found, "/"+inside)
	}
	if len(found) == 0 {
		t.Skip("fence-agents is not installed: no /" + inside)
	}
	file := filepath.Join(t.TempDir(), "metadata.xml")
	if err := os.WriteFile(file, []byte(out), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, rng := range found {
		if text, err := exec.Command(xmllint, "--noout", "--relaxng", rng, file).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", rng, err, text)
		}
	}
}

// The program that Pacemaker runs hands everything on, and what it is told on standard input.
func TestFenceProgram(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "leasedog")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho \"$# $*\"; cat; exit 2\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("../../packaging/fence/fence_leasedog", "-o", "status", "-n", "a b")
	cmd.Env, cmd.Stdin = []string{"LEASEDOG=" + program, "PATH=/usr/bin:/bin"}, strings.NewReader("action=off\n")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 2 || string(out) != "5 fence -o status -n a b\naction=off\n" {
		t.Errorf("%v %q", err, out)
	}
}
