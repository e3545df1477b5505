package guardapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/leasedog/leasedog/lease"
)

// DefaultTimeout bounds a call whose context has no nearer deadline.
const DefaultTimeout = time.Second

// dialEvery is how often a client looks again for the socket of a guard that has just been started: it listens
// only when everything else has succeeded.
const dialEvery = 10 * time.Millisecond

// ErrNoGuard means that nobody listens: no guard runs, or it is about to end.
var ErrNoGuard = errors.New("no guard listens")

// RefusedError is a reply that is not OK. The guard is alive and its state is in Reply.Status.
type RefusedError struct{ Reply Reply }

func (e *RefusedError) Error() string {
	return fmt.Sprintf("guard refused (%s): %s", e.Reply.Code, e.Reply.Message)
}

// Client speaks to the guard over one connection, which it makes when needed, again after any error, and keeps only
// while something is armed. Any number
// of goroutines may call it; calls are served one after the other. An error means unknown: the request may have
// been carried out.
type Client struct {
	path string
	mu   sync.Mutex
	conn *net.UnixConn
}

// NewClient returns a client for the guard that listens at path. Nothing is opened before the first call.
func NewClient(path string) *Client { return &Client{path: path} }

// Arm arms or extends a lease. A nil error is the guard's acknowledgement: the kill timer stands, and Reply.Until
// is the deadline in force.
func (c *Client) Arm(ctx context.Context, req Request) (Reply, error) {
	req.Op = OpArm
	return c.call(ctx, req)
}

// Shorten brings the deadline of an armed lease nearer.
func (c *Client) Shorten(ctx context.Context, req Request) (Reply, error) {
	req.Op = OpShorten
	return c.call(ctx, req)
}

// Disarm ends the watch over a lease. It succeeds when that epoch is not armed any more.
func (c *Client) Disarm(ctx context.Context, name string, epoch lease.Epoch, who lease.Instance) (Reply, error) {
	return c.call(ctx, Request{Op: OpDisarm, Lease: name, Epoch: epoch, Instance: who.String()})
}

// Note tells the guard why a lease is being lost, for the cause record.
func (c *Client) Note(ctx context.Context, name string, epoch lease.Epoch, who lease.Instance,
	state, because string) (Reply, error) {
	return c.call(ctx, Request{Op: OpNote, Lease: name, Epoch: epoch, Instance: who.String(),
		State: state, Because: because})
}

// Status asks without changing anything. ErrNoGuard at once if nobody listens.
func (c *Client) Status(ctx context.Context) (Status, error) {
	r, err := c.call(ctx, Request{Op: OpStatus})
	return r.Status, err
}

// Close drops the connection. The guard ends by itself only when nobody is connected.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.drop()
}

func (c *Client) drop() error {
	if c.conn == nil {
		return nil
	}
	err := c.conn.Close()
	c.conn = nil
	return err
}

func (c *Client) call(ctx context.Context, req Request) (Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, DefaultTimeout)
	defer cancel()
	packet, err := json.Marshal(req)
	if err != nil {
		return Reply{}, fmt.Errorf("%s: %w", req.Op, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	reused := c.conn != nil
	reply, err := c.exchange(ctx, packet, req.Op)
	if err != nil && reused && ctx.Err() == nil {
		// The guard closes idle connections and may have been replaced; requests are idempotent.
		reply, err = c.exchange(ctx, packet, req.Op)
	}
	if err != nil {
		return Reply{}, fmt.Errorf("guard %s: %w", req.Op, err)
	}
	if len(reply.Status.Armed) == 0 {
		_ = c.drop() // a guard with nothing armed ends when nobody is connected: do not keep it
	}
	if !reply.OK {
		return reply, &RefusedError{Reply: reply}
	}
	return reply, nil
}

func (c *Client) exchange(ctx context.Context, packet []byte, op Op) (reply Reply, err error) {
	if c.conn == nil {
		if c.conn, err = dial(ctx, c.path, op == OpArm); err != nil {
			return Reply{}, err
		}
	}
	defer func() {
		if err != nil {
			_ = c.drop()
		}
	}()
	deadline, _ := ctx.Deadline()
	if err := c.conn.SetDeadline(deadline); err != nil {
		return Reply{}, err
	}
	stop := context.AfterFunc(ctx, func(conn *net.UnixConn) func() {
		return func() { _ = conn.SetDeadline(time.Unix(1, 0)) }
	}(c.conn))
	defer stop()
	if _, err := c.conn.Write(packet); err != nil {
		return Reply{}, err
	}
	buf := make([]byte, MaxMessage)
	n, err := c.conn.Read(buf)
	if errors.Is(err, io.EOF) {
		return Reply{}, fmt.Errorf("%w: it closed the connection", ErrNoGuard)
	}
	if err != nil {
		return Reply{}, err
	}
	if err := json.Unmarshal(buf[:n], &reply); err != nil {
		return Reply{}, fmt.Errorf("parse reply: %w", err)
	}
	return reply, nil
}

// dial connects; patiently means that a guard which does not listen yet is waited for until ctx ends.
func dial(ctx context.Context, path string, patiently bool) (*net.UnixConn, error) {
	var d net.Dialer
	for {
		conn, err := d.DialContext(ctx, "unixpacket", path)
		if err == nil {
			return conn.(*net.UnixConn), nil
		}
		absent := errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)
		if !absent {
			return nil, err
		}
		if !patiently {
			return nil, fmt.Errorf("%w: %w", ErrNoGuard, err)
		}
		wait := time.NewTimer(dialEvery)
		select {
		case <-ctx.Done():
			wait.Stop()
			return nil, fmt.Errorf("%w: %w", ErrNoGuard, err)
		case <-wait.C:
		}
	}
}
