package command_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/leasedog/leasedog/command"
)

// TestMain plays the programs under test when told to, so that no test depends on the host's tools except /bin/sh.
func TestMain(m *testing.M) {
	if os.Getenv("COMMAND_TEST") == "ignore-term" {
		signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
		fmt.Println(os.Getpid())
		for {
			_ = syscall.Pause()
		}
	}
	goleak.VerifyTestMain(m)
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func sh(script string) command.Cmd { return command.Cmd{Path: "/bin/sh", Args: []string{"-c", script}} }

func asError(t *testing.T, err error) *command.Error {
	t.Helper()
	var e *command.Error
	if !errors.As(err, &e) {
		t.Fatalf("error is %T (%v), want *command.Error", err, err)
	}
	return e
}

func TestRun(t *testing.T) {
	tests := []struct {
		name   string
		cmd    command.Cmd
		stdout string
		exit   int // 0 means no error
		check  func(*testing.T, *command.Error)
	}{
		{name: "output", cmd: sh("echo a; echo b >&2"), stdout: "a\n"},
		{name: "stdin", cmd: command.Cmd{Path: "/bin/cat", Stdin: []byte("in")}, stdout: "in"},
		{name: "no stdin is empty", cmd: command.Cmd{Path: "/bin/cat"}, stdout: ""},
		{name: "arguments are not parsed", cmd: command.Cmd{Path: "/bin/echo", Args: []string{"$HOME;", "a b"}}, stdout: "$HOME; a b\n"},
		{name: "working directory", cmd: sh("pwd"), stdout: "/\n"},
		{name: "exit code", cmd: sh("echo x; echo why >&2; exit 105"), stdout: "x\n", exit: 105, check: func(t *testing.T, e *command.Error) {
			if !e.Exited() || strings.TrimSpace(e.Stderr) != "why" || !strings.Contains(e.Error(), "exit code 105: why") {
				t.Errorf("got %#v (%v)", e, e)
			}
		}},
		{name: "signal", cmd: sh("kill -9 $$"), exit: -1, check: func(t *testing.T, e *command.Error) {
			if e.Signal != syscall.SIGKILL || e.TimedOut || e.Exited() {
				t.Errorf("got %#v", e)
			}
		}},
		{name: "missing program", cmd: command.Cmd{Path: "/nonexistent/tool"}, exit: -1, check: func(t *testing.T, e *command.Error) {
			if !e.NotStarted || e.Exited() || !errors.Is(e, os.ErrNotExist) {
				t.Errorf("got %#v", e)
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			res, err := command.Exec{}.Run(within(t, 30*time.Second), tt.cmd)
			if string(res.Stdout) != tt.stdout {
				t.Errorf("stdout %q, want %q", res.Stdout, tt.stdout)
			}
			if tt.exit == 0 {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			e := asError(t, err)
			if e.ExitCode != tt.exit {
				t.Errorf("exit code %d, want %d", e.ExitCode, tt.exit)
			}
			if tt.check != nil {
				tt.check(t, e)
			}
		})
	}
}

func TestEnvironmentIsMinimal(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "/run/x")
	t.Setenv("LC_ALL", "de_DE.UTF-8")
	cmd := command.Cmd{Path: "/usr/bin/env", Env: []string{"OCF_ROOT=/usr/lib/ocf"}}
	res, err := command.Exec{}.Run(within(t, 30*time.Second), cmd)
	if err != nil {
		t.Fatal(err)
	}
	want := "PATH=/usr/sbin:/usr/bin:/sbin:/bin\nLC_ALL=C\nOCF_ROOT=/usr/lib/ocf\n"
	if string(res.Stdout) != want {
		t.Errorf("environment %q, want %q", res.Stdout, want)
	}
}

func TestRefusals(t *testing.T) {
	if _, err := (command.Exec{}).Run(context.Background(), sh("true")); !errors.Is(err, command.ErrNoDeadline) {
		t.Errorf("without a deadline: %v, want ErrNoDeadline", err)
	}
	if _, err := (command.Exec{}).Run(within(t, time.Second), command.Cmd{Path: "sh"}); err == nil {
		t.Error("a relative path was accepted")
	}
	marker := filepath.Join(t.TempDir(), "ran")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	cancel()
	_, err := command.Exec{}.Run(ctx, command.Cmd{Path: "/bin/touch", Args: []string{marker}})
	if e := asError(t, err); !e.TimedOut || !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before: %#v", e)
	}
	if _, err := os.Stat(marker); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a program was started with an ended context (%v)", err)
	}
}

// TestDeadlineKillsGroup: the program and what it started, which ignore every gentle signal, are gone and reaped.
func TestDeadlineKillsGroup(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := sh(`"$0" & wait`)
	cmd.Args = append(cmd.Args, self)
	cmd.Env = []string{"COMMAND_TEST=ignore-term"}
	res, err := command.Exec{}.Run(within(t, 2*time.Second), cmd)
	if e := asError(t, err); !e.TimedOut || e.Unreaped || e.Exited() || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %#v", e)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(res.Stdout)))
	if err != nil {
		t.Fatalf("the grandchild did not say its pid: %q", res.Stdout)
	}
	if alive(pid) {
		t.Errorf("grandchild %d is alive", pid)
	}
	if n := children(t); n != 0 {
		t.Errorf("%d children are not reaped", n)
	}
}

func TestCancelKills(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	fifo := filepath.Join(t.TempDir(), "started")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	go func() {
		if _, err := os.ReadFile(fifo); err != nil { // returns when the program has opened and closed it
			t.Error(err)
		}
		cancel()
	}()
	_, err := command.Exec{}.Run(ctx, sh("echo > "+fifo+"; exec sleep 3600"))
	if e := asError(t, err); !e.TimedOut || !errors.Is(err, context.Canceled) || !strings.Contains(e.Error(), "cancelled") {
		t.Errorf("got %#v (%v)", e, e)
	}
}

// TestGrandchildHoldsPipe: a daemon that a tool left behind must not hold up its caller, and is not killed.
func TestGrandchildHoldsPipe(t *testing.T) {
	res, err := command.Exec{}.Run(within(t, time.Hour), sh("sleep 3600 & echo $!"))
	e := asError(t, err)
	pid, perr := strconv.Atoi(strings.TrimSpace(string(res.Stdout)))
	if perr != nil {
		t.Fatal(perr)
	}
	defer syscall.Kill(pid, syscall.SIGKILL)
	if !e.PipeHeld || e.TimedOut || e.ExitCode != 0 || !e.Exited() {
		t.Errorf("got %#v", e)
	}
	if !alive(pid) {
		t.Error("the descendant of a program that ended by itself was killed")
	}
	// With another exit code that code is what counts.
	res, err = command.Exec{}.Run(within(t, time.Hour), sh("sleep 3600 & echo $!; exit 7"))
	if pid, perr = strconv.Atoi(strings.TrimSpace(string(res.Stdout))); perr != nil {
		t.Fatal(perr)
	}
	defer syscall.Kill(pid, syscall.SIGKILL)
	if e := asError(t, err); e.ExitCode != 7 || !e.Exited() {
		t.Errorf("got %#v", e)
	}
}

func TestOutputLimit(t *testing.T) {
	cmd := sh("exec yes")
	cmd.MaxOutput = 1000
	res, err := command.Exec{}.Run(within(t, time.Hour), cmd)
	if e := asError(t, err); !e.OutputLimit || e.TimedOut || e.Exited() {
		t.Errorf("got %#v", e)
	}
	if len(res.Stdout) != 1000 {
		t.Errorf("kept %d bytes, want 1000", len(res.Stdout))
	}
	// The limit is also noticed when the program ends before it is killed.
	cmd = sh("printf 0123456789")
	cmd.MaxOutput = 9
	if _, err = (command.Exec{}).Run(within(t, time.Hour), cmd); err == nil || !asError(t, err).OutputLimit {
		t.Errorf("truncated output passed as complete: %v", err)
	}
	cmd.MaxOutput = 10
	if _, err = (command.Exec{}).Run(within(t, time.Hour), cmd); err != nil {
		t.Errorf("output of exactly the limit: %v", err)
	}
}

func TestStderrTail(t *testing.T) {
	res, err := command.Exec{}.Run(within(t, time.Hour), sh("yes | head -n 10000 >&2; echo last >&2; exit 1"))
	e := asError(t, err)
	if len(res.Stderr) > command.StderrTail || !strings.HasSuffix(e.Stderr, "last\n") {
		t.Errorf("kept %d bytes ending in %q", len(res.Stderr), e.Stderr[len(e.Stderr)-5:])
	}
}

// alive reports whether a process exists and is not a zombie.
func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	return f[0] != "Z" && f[0] != "X"
}

func children(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/children", os.Getpid()))
	if err != nil {
		t.Skipf("children are not listed here: %v", err)
	}
	return len(strings.Fields(string(b)))
}
