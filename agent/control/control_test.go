package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if path := os.Getenv("CONTROL_TEST_RELEASE"); path != "" {
		_, err := NewClient(path).Do(context.Background(), Request{Verb: VerbRelease, Lease: "pg"})
		fmt.Print(err)
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

type fakeHandler struct {
	status Status
	err    error
	done   []Request
}

func (h *fakeHandler) Status(context.Context) (Status, error) { return h.status, h.err }
func (h *fakeHandler) Why(context.Context) ([]Event, error) {
	return []Event{{At: "2026-01-01T00:00:00Z", Lease: "pg", Epoch: 3, What: "reset"}}, h.err
}
func (h *fakeHandler) Fence(_ context.Context, r Request) (Fence, error) {
	h.done = append(h.done, r)
	return Fence{Reason: "held", FreeInS: Known(2.5)}, h.err
}
func (h *fakeHandler) Do(_ context.Context, r Request) (string, error) {
	h.done = append(h.done, r)
	return "noted", h.err
}

// serve runs a server until the test ends and returns a client and the path.
func serve(t *testing.T, h Handler, prepare func(*Server)) (*Client, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agent.sock")
	s, err := Listen(path, -1, h)
	if err != nil {
		t.Fatal(err)
	}
	if prepare != nil {
		prepare(s)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve ended with %v", err)
		}
	})
	return NewClient(path), path
}

func TestStatusTravels(t *testing.T) {
	want := Status{
		Schema: Schema, Cluster: "erp", Node: "node1", Insecure: true,
		Watchdog: Watchdog{Mode: "required", TimeoutS: Known(5.0), Layers: []string{"guard"}},
		Arbiter:  Arbiter{URLs: []string{"http://a:1"}, Reachable: Known(false)},
		Leases: []Lease{{
			Name: "pg", State: StateHeld, Epoch: 42, Holder: "node1", HolderKnown: true, MarginS: Known(1.5),
			Attribute: Known(""), Guard: Guard{State: "armed", Armed: true}, Waiters: []string{}, WhyNot: []string{},
			Resources: []Resource{{ID: "g-pg"}}, LastTransition: &Event{What: "held"},
		}},
		Alarms: []Alarm{{Text: "a", Hint: "b"}},
	}
	c, _ := serve(t, &fakeHandler{status: want}, nil)
	got, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	events, err := c.Why(t.Context())
	if err != nil || len(events) != 1 || events[0].Epoch != 3 {
		t.Errorf("Why = %v, %v", events, err)
	}
}

// What is not known must not look like zero to a monitoring system.
func TestUnknownIsNull(t *testing.T) {
	text, err := json.Marshal(Lease{})
	if err != nil {
		t.Fatal(err)
	}
	for _, field := range []string{"expires_in_s", "margin_s", "renewed_ago_s", "attribute"} {
		if !strings.Contains(string(text), `"`+field+`":null`) {
			t.Errorf("%s is not null in %s", field, text)
		}
	}
}

func TestOnlyRootActs(t *testing.T) {
	for verb, want := range map[Verb]bool{
		VerbStatus: true, VerbWhy: true, VerbPoke: true, VerbSwitchover: false, VerbRelease: false, VerbAcquire: false,
		VerbPause: false, VerbResume: false, VerbHandover: false, VerbFence: false, VerbOrderedStart: false,
		VerbOrderedStop: false, VerbOrderedCheck: false, "dance": false,
	} {
		h := &fakeHandler{}
		s := &Server{handler: h}
		data, err := json.Marshal(Request{Verb: verb, Lease: "pg"})
		if err != nil {
			t.Fatal(err)
		}
		out := s.answer(t.Context(), data, false)
		if allowed := out.Error == nil; allowed != want {
			t.Errorf("reader, %s: %+v", verb, out)
		}
		if !want && (out.Error.Code != CodeForbidden || len(h.done) > 0) {
			t.Errorf("reader, %s: %v, handler got %v", verb, out.Error, h.done)
		}
		if out := s.answer(t.Context(), data, true); verb != "dance" && out.Error != nil {
			t.Errorf("root, %s: %v", verb, out.Error)
		}
	}
}

// The kernel says who asks, whatever the message claims.
func TestKernelSaysWhoAsks(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to become somebody else")
	}
	h := &fakeHandler{}
	_, path := serve(t, h, nil)
	// Everybody may open this one: the rule must not rest on the mode alone.
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	for dir := filepath.Dir(path); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{"CONTROL_TEST_RELEASE=" + path}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Skipf("a process of another user cannot be started here: %v", err)
	}
	if got := string(out); got != "only root may release" || len(h.done) > 0 {
		t.Errorf("nobody asked for a release: %q, handler got %v", got, h.done)
	}
}

func TestFenceTravels(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may fence")
	}
	h := &fakeHandler{}
	c, _ := serve(t, h, nil)
	got, err := c.Fence(t.Context(), Request{To: "node2", Off: true, Boot: "b"})
	if err != nil || got.Done || got.Reason != "held" || *got.FreeInS != 2.5 || got.QuietS != nil {
		t.Errorf("%+v, %v", got, err)
	}
	if want := (Request{Verb: VerbFence, To: "node2", Off: true, Boot: "b"}); h.done[0] != want {
		t.Errorf("asked %+v", h.done[0])
	}
}

func TestRefusals(t *testing.T) {
	s := &Server{handler: &fakeHandler{}}
	for name, c := range map[string]struct {
		data string
		want Code
	}{
		"junk":    {"not json", CodeBadRequest},
		"empty":   {"", CodeBadRequest},
		"type":    {`{"verb":7}`, CodeBadRequest},
		"unknown": {`{"verb":"dance"}`, CodeBadRequest},
		"large":   {`{"verb":"status","lease":"` + strings.Repeat("x", maxRequest) + `"}`, CodeBadRequest},
	} {
		if out := s.answer(t.Context(), []byte(c.data), true); out.Error == nil || out.Error.Code != c.want {
			t.Errorf("%s: %+v", name, out)
		}
	}
}

func TestErrorsTravel(t *testing.T) {
	h := &fakeHandler{err: fmt.Errorf("switch over: %w", Refuse(CodeTryAgain, "wait for it", "node2 is not ready"))}
	c, _ := serve(t, h, nil)
	_, err := c.Do(t.Context(), Request{Verb: VerbRelease, Lease: "pg"})
	var e *Error
	if os.Geteuid() != 0 {
		if !errors.As(err, &e) || e.Code != CodeForbidden {
			t.Fatalf("got %v", err)
		}
		_, err = c.Status(t.Context())
	}
	if !errors.As(err, &e) || *e != (Error{CodeTryAgain, "node2 is not ready", "wait for it"}) {
		t.Errorf("got %#v", err)
	}
	h.err = errors.New("disk on fire")
	if _, err = c.Status(t.Context()); !errors.As(err, &e) || e.Code != CodeInternal || e.Message != "disk on fire" {
		t.Errorf("got %#v", err)
	}
}

func TestNotRunning(t *testing.T) {
	dir := t.TempDir()
	stale := filepath.Join(dir, "stale.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	for _, path := range []string{filepath.Join(dir, "none.sock"), stale} {
		if _, err := NewClient(path).Status(t.Context()); !errors.Is(err, ErrNotRunning) {
			t.Errorf("%s: %v", path, err)
		}
	}
	// A new agent takes the place of what a dead one left.
	s, err := Listen(stale, -1, &fakeHandler{})
	if err != nil {
		t.Fatal(err)
	}
	s.listener.Close()
}

func TestSocketMode(t *testing.T) {
	for gid, want := range map[int]os.FileMode{-1: 0o600, os.Getgid(): 0o660} {
		path := filepath.Join(t.TempDir(), "agent.sock")
		s, err := Listen(path, gid, &fakeHandler{})
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("gid %d: mode %v, %v", gid, info.Mode(), err)
		}
		s.listener.Close()
	}
}

// Connections of readers are not those of root, so neither can use up the other's.
func TestBusy(t *testing.T) {
	for _, root := range []bool{true, false} {
		mine := (os.Geteuid() == 0) == root
		c, _ := serve(t, &fakeHandler{}, func(s *Server) {
			slots := s.readers
			if root {
				slots = s.actors
			}
			for range cap(slots) {
				slots <- struct{}{}
			}
		})
		_, err := c.Status(t.Context())
		if busy := err != nil; busy != mine {
			t.Errorf("slots of root %v are full: %v", root, err)
		}
		if mine && !strings.Contains(err.Error(), "busy, or ending") {
			t.Errorf("got %v", err)
		}
	}
}

func TestSilentAgent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "silent.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := NewClient(path).Status(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestOtherSchema(t *testing.T) {
	path := filepath.Join(t.TempDir(), "future.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = conn.Write([]byte(`{"status":{"schema":2}}`))
		_, _ = conn.Read(make([]byte, 1024))
	}()
	if _, err := NewClient(path).Status(t.Context()); err == nil || !strings.Contains(err.Error(), "schema 2") {
		t.Errorf("got %v", err)
	}
	<-done
}

// waitingHandler decides only when nobody waits for its answer any more.
type waitingHandler struct {
	fakeHandler
	begun, ended chan struct{}
}

func (h *waitingHandler) Do(ctx context.Context, _ Request) (string, error) {
	close(h.begun)
	<-ctx.Done()
	close(h.ended)
	return "", ctx.Err()
}

// A client that has sent its request closes its direction, and waits.
func TestHungUp(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	for _, step := range []struct {
		name string
		do   func() error
		want bool
	}{
		{"connected", func() error { return nil }, false},
		{"request sent", func() error { return unix.Shutdown(fds[1], unix.SHUT_WR) }, false},
		{"closed", func() error { return unix.Close(fds[1]) }, true},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		if got := hungUp(uintptr(fds[0])); got != step.want {
			t.Errorf("%s: %v", step.name, got)
		}
	}
}

// A client that was killed is not waited for, however long the decision would take.
func TestClientThatGoesEndsTheCall(t *testing.T) {
	h := &waitingHandler{begun: make(chan struct{}), ended: make(chan struct{})}
	c, _ := serve(t, h, nil)
	ctx, kill := context.WithCancel(t.Context())
	answered := make(chan error, 1)
	go func() {
		_, err := c.Do(ctx, Request{Verb: VerbOrderedStart, Lease: "pg"})
		answered <- err
	}()
	<-h.begun
	select {
	case <-h.ended:
		t.Error("the call ended while its client was there")
	default:
	}
	began := time.Now()
	kill()
	if err := <-answered; err == nil {
		t.Error("a client that went has an answer")
	}
	<-h.ended
	if took := time.Since(began); took > handleTime/2 {
		t.Errorf("the call ended only after %v", took)
	}
}
