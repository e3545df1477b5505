package arbiter

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/leasedog/leasedog/pki"
)

// gate is a listener whose connections have finished their TLS handshake: who does not get through is refused here, with
// a reason, before any HTTP is read.
type gate struct {
	net.Listener
	conf   *tls.Config
	crowd  *crowd
	refuse func(identity, address, reason, text string)

	ready chan accepted
	ctx   context.Context
	stop  context.CancelFunc
	wait  sync.WaitGroup
}

type accepted struct {
	conn net.Conn
	err  error
}

// How long errors of the listener may go on: ten seconds.
const (
	maxFailedAccepts = 200
	acceptPause      = 50 * time.Millisecond
)

func newGate(l net.Listener, conf *tls.Config, c *crowd, refuse func(identity, address, reason, text string)) *gate {
	ctx, stop := context.WithCancel(context.Background())
	g := &gate{Listener: l, conf: conf, crowd: c, refuse: refuse, ready: make(chan accepted), ctx: ctx, stop: stop}
	g.wait.Go(g.run)
	return g
}

func (g *gate) run() {
	for failed := 0; ; {
		conn, err := g.Listener.Accept()
		if err != nil {
			// Out of descriptors, or a peer that went while it waited: that passes. What does not ends the arbiter.
			if failed++; errors.Is(err, net.ErrClosed) || failed > maxFailedAccepts || !g.rest() {
				g.pass(accepted{err: err})
				return
			}
			continue
		}
		failed = 0
		st, err := g.crowd.enter(conn.RemoteAddr(), func() { _ = conn.Close() })
		if err != nil {
			g.refuse(nobody, conn.RemoteAddr().String(), reasonCrowd, err.Error())
			_ = conn.Close() // better than to let it wait: its node tries again
			continue
		}
		keepAlive(conn)
		g.wait.Go(func() {
			if c, ok := g.handshake(conn, st); ok && !g.pass(accepted{conn: c}) {
				_ = c.Close()
			}
		})
	}
}

// rest pauses between tries. false: it is over.
func (g *gate) rest() bool {
	timer := time.NewTimer(acceptPause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-g.ctx.Done():
		return false
	}
}

func (g *gate) pass(a accepted) bool {
	select {
	case g.ready <- a:
		return true
	case <-g.ctx.Done():
		return false
	}
}

// handshake finds out who it is. A peer that only may join stays a stranger.
func (g *gate) handshake(c net.Conn, st *stranger) (net.Conn, bool) {
	ctx, cancel := context.WithTimeout(g.ctx, headerTime)
	defer cancel()
	raw := &placed{Conn: c, leave: func() { g.crowd.leave(st) }}
	conn := tls.Server(raw, g.conf)
	err := conn.HandshakeContext(ctx)
	if err == nil {
		return conn, g.settle(conn, raw, st)
	}
	defer raw.Close()
	if g.ctx.Err() != nil {
		return nil, false
	}
	if g.crowd.leave(st) {
		g.refuse(nobody, raw.RemoteAddr().String(), reasonCrowd, "a slow handshake had to make room")
		return nil, false
	}
	who, reason, text := nobody, reasonHandshake, err.Error()
	var refusal *pki.Refusal
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &refusal):
		who, reason = refusal.Identity.String(), refusal.Code
	case errors.As(err, &record) && looksLikeHTTP(record.RecordHeader):
		reason, text = reasonPlainHTTP, "plain HTTP where TLS is spoken"
		_ = raw.SetWriteDeadline(time.Now().Add(headerTime))
		_, _ = raw.Write([]byte("HTTP/1.0 400 Bad Request\r\nConnection: close\r\n\r\nthis arbiter speaks TLS only\n"))
	}
	g.refuse(who, raw.RemoteAddr().String(), reason, text)
	return nil, false
}

// settle gives a connection one of its party's places, or closes it.
func (g *gate) settle(conn *tls.Conn, raw *placed, st *stranger) bool {
	leafs := conn.ConnectionState().PeerCertificates
	if len(leafs) == 0 {
		return true
	}
	who := nobody
	id, err := pki.IdentityOf(leafs[0])
	if err == nil {
		who = id.String()
		err = g.crowd.settle(st, who)
	}
	if err != nil {
		g.refuse(who, raw.RemoteAddr().String(), reasonCrowd, err.Error())
		_ = raw.Close()
		return false
	}
	raw.keeps(func() { g.crowd.part(who) })
	return true
}

func looksLikeHTTP(head [5]byte) bool {
	switch string(head[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO", "DELET", "PATCH", "CONNE":
		return true
	}
	return false
}

// Accept returns a connection whose peer is known, or may join.
func (g *gate) Accept() (net.Conn, error) {
	select {
	case a := <-g.ready:
		return a.conn, a.err
	case <-g.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Close ends handshakes that are under way too.
func (g *gate) Close() error {
	g.stop()
	err := g.Listener.Close()
	g.wait.Wait()
	return err
}

// plainListener serves plain HTTP, and knows TLS when it sees it. Who comes from one of its networks is no stranger.
type plainListener struct {
	net.Listener
	crowd  *crowd
	from   []netip.Prefix
	refuse func(identity, address, reason, text string)
}

func (l *plainListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		p, err := l.place(c)
		if err != nil {
			l.refuse(nobody, c.RemoteAddr().String(), reasonCrowd, err.Error())
			_ = c.Close() // better than to let it wait: its node tries again
			continue
		}
		keepAlive(c)
		return &plainConn{Conn: p, refuse: l.refuse}, nil
	}
}

func (l *plainListener) place(c net.Conn) (*placed, error) {
	st, err := l.crowd.enter(c.RemoteAddr(), func() { _ = c.Close() })
	if err != nil {
		return nil, err
	}
	p := &placed{Conn: c, leave: func() { l.crowd.leave(st) }}
	a, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil || !containsAddr(l.from, a.Addr().Unmap().WithZone("")) {
		return p, nil
	}
	who := st.from.String()
	if err := l.crowd.settle(st, who); err != nil {
		return nil, err
	}
	p.keeps(func() { l.crowd.part(who) })
	return p, nil
}

type plainConn struct {
	net.Conn
	refuse func(identity, address, reason, text string)
	seen   bool
}

var errTLS = errors.New("TLS where plain HTTP is spoken")

func (c *plainConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && !c.seen && b[0] == 0x16 { // a handshake record (RFC 8446, 5.1)
		c.refuse(nobody, c.RemoteAddr().String(), reasonTLSOnPlain, errTLS.Error())
		return 0, errors.Join(errTLS, c.Close())
	}
	c.seen = c.seen || n > 0
	return n, err
}
