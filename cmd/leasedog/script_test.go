package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/leasedog/leasedog/agent/control"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"leasedog": main})
}

// TestScripts runs the binary as an administrator would: messages, exit codes, and golden transcripts. With UPDATE_SCRIPTS=1
// in the environment the golden parts are rewritten; explain every changed line.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "",
		RequireExplicitExec: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"agent": startAgent, "exits": exits, "sed": replace,
		},
		Condition: func(c string) (bool, error) { return c == "root" && os.Geteuid() == 0, nil },
		Setup: func(e *testscript.Env) error {
			e.Setenv("SOCK", e.WorkDir+"/agent.sock")
			return captured(e.WorkDir)
		},
	})
}

// captured puts what a real Pacemaker 2.1.5 said into a script's folder.
func captured(dir string) error {
	for _, name := range []string{"active.cib.xml", "active.mon.xml", "rule-held.cib.xml", "rule-held.mon.xml", "kinds.cib.xml"} {
		text, err := os.ReadFile(filepath.Join("../../pcmk/testdata/2.1.5", name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// exits runs a command and demands its exit code: exits CODE COMMAND…
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND [ARGUMENT…]")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	var ee interface{ ExitCode() int }
	if errors.As(err, &ee) {
		got = strconv.Itoa(ee.ExitCode())
	} else if err != nil {
		ts.Fatalf("run %v: %v", args[1:], err)
	}
	if got != args[0] {
		ts.Fatalf("%v exits with %s, want %s", args[1:], got, args[0])
	}
}

// replace edits a file: sed FILE OLD NEW. OLD must be in it.
func replace(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: sed FILE OLD NEW")
	}
	text := ts.ReadFile(args[0])
	if !strings.Contains(text, args[1]) {
		ts.Fatalf("%s has no %q", args[0], args[1])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.ReplaceAll(text, args[1], args[2])), 0o600))
}

// startAgent serves a status document at $SOCK until the script ends: agent STATUS.json [CODE MESSAGE]. With a code
// every command is refused with it.
func startAgent(ts *testscript.TestScript, _ bool, args []string) {
	h := &scriptedAgent{path: ts.MkAbs(args[0])}
	if len(args) == 3 {
		h.refusal = control.Refuse(control.Code(args[1]), "try it later", "%s", args[2])
	}
	s, err := control.Listen(ts.Getenv("SOCK"), -1, h)
	ts.Check(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	ts.Defer(func() {
		cancel()
		ts.Check(<-done)
	})
}

// scriptedAgent answers from a file. A switchover moves the lease.
type scriptedAgent struct {
	path    string
	moved   string
	refusal *control.Error
}

func (a *scriptedAgent) Status(context.Context) (control.Status, error) {
	var st control.Status
	text, err := os.ReadFile(a.path)
	if err != nil {
		return st, err
	}
	err = json.Unmarshal(text, &st)
	if a.moved != "" && len(st.Leases) > 0 {
		st.Leases[0].Holder, st.Leases[0].State, st.Leases[0].Epoch = a.moved, control.StateStandby, 0
	}
	return st, err
}

func (a *scriptedAgent) Why(context.Context) ([]control.Event, error) {
	return []control.Event{{At: "2026-11-22T23:10:04Z", Lease: "pg", Epoch: 41, What: "losing", Cause: "no acknowledged renewal"}}, nil
}

func (a *scriptedAgent) Fence(_ context.Context, r control.Request) (control.Fence, error) {
	switch {
	case a.refusal != nil:
		return control.Fence{}, a.refusal
	case r.To == "":
		return control.Fence{Nodes: []string{"node1", "node2"}}, nil
	}
	return control.Fence{Done: r.To == "node2", Final: true, Reason: r.To + " was judged", QuietS: control.Known(1.0)}, nil
}

func (a *scriptedAgent) Do(_ context.Context, r control.Request) (string, error) {
	if a.refusal != nil {
		return "", a.refusal
	}
	if r.Verb == control.VerbSwitchover {
		a.moved = r.To
	}
	return string(r.Verb) + " of lease " + r.Lease + " begins", nil
}
