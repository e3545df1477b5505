package arbiter

import (
	"crypto/tls"
	"net"
	"net/http"
	"runtime"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/goleak"

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
	g := newGate(&failing{Listener: l, left: 3}, s.live.Server(func() bool { return false }), refuse)
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
	g := newGate(l, &tls.Config{}, func(string, string, string, string) { t.Error("a peer was refused that only waited") })
	conn, err := net.Dial("tcp", l.Addr().String()) // and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for len(g.slots) == 0 { // until its handshake has begun
		runtime.Gosched()
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	if _, err := g.Accept(); err == nil {
		t.Error("a connection after the end")
	}
}
