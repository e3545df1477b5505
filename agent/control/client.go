package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// Client asks the agent of this machine. It has no state: any number of goroutines may use it.
type Client struct {
	path string
}

// clientTime bounds a call whose context has no earlier deadline.
const clientTime = 2*transferTime + handleTime

// NewClient returns a client of the socket at path; it does not connect.
func NewClient(path string) *Client { return &Client{path: path} }

// Status returns the status document.
func (c *Client) Status(ctx context.Context) (Status, error) {
	out, err := c.call(ctx, Request{Verb: VerbStatus})
	switch {
	case err != nil:
		return Status{}, err
	case out.Status == nil:
		return Status{}, errors.New("ask the agent: the answer has no status")
	case out.Status.Schema != Schema:
		return Status{}, fmt.Errorf("ask the agent: its status has schema %d, this program reads %d", out.Status.Schema, Schema)
	}
	return *out.Status, nil
}

// Why returns what happened here, newest last.
func (c *Client) Why(ctx context.Context) ([]Event, error) {
	out, err := c.call(ctx, Request{Verb: VerbWhy})
	return out.Events, err
}

// Fence asks for a fencing, a check or the list.
func (c *Client) Fence(ctx context.Context, r Request) (Fence, error) {
	r.Verb = VerbFence
	out, err := c.call(ctx, r)
	switch {
	case err != nil:
		return Fence{}, err
	case out.Fence == nil:
		return Fence{}, errors.New("ask the agent: the answer says nothing of the fencing")
	}
	return *out.Fence, nil
}

// Do asks for an action and returns what the agent says that it does now.
func (c *Client) Do(ctx context.Context, r Request) (string, error) {
	out, err := c.call(ctx, r)
	return out.Message, err
}

// call sends one request. The error is ErrNotRunning (wrapped) if nobody listens, an *Error if the agent refuses.
func (c *Client) call(ctx context.Context, r Request) (Response, error) {
	ctx, cancel := context.WithTimeout(ctx, clientTime)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.path)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ECONNREFUSED):
		return Response{}, fmt.Errorf("%w (nobody listens at %s)", ErrNotRunning, c.path)
	case err != nil:
		return Response{}, fmt.Errorf("connect to the agent: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) }) // wakes every read and write
	defer stop()
	out, err := exchange(conn.(*net.UnixConn), r)
	switch {
	case err != nil && ctx.Err() != nil:
		return Response{}, fmt.Errorf("ask the agent: no answer in time: %w", ctx.Err())
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, unix.EPIPE), errors.Is(err, unix.ECONNRESET):
		return Response{}, errors.New("ask the agent: it closed the connection without an answer (busy, or ending)")
	case err != nil:
		return Response{}, fmt.Errorf("ask the agent: %w", err)
	case out.Error != nil:
		return Response{}, out.Error
	}
	return out, nil
}

func exchange(conn *net.UnixConn, r Request) (Response, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return Response{}, err
	}
	if _, err := conn.Write(body); err != nil {
		return Response{}, err
	}
	if err := conn.CloseWrite(); err != nil {
		return Response{}, err
	}
	data, err := io.ReadAll(io.LimitReader(conn, maxResponse+1))
	switch {
	case err != nil:
		return Response{}, err
	case len(data) == 0:
		return Response{}, io.ErrUnexpectedEOF
	case len(data) > maxResponse:
		return Response{}, fmt.Errorf("the answer is larger than %d bytes", maxResponse)
	}
	var out Response
	if err := json.Unmarshal(data, &out); err != nil {
		return Response{}, fmt.Errorf("the answer is not understood: %w", err)
	}
	return out, nil
}
