package pcmk_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/leasedog/leasedog/command"
	"github.com/leasedog/leasedog/pcmk"
)

var versions = []string{"2.0.5", "2.1.5", "3.0.0"}

// fake answers tools from a script and keeps what was asked.
type fake struct {
	calls  []string
	envs   [][]string
	answer func(call string) (stdout string, code int)
	err    error // instead of an answer
}

func (f *fake) Run(ctx context.Context, cmd command.Cmd) (command.Result, error) {
	if _, ok := ctx.Deadline(); !ok {
		return command.Result{}, command.ErrNoDeadline
	}
	call := strings.Join(append([]string{filepath.Base(cmd.Path)}, cmd.Args...), " ")
	f.calls, f.envs = append(f.calls, call), append(f.envs, cmd.Env)
	if f.err != nil {
		return command.Result{}, f.err
	}
	out, code := f.answer(call)
	res := command.Result{Stdout: []byte(out)}
	if code != 0 {
		return res, &command.Error{Path: cmd.Path, Args: cmd.Args, ExitCode: code}
	}
	return res, nil
}

func (f *fake) asked(call string) bool { return slices.Contains(f.calls, call) }

// says answers calls by their longest matching prefix; anything else is exit code 1.
func says(answers map[string]string) *fake {
	return &fake{answer: func(call string) (string, int) {
		best, found := "", false
		for k := range answers {
			if strings.HasPrefix(call, k) && len(k) >= len(best) {
				best, found = k, true
			}
		}
		if !found {
			return "", 1
		}
		return answers[best], 0
	}}
}

func exits(code int, stdout string) *fake {
	return &fake{answer: func(string) (string, int) { return stdout, code }}
}

// hung is what command says of a tool that gave no answer.
func hung() *fake {
	return &fake{err: &command.Error{Path: "/usr/sbin/x", ExitCode: -1, TimedOut: true}}
}

func cluster(f *fake) *pcmk.Cluster {
	dir := "/usr/sbin/"
	return pcmk.New(f, pcmk.Tools{AttrdUpdater: dir + "attrd_updater", Cibadmin: dir + "cibadmin",
		CrmAttribute: dir + "crm_attribute", CrmMon: dir + "crm_mon", CrmNode: dir + "crm_node",
		CrmResource: dir + "crm_resource", Crmadmin: dir + "crmadmin"}, pcmk.Options{InitDir: "/nonexistent"})
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	t.Cleanup(cancel)
	return ctx
}

func capture(t testing.TB, version, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", version, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func status(t *testing.T, version, situation string) pcmk.Status {
	t.Helper()
	st, err := pcmk.ParseStatus([]byte(capture(t, version, situation+".mon.xml")))
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func cib(t *testing.T, version, situation string) *pcmk.CIB {
	t.Helper()
	c, err := pcmk.ParseCIB([]byte(capture(t, version, situation+".cib.xml")))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// nodeState cuts one node's state section out of a capture, as cibadmin --xpath prints it.
func nodeState(t *testing.T, version, situation, node string) string {
	t.Helper()
	doc := capture(t, version, situation+".cib.xml")
	for part := range strings.SplitSeq(doc, "<node_state ") {
		if strings.Contains(part[:strings.IndexByte(part, '>')], `uname="`+node+`"`) {
			body, _, ok := strings.Cut(part, "</node_state>")
			if ok {
				return "<node_state " + body + "</node_state>"
			}
		}
	}
	t.Fatalf("no state of %s in %s", node, situation)
	return ""
}

// every runs f on every function that asks a tool.
func every(ctx context.Context, c *pcmk.Cluster, f func(name string, err error)) {
	plan := pcmk.Plan{}
	prim := pcmk.Primitive{ID: "r1", Class: "ocf", Agent: "/usr/lib/ocf/resource.d/x/y"}
	rule := []pcmk.Rule{{Lease: "pg", Resource: "g1", Role: pcmk.RoleStarted}}
	call := func(name string, fn func() error) { f(name, fn()) }
	call("LocalNode", func() error { _, err := c.LocalNode(ctx); return err })
	call("Version", func() error { _, err := c.Version(ctx); return err })
	call("Status", func() error { _, err := c.Status(ctx); return err })
	call("CIB", func() error { _, err := c.CIB(ctx); return err })
	call("PutAttribute", func() error { return c.PutAttribute(ctx, "leasedog-pg", "7") })
	call("DeleteAttribute", func() error { return c.DeleteAttribute(ctx, "leasedog-pg") })
	call("ReadAttribute", func() error { _, err := c.ReadAttribute(ctx, "node1", "leasedog-pg"); return err })
	call("DCState", func() error { _, err := c.DCState(ctx); return err })
	call("Plan", func() error { _, err := c.Plan(ctx, "node1", []string{"g1"}); return err })
	call("Pending", func() error { _, err := c.Pending(ctx, "node1"); return err })
	call("RunAgent", func() error { _, err := c.RunAgent(ctx, plan, prim, pcmk.Monitor); return err })
	call("Force", func() error { _, err := c.Force(ctx, prim, pcmk.Monitor); return err })
	call("ApplyRules", func() error { return c.ApplyRules(ctx, "2.1.5", rule) })
	call("RemoveRules", func() error { _, err := c.RemoveRules(ctx, "pg"); return err })
	call("SetOption", func() error { return c.SetOption(ctx, "batch-limit", "-1") })
}

// TestHangIsUnknown: a tool that gives no answer is an error in every function, never an answer.
func TestHangIsUnknown(t *testing.T) {
	every(within(t), cluster(hung()), func(name string, err error) {
		var e *command.Error
		if !errors.As(err, &e) || !e.TimedOut {
			t.Errorf("%s of a hung tool: %v", name, err)
		}
	})
}

func TestDownIsSaid(t *testing.T) {
	every(within(t), cluster(exits(102, "")), func(name string, err error) {
		if name != "RunAgent" && !pcmk.IsDown(err) {
			t.Errorf("%s without daemons: %v, want IsDown", name, err)
		}
	})
}

func TestNoDeadlineIsRefused(t *testing.T) {
	every(context.Background(), cluster(exits(0, "")), func(name string, err error) {
		if !errors.Is(err, command.ErrNoDeadline) {
			t.Errorf("%s without a deadline: %v", name, err)
		}
	})
}

// TestEmptyAnswer: exit code 0 with nothing printed is an answer only where nothing is expected.
func TestEmptyAnswer(t *testing.T) {
	silent := map[string]bool{"PutAttribute": true, "DeleteAttribute": true, "RunAgent": true}
	every(within(t), cluster(exits(0, "")), func(name string, err error) {
		if (err == nil) != silent[name] {
			t.Errorf("%s of an empty answer: %v", name, err)
		}
	})
}

func TestFindTools(t *testing.T) {
	dir := t.TempDir()
	_, err := pcmk.FindTools(dir)
	var missing *pcmk.MissingToolError
	if !errors.As(err, &missing) || !strings.Contains(err.Error(), "crm_mon is not in "+dir+": install pacemaker-cli") {
		t.Fatalf("missing tools: %v", err)
	}
	for _, n := range []string{"attrd_updater", "cibadmin", "crm_attribute", "crm_mon", "crm_node", "crm_resource", "crmadmin"} {
		if err := os.WriteFile(filepath.Join(dir, n), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	tools, err := pcmk.FindTools("/nonexistent", dir)
	if err != nil || tools.CrmMon != filepath.Join(dir, "crm_mon") {
		t.Fatalf("%+v, %v", tools, err)
	}
	if err := os.Chmod(tools.Crmadmin, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err = pcmk.FindTools(dir); !errors.As(err, &missing) || missing.Tool != "crmadmin" {
		t.Errorf("a file that is not executable passed as a tool: %v", err)
	}
}

func TestLocalNodeAndVersion(t *testing.T) {
	c := cluster(says(map[string]string{"crm_node -n": "node1\n", "crm_mon --version": "Pacemaker 2.0.5\nWritten by …\n"}))
	if n, err := c.LocalNode(within(t)); n != "node1" || err != nil {
		t.Errorf("node %q, %v", n, err)
	}
	if v, err := c.Version(within(t)); v != "2.0.5" || err != nil {
		t.Errorf("version %q, %v", v, err)
	}
	for _, bad := range []string{"", "\n", "a'b", "-x", "two words"} {
		if n, err := cluster(exits(0, bad)).LocalNode(within(t)); err == nil {
			t.Errorf("%q passed as node name %q", bad, n)
		}
		if v, err := cluster(exits(0, bad)).Version(within(t)); err == nil {
			t.Errorf("%q passed as version %q", bad, v)
		}
	}
}
