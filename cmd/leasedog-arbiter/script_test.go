package main

import (
	"context"
	"net"
	"os"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"leasedog-arbiter": main})
}

// TestScripts runs the binary as an administrator would: messages and exit codes.
func TestScripts(t *testing.T) {
	if _, err := machineID(); err != nil {
		t.Skipf("the arbiter needs a machine id: %v", err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", RequireExplicitExec: true, UpdateScripts: os.Getenv("UPDATE_SCRIPTS") != "",
		Setup: func(e *testscript.Env) error {
			// A Unix socket's path is short, and a test's folder is not.
			dir, err := os.MkdirTemp("", "arb")
			if err != nil {
				return err
			}
			e.Defer(func() { _ = os.RemoveAll(dir) })
			e.Setenv("DIR", dir)
			text := `listen = "127.0.0.1:0"
store = "` + dir + `/a.db"
control = "` + dir + `/a.sock"
insecure = true
allow_insecure_from = ["127.0.0.0/8"]
`
			return os.WriteFile(e.WorkDir+"/arbiter.toml", []byte(text), 0o600)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"ready": ready},
	})
}

// ready waits until the arbiter answers at its control socket.
func ready(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: ready")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", ts.Getenv("DIR")+"/a.sock")
		if err == nil {
			_ = conn.Close()
			return
		}
		select {
		case <-ctx.Done():
			ts.Fatalf("the arbiter does not answer: %v", err)
		case <-tick.C:
		}
	}
}
