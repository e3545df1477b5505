package systemd

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func notifySocket(t *testing.T) *net.UnixConn {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return conn
}

func received(t *testing.T, conn *net.UnixConn) string {
	t.Helper()
	buf := make([]byte, 4096)
	n, err := conn.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

func TestNotify(t *testing.T) {
	conn := notifySocket(t)
	n, err := NewNotifier()
	if err != nil || n == nil {
		t.Fatalf("%v, %v", n, err)
	}
	defer n.Close()
	if os.Getenv("NOTIFY_SOCKET") != "" {
		t.Fatal("a child could still speak for us")
	}
	for _, c := range []struct {
		send func() error
		want string
	}{
		{func() error { return n.Ready("two\nlines") }, "READY=1\nSTATUS=two lines"},
		{n.Watchdog, "WATCHDOG=1"},
		{func() error { return n.WatchdogTimeout(time.Second) }, "WATCHDOG_USEC=1000000"},
		{func() error { return n.ExtendTimeout(1500 * time.Millisecond) }, "EXTEND_TIMEOUT_USEC=1500000"},
		{n.Stopping, "STOPPING=1"},
	} {
		if err := c.send(); err != nil {
			t.Fatal(err)
		}
		if got := received(t, conn); got != c.want {
			t.Fatalf("sent %q, want %q", got, c.want)
		}
	}
}

// PID 1 hangs and its queue is full: the feeding thread must not wait for it.
func TestWatchdogNeverWaits(t *testing.T) {
	notifySocket(t)
	n, err := NewNotifier()
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	for range 100_000 { // nobody reads: without O_NONBLOCK this would never end
		if err = n.Watchdog(); err != nil {
			return
		}
	}
	t.Fatal("the queue never fills")
}

func TestWatchdogAllocatesNothing(t *testing.T) {
	notifySocket(t)
	n, err := NewNotifier()
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if got := testing.AllocsPerRun(5, func() { err = errors.Join(n.Watchdog()) }); got != 0 {
		t.Fatalf("%v allocations a feed", got)
	}
}

func TestNoNotifySocket(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	n, err := NewNotifier()
	if n != nil || err != nil {
		t.Fatalf("%v, %v", n, err)
	}
	if err := errors.Join(n.Ready("x"), n.Watchdog(), n.Status("x"), n.Close()); err != nil {
		t.Fatalf("a nil Notifier does something: %v", err)
	}
}

func TestWatchdogInterval(t *testing.T) {
	for _, c := range []struct {
		usec, pid string
		want      time.Duration
		bad       bool
	}{
		{"", "", 0, false},
		{"10000000", "", 10 * time.Second, false},
		{"10000000", "1", 0, false}, // meant for another process
		{"-5", "", 0, true},
		{"x", "", 0, true},
	} {
		t.Setenv("WATCHDOG_USEC", c.usec)
		t.Setenv("WATCHDOG_PID", c.pid)
		if got, err := WatchdogInterval(); got != c.want || (err != nil) != c.bad {
			t.Errorf("%q for %q: %v, %v", c.usec, c.pid, got, err)
		}
	}
}

func TestJournalFieldNames(t *testing.T) {
	for key, want := range map[string]string{"lease": "LEASEDOG_LEASE", "boot-id": "LEASEDOG_BOOT_ID"} {
		if got := fieldName("leasedog_", key); got != want {
			t.Errorf("%q becomes %q, want %q", key, got, want)
		}
	}
	if got := fieldName("", "_x"); got != "X" {
		t.Errorf("journald refuses %q", got)
	}
}

func TestStartsAtBoot(t *testing.T) {
	for _, c := range []struct {
		u    UnitState
		want bool
	}{
		{UnitState{FileState: "disabled"}, false},
		{UnitState{FileState: "static"}, false},
		{UnitState{FileState: "enabled"}, true},
		{UnitState{FileState: "generated"}, true},
		{UnitState{FileState: "static", WantedBy: []string{"multi-user.target"}}, true},
		{UnitState{FileState: "disabled", RequiredBy: []string{"x.service"}}, true},
	} {
		if got := c.u.StartsAtBoot(); got != c.want {
			t.Errorf("%+v: %v", c.u, got)
		}
	}
}

// Where systemd is PID 1 and we are root, the real thing; elsewhere the call must end by itself.
func TestManager(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	m, err := Connect(ctx)
	if err != nil {
		t.Skipf("no systemd to talk to: %v", err)
	}
	defer m.Close()
	if err := m.Ping(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Unit(ctx, "leasedog-no-such-unit.service"); !errors.Is(err, ErrNotLoaded) {
		t.Fatalf("a unit that does not exist: %v", err)
	}
	u, err := m.Unit(ctx, "sysinit.target")
	if err != nil || u.Load != "loaded" {
		t.Fatalf("%+v, %v", u, err)
	}
}
