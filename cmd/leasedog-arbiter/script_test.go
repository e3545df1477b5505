package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/leasedog/leasedog/arbiter/api"
	"github.com/leasedog/leasedog/arbiter/store/bolt"
	"github.com/leasedog/leasedog/lease"
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
min_hold = "1ms"
max_hold = "1ms"
` // of holds that short nobody's silence has to be waited for
			// The agent that was written against the old lock service, as the lab's nodes run it.
			agent, err := os.ReadFile("../../test/lab/files/lock")
			if err != nil {
				return err
			}
			return errors.Join(os.WriteFile(e.WorkDir+"/old-agent", agent, 0o755), os.WriteFile(e.WorkDir+"/arbiter.toml", []byte(text), 0o600))
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"ready": ready, "records": records, "exits": exits,
			"tls-config": tlsConfig, "port": port, "classic": classic},
	})
}

// records makes the store of an arbiter that has served a cluster: node1 is paused without an end (pg), for an hour
// (timed), and holds by a long hold (slow); nobody holds free; node2 is barred.
func records(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: records")
	}
	holder := lease.Party{Node: "node1", BootID: "b1", Instance: lease.Instance{Start: 1, Nonce: 1}}
	change := lease.Change{Cluster: lease.NewClusterSnapshot("s1").Cluster, Nodes: []lease.NodeRecord{{Node: "node1", BootID: "b1"},
		{Node: "node2", BootID: "b2", BarredBoot: "b2"}}}
	for _, r := range []lease.Record{
		{Lease: "pg", Epoch: 7, State: lease.RecordPaused, Hold: time.Millisecond},
		{Lease: "timed", Epoch: 8, State: lease.RecordPaused, Hold: time.Millisecond, PauseFor: time.Hour, PauseHold: time.Hour},
		{Lease: "slow", Epoch: 9, State: lease.RecordHeld, Hold: time.Hour},
		{Lease: "free", Epoch: 10, State: lease.RecordFree, Hold: time.Millisecond},
	} {
		r.Holder, r.Seq, r.LossAfter = holder, 1, time.Millisecond
		change.Leases = append(change.Leases, r)
	}
	put(ts, "erp", change)
}

// classic makes the store of an arbiter whose only classic lock 127.0.0.1 holds.
func classic(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: classic")
	}
	put(ts, "classic/default", lease.Change{Cluster: lease.NewClusterSnapshot("s1").Cluster, Leases: []lease.Record{{Lease: "lock",
		Epoch: 3, State: lease.RecordHeld, Seq: 9, Hold: 8 * time.Second, LossAfter: 4 * time.Second,
		Holder: lease.Party{Node: "127.0.0.1", BootID: "classic", Instance: lease.Instance{Start: 1, Nonce: 1}}}}})
}

// put writes records into the store that the script's arbiter will open.
func put(ts *testscript.TestScript, cluster string, change lease.Change) {
	machine, err := machineID()
	ts.Check(err)
	store, err := bolt.Open(bolt.Options{Path: ts.Getenv("DIR") + "/a.db", MachineID: machine, History: 100, Wall: time.Now})
	ts.Check(err)
	defer store.Close()
	done := make(chan error, 1)
	store.Write(cluster, change, func(err error) { done <- err })
	ts.Check(<-done)
}

// tlsConfig writes here.toml: an arbiter with the certificates in the folder pki. An argument is where its key is.
func tlsConfig(ts *testscript.TestScript, _ bool, args []string) {
	dir := ts.Getenv("DIR")
	text := fmt.Sprintf("listen = \"127.0.0.1:0\"\nstore = %q\ncontrol = %q\npki = %q\n", dir+"/a.db", dir+"/a.sock", ts.MkAbs("pki"))
	if len(args) > 0 {
		text += fmt.Sprintf("key = %q\n", args[0])
	}
	ts.Check(os.WriteFile(ts.MkAbs("here.toml"), []byte(text), 0o600))
}

// exits runs a command and demands its exit code: exits CODE COMMAND…
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND [ARGUMENT…]")
	}
	code := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var failed interface{ ExitCode() int }
		if !errors.As(err, &failed) {
			ts.Fatalf("%v: %v", args[1:], err)
		}
		code = failed.ExitCode()
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("%v exits with %d, want %s", args[1:], code, args[0])
	}
}

// port puts a port of 127.0.0.1 that nobody listens at into the variable PORT.
func port(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: port")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	_, port, err := net.SplitHostPort(l.Addr().String())
	ts.Check(err)
	ts.Check(l.Close())
	ts.Setenv("PORT", port)
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

// What needs a human stands above the table, and each line names the way out.
func TestStatusText(t *testing.T) {
	var out strings.Builder
	err := printStatus(&out, api.Status{Clusters: []api.ClusterStatus{{
		Cluster: "erp", Recovery: "recovery: new grants wait",
		Leases: []api.LeaseStatus{
			{Lease: "pg", State: "paused", Epoch: 7, Holder: "node1", PausedForNS: int64(5 * time.Hour), Alarm: "paused without an end for 5h0m0s"},
			{Lease: "web", State: "paused", Epoch: 8, Holder: "node1", PausedForNS: int64(time.Minute), EndsInNS: int64(time.Hour)},
			{Lease: "dns", State: "held", Epoch: 9, Holder: "node1", EndsInNS: int64(8 * time.Second), MoveTo: "node2",
				Waiters: []api.Waiter{{Node: "node2", Ready: true}}},
		},
		Nodes: []api.NodeStatus{{Node: "node1", HeardAgoNS: int64(time.Second)}, {Node: "node2", HeardAgoNS: -1, Barred: true}},
	}}})
	want := `cluster erp
  ! recovery: new grants wait
  ! lease pg is paused without an end for 5h0m0s
  lease pg    paused  epoch 7  node1  known as paused for 5h0m0s, without an end
  lease web   paused  epoch 8  node1  known as paused for 1m0s, hold ends in 1h0m0s
  lease dns   held    epoch 9  node1  hold ends in 8s, is to move to node2, node2 waits
  node node1  heard 1s ago
  node node2  not heard since the arbiter started, barred: a new boot ends that, or leasedog-arbiter unbar erp node2
`
	if err != nil || out.String() != want {
		t.Errorf("%v\n%s\nwant\n%s", err, &out, want)
	}
}
