package command_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/leasedog/leasedog/command"
)

// TestUnkillable: Run returns although the program cannot die. The freezer of cgroup v1 stands in for a process in
// D state: SIGKILL does nothing until it is thawed.
func TestUnkillable(t *testing.T) {
	const root = "/sys/fs/cgroup/freezer"
	if _, err := os.Stat(filepath.Join(root, "cgroup.procs")); err != nil {
		t.Skipf("no cgroup v1 freezer on this machine: %v", err)
	}
	group, err := os.MkdirTemp(root, "leasedog-test-")
	if err != nil {
		t.Skipf("cannot make a freezer cgroup (not root?): %v", err)
	}
	fifo := filepath.Join(t.TempDir(), "in")
	procs, state := filepath.Join(group, "cgroup.procs"), filepath.Join(group, "freezer.state")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	go func() {
		defer cancel() // the end of the wait: nothing here depends on how fast the machine is
		pid, err := os.ReadFile(fifo)
		if err == nil {
			err = os.WriteFile(procs, []byte(strings.TrimSpace(string(pid))), 0)
		}
		if err == nil {
			err = os.WriteFile(state, []byte("FROZEN"), 0)
		}
		for err == nil && !strings.HasPrefix(read(state), "FROZEN") {
		}
		if err != nil {
			t.Errorf("freeze the program: %v", err)
		}
	}()
	_, err = command.Exec{}.Run(ctx, sh("echo $$ > "+fifo+"; while :; do :; done"))
	e := asError(t, err)
	if !e.TimedOut || !e.Unreaped || !errors.Is(err, context.Canceled) || e.Exited() {
		t.Errorf("got %#v", e)
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(read(procs)))
	if pid == 0 {
		t.Error("the program is gone although it was frozen")
	}
	if err := os.WriteFile(state, []byte("THAWED"), 0); err != nil {
		t.Fatal(err)
	}
	// Thawed it dies, and the goroutine left behind reaps it: the folder can be removed only then.
	deadline := time.Now().Add(time.Minute)
	for err = os.Remove(group); err != nil && time.Now().Before(deadline); err = os.Remove(group) {
	}
	if err != nil {
		t.Errorf("the program was not reaped in the background: %v", err)
	}
}

func read(path string) string {
	b, _ := os.ReadFile(path)
	return string(b)
}
