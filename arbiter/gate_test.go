package arbiter

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/leasedog/leasedog/lease"
	"github.com/leasedog/leasedog/pki"
)

// failing is a listener that is out of descriptors a few times.
type failing struct {
	net.Listener
	mu   sync.Mutex
	left int
}

func (f *failing) Accept() (net.Conn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.left > 0 {
		f.left--
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return f.Listener.Accept()
}

// An arbiter that was out of descriptors for a moment serves again.
func TestGateOutlivesFailedAccepts(t *testing.T) {
	s := newSecure(t, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refuse := func(string, string, string, string) {}
	g := newGate(&failing{Listener: l, left: 3}, s.live.Server(func() bool { return false }), newCrowd(nodePlaces()), refuse)
	srv := &http.Server{Handler: s.server.Handler()}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(g) }()
	s.addr = l.Addr().String()
	if status, _, text := s.call(s.as(pki.Identity{Role: pki.RoleReader}), "https", "GET", "/readyz", ""); status != 200 {
		t.Errorf("%d %s", status, text)
	}
	_ = srv.Close()
	<-ended
}

// A listener that is gone for good ends the arbiter, which its unit starts again; handshakes that hang end with it.
func TestGateEnds(t *testing.T) {
	t.Cleanup(func() { goleak.VerifyNone(t) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := newGate(l, &tls.Config{}, newCrowd(nodePlaces()), func(string, string, string, string) { t.Error("a peer was refused that only waited") })
	conn, err := net.Dial("tcp", l.Addr().String()) // and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for !g.crowd.anybody() { // until its handshake has begun
		runtime.Gosched()
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	if _, err := g.Accept(); err == nil {
		t.Error("a connection after the end")
	}
}

func (c *crowd) anybody() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.strangers) > 0
}

// told is what a gate refused.
type told struct {
	mu    sync.Mutex
	lines []string
	more  chan struct{}
}

func newTold() *told { return &told{more: make(chan struct{}, 64)} }

func (l *told) refuse(identity, address, reason, text string) {
	l.mu.Lock()
	l.lines = append(l.lines, identity+" "+reason)
	l.mu.Unlock()
	l.more <- struct{}{}
}

// is waits for a number of refusals.
func (l *told) is(t *testing.T, want ...string) {
	t.Helper()
	late := time.NewTimer(5 * time.Second)
	defer late.Stop()
	for {
		l.mu.Lock()
		have := slices.Clone(l.lines)
		l.mu.Unlock()
		if len(have) >= len(want) {
			if !slices.Equal(have, want) {
				t.Errorf("%q were refused, want %q", have, want)
			}
			return
		}
		select {
		case <-l.more:
		case <-late.C:
			t.Fatalf("%q were refused, want %q", have, want)
		}
	}
}

// closed waits until the other side has closed a connection.
func closed(t *testing.T, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	_, err := io.Copy(io.Discard, c)
	var late net.Error
	if errors.As(err, &late) && late.Timeout() {
		t.Error("the connection stays open")
	}
}

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// A handshake that says nothing makes room for one that works; an identity gets so many connections, and its place back.
func TestGateKeepsPlaces(t *testing.T) {
	s, lines, clock := newSecure(t, nil), newTold(), &hand{at: 1}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := newCrowd(places{all: 10, strangers: 4, host: 1, party: 1})
	c.now = clock.now
	g := newGate(l, s.live.Server(func() bool { return false }), c, lines.refuse)
	srv := &http.Server{Handler: s.server.Handler()}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(g) }()
	defer func() {
		_ = srv.Close()
		<-ended
	}()
	s.addr = l.Addr().String()
	slow := dial(t, s.addr)
	for !c.anybody() {
		runtime.Gosched()
	}
	closed(t, dial(t, s.addr)) // the slow one has its time still
	lines.is(t, "nobody "+reasonCrowd)
	clock.move(patience)
	a := s.credentials(s.folder, node("erp", "a"), year, s.wall.now()).Client()
	first := s.with(a)
	if status, _, text := s.call(first, "https", "GET", "/v1/clusters/erp", ""); status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	closed(t, slow)
	lines.is(t, "nobody "+reasonCrowd, "nobody "+reasonCrowd)
	if status, _, text := s.call(s.with(a), "https", "GET", "/v1/clusters/erp", ""); status != 0 {
		t.Errorf("a second connection of one identity: %d %s", status, text)
	}
	lines.is(t, "nobody "+reasonCrowd, "nobody "+reasonCrowd, nodeA+" "+reasonCrowd)
	first.CloseIdleConnections()
	for c.busy() {
		runtime.Gosched()
	}
	if status, _, text := s.call(s.with(a), "https", "GET", "/v1/clusters/erp", ""); status != 200 {
		t.Errorf("after the first has gone: %d %s", status, text)
	}
}

func (c *crowd) busy() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open > 0
}

// Without TLS a network has so many places, and whoever is outside of the list stays a stranger.
func TestPlainListenerKeepsPlaces(t *testing.T) {
	for name, c := range map[string]struct {
		list []netip.Prefix
		busy places
	}{
		"inside":  {[]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, places{all: 10, strangers: 4, host: 4, party: 2}},
		"outside": {[]netip.Prefix{netip.MustParsePrefix("10.0.9.0/24")}, places{all: 10, strangers: 8, host: 2, party: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			lines, cr := newTold(), newCrowd(c.busy)
			p := &plainListener{l, cr, c.list, lines.refuse}
			dial(t, l.Addr().String())
			dial(t, l.Addr().String())
			first, err1 := p.Accept()
			second, err2 := p.Accept()
			if err := errors.Join(err1, err2); err != nil {
				t.Fatal(err)
			}
			defer second.Close()
			over := dial(t, l.Addr().String())
			got := make(chan net.Conn, 1)
			go func() {
				c, _ := p.Accept()
				got <- c
			}()
			closed(t, over)
			lines.is(t, "nobody "+reasonCrowd)
			_ = first.Close()
			_ = first.Close() // as net/http may
			dial(t, l.Addr().String())
			third := <-got
			if third == nil {
				t.Fatal("no place after one has left")
			}
			_, _ = third.Close(), second.Close()
			if cr.busy() || cr.anybody() || len(cr.parties) != 0 {
				t.Errorf("%d open, %d strangers, %d parties", cr.open, len(cr.strangers), len(cr.parties))
			}
		})
	}
}

// Slow headers, a slow body and a connection that nobody uses end. A long poll does not.
func TestSlowPeersAreEnded(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { goleak.VerifyNone(t) })
	polls, answers := make(chan struct{}, 100), make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/poll", func(w http.ResponseWriter, r *http.Request) {
		if _, err := body(r); err != nil {
			return
		}
		polls <- struct{}{}
		<-answers
		_, _ = io.WriteString(w, "granted")
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if _, err := body(r); err != nil {
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	const short = 30 * time.Millisecond
	go func() {
		ended <- serveTimed(ctx, l, mux, times{header: short, read: short, answer: time.Minute, idle: short})
	}()
	defer func() {
		cancel()
		<-ended
	}()
	var poll *bufio.Reader
	var answered chan struct{}
	for waits := false; !waits; { // on a busy machine one may be too slow even to be read in time
		c := dial(t, l.Addr().String())
		_, _ = io.WriteString(c, "POST /poll HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
		poll = bufio.NewReader(c)
		answered = make(chan struct{})
		go func() {
			_, _ = poll.Peek(1)
			close(answered)
		}()
		select {
		case <-polls:
			waits = true
		case <-answered:
		}
	}
	for name, says := range map[string]string{
		"nothing": "", "half a header": "POST /x HTTP/1.1\r\nHost:", "half a body": "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{",
		"no second request": "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
		"endless headers":   "POST /x HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("y", 4*maxHeader),
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, l.Addr().String())
			_, _ = io.WriteString(c, says)
			closed(t, c)
		})
	}
	close(answers) // all those times are over
	<-answered
	got := make([]byte, len("HTTP/1.1 200"))
	if _, err := io.ReadFull(poll, got); err != nil || string(got) != "HTTP/1.1 200" {
		t.Errorf("the poll: %q %v", got, err)
	}
	if answerTime <= lease.MaxWait {
		t.Error("a long poll may not end in time")
	}
}
