package guardapi

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/leasedog/leasedog/lease"
)

func TestSetup(t *testing.T) {
	path := filepath.Join(t.TempDir(), "guard.json")
	good := Setup{Mode: ModeRequired, Device: "auto", Watchdog: 5 * time.Second, TimerSlack: 200 * time.Millisecond}
	if err := WriteSetup(path, good); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadSetup(path); err != nil || got != good {
		t.Fatalf("%+v, %v", got, err)
	}
	for _, bad := range []Setup{
		{}, {Mode: "off", TimerSlack: 1},
		{Mode: ModeRequired, Device: "/dev/sda", Watchdog: 5 * time.Second, TimerSlack: 1},
		{Mode: ModeRequired, Device: "auto", Watchdog: time.Millisecond, TimerSlack: 1},
		{Mode: ModeSystemd, TimerSlack: -1},
	} {
		if err := WriteSetup(path, bad); err == nil {
			t.Errorf("%+v is written", bad)
		}
	}
	for _, text := range []string{"", "{", `{"mode":"off","timer_slack":1}`, `{"mode":1}`} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := ReadSetup(path); err == nil {
			t.Errorf("%q is read as %+v", text, s)
		}
	}
}

func TestFailure(t *testing.T) {
	path := filepath.Join(t.TempDir(), "guard.json")
	if err := WriteFailure(path, errors.New("device busy")); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadFailure(path); err != nil || got != "device busy" {
		t.Fatalf("%q, %v", got, err)
	}
	if err := errors.Join(ClearFailure(path), ClearFailure(path)); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadFailure(path); err != nil || got != "" {
		t.Fatalf("%q, %v", got, err)
	}
}

func TestNoGuard(t *testing.T) {
	c := NewClient(filepath.Join(t.TempDir(), "none"))
	if _, err := c.Status(t.Context()); !errors.Is(err, ErrNoGuard) {
		t.Fatalf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Arm(ctx, Request{}); err == nil {
		t.Fatal("armed without a guard")
	}
}

// serve answers each packet of each connection with the next of replies, "" closing the connection instead.
func serve(t *testing.T, replies ...string) *Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			buf := make([]byte, MaxMessage)
			for len(replies) > 0 {
				if _, err := conn.Read(buf); err != nil {
					break
				}
				reply := replies[0]
				if replies = replies[1:]; reply == "" {
					break
				}
				_, _ = conn.Write([]byte(reply))
			}
			conn.Close()
		}
	}()
	c := NewClient(path)
	t.Cleanup(func() { c.Close() })
	return c
}

func TestOnlyAnAcknowledgementIsOne(t *testing.T) {
	for _, reply := range []string{`{"ok":false,"code":"refused","message":"too late"}`, `{}`, `not json`, ``} {
		if r, err := serve(t, reply).Arm(t.Context(), Request{Lease: "pg"}); err == nil {
			t.Errorf("%q counts as an acknowledgement: %+v", reply, r)
		}
	}
	var refused *RefusedError
	_, err := serve(t, `{"ok":false,"code":"refused","message":"too late","status":{"pid":7}}`).Arm(t.Context(), Request{})
	if !errors.As(err, &refused) || refused.Reply.Status.PID != 7 || !strings.Contains(err.Error(), "too late") {
		t.Fatalf("%v", err)
	}
}

// The guard closes idle connections; the next call must not fail for that.
func TestReconnectsOnce(t *testing.T) {
	c := serve(t, `{"ok":true,"status":{"armed":[{"lease":"pg"}]}}`, ``, `{"ok":true,"until":5}`)
	if _, err := c.Status(t.Context()); err != nil {
		t.Fatal(err)
	}
	r, err := c.Disarm(t.Context(), "pg", 7, lease.Instance{Start: 1})
	if err != nil || r.Until != 5 {
		t.Fatalf("%+v, %v", r, err)
	}
}

func TestShows(t *testing.T) {
	s := Status{Armed: []Armed{{Lease: "pg", Epoch: 7}}}
	if !s.Shows("pg", 7) || s.Shows("pg", 8) || s.Shows("x", 7) {
		t.Fatal("an agent adopts what is not armed")
	}
}

// A guard ends only when nobody is connected; an agent that asks now and then must not keep it alive.
func TestLetsAnUnarmedGuardEnd(t *testing.T) {
	c := serve(t, `{"ok":true,"status":{"armed":[{"lease":"pg"}]}}`, `{"ok":true}`)
	if _, err := c.Status(t.Context()); err != nil || c.conn == nil {
		t.Fatalf("the connection to an armed guard is not kept: %v", err)
	}
	if _, err := c.Disarm(t.Context(), "pg", 7, lease.Instance{Start: 1}); err != nil || c.conn != nil {
		t.Fatalf("the connection to an unarmed guard is kept: %v", err)
	}
}
