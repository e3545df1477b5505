package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/user"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Handler answers requests. Its methods are called concurrently, each with a deadline. An error that is an *Error goes
// to the client as it is; any other becomes CodeInternal.
type Handler interface {
	Status(ctx context.Context) (Status, error)
	Why(ctx context.Context) ([]Event, error)
	// Fence tells how a fencing stands, and carries it on.
	Fence(ctx context.Context, r Request) (Fence, error)
	// Do carries out any other verb, or refuses it. It returns as soon as that is decided, with
	// words about what happens now; it does not wait for the end of it.
	Do(ctx context.Context, r Request) (string, error)
}

const (
	maxRequest  = 8 << 10
	maxResponse = 4 << 20 // 64 leases with long texts fit many times
	// Readers and root have connections of their own, so that no monitoring script can keep an administrator out.
	maxReaders = 16
	maxActors  = 16

	transferTime = 5 * time.Second  // to send a request, and to take an answer
	handleTime   = 10 * time.Second // to decide about one
)

// Server serves the socket.
type Server struct {
	listener *net.UnixListener
	handler  Handler
	readers  chan struct{}
	actors   chan struct{}
}

// Listen makes the socket at path, in place of one that a dead agent left. A gid of 0 or above may read; -1 leaves
// the socket to root. The folder must belong to root: whoever may write there may stand in for the agent.
func Listen(path string, gid int, h Handler) (*Server, error) {
	if h == nil {
		panic("control: Listen without a handler")
	}
	// The socket appears under its name only with its final owner and mode.
	temporary := path + ".new"
	if err := os.Remove(temporary); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove old socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: temporary, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen at control socket: %w", err)
	}
	l.SetUnlinkOnClose(false) // a successor may have put its own there
	mode := os.FileMode(0o600)
	if gid >= 0 {
		mode = 0o660
		err = os.Chown(temporary, -1, gid)
	}
	if err == nil {
		err = os.Chmod(temporary, mode)
	}
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("set up control socket: %w", err), l.Close())
	}
	return &Server{listener: l, handler: h, readers: make(chan struct{}, maxReaders), actors: make(chan struct{}, maxActors)}, nil
}

// ReaderGID returns the id of ReaderGroup, or -1 if this machine has no such group.
func ReaderGID() int {
	g, err := user.LookupGroup(ReaderGroup)
	if err != nil {
		return -1
	}
	id, err := strconv.Atoi(g.Gid)
	if err != nil {
		return -1
	}
	return id
}

// Serve answers until ctx ends, and returns nil after the last answer has left. Any other end is an error.
func (s *Server) Serve(ctx context.Context) error {
	var open sync.WaitGroup
	defer open.Wait()
	stop := context.AfterFunc(ctx, func() { s.listener.Close() })
	defer stop()
	for {
		conn, err := s.listener.AcceptUnix()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return errors.Join(fmt.Errorf("accept at control socket: %w", err), s.listener.Close())
		}
		root, err := isRoot(conn)
		if err != nil {
			conn.Close() // gone already
			continue
		}
		slots := s.readers
		if root {
			slots = s.actors
		}
		select {
		case slots <- struct{}{}:
		default:
			conn.Close() // the client sees the end of the stream and says so
			continue
		}
		open.Go(func() {
			defer func() { <-slots }()
			s.serve(ctx, conn, root)
		})
	}
}

// serve answers one connection. Every failure to read or write concerns only the client, who sees it itself.
func (s *Server) serve(ctx context.Context, conn *net.UnixConn, root bool) {
	defer conn.Close()
	if err := conn.SetReadDeadline(time.Now().Add(transferTime)); err != nil {
		return
	}
	data, err := io.ReadAll(io.LimitReader(conn, maxRequest+1))
	if err != nil {
		return
	}
	ctx, done := whileThere(ctx, conn)
	response := s.answer(ctx, data, root)
	done()
	body, err := json.Marshal(response)
	if err != nil {
		body = []byte(`{"error":{"code":"internal","message":"the answer cannot be encoded"}}`)
	}
	if err := conn.SetWriteDeadline(time.Now().Add(transferTime)); err != nil {
		return
	}
	_, _ = conn.Write(body)
}

// whileThere returns a context that ends when the client has gone: some of what it asks for counts only while it waits. A
// client that has only closed its own direction is still there. done must be called.
func whileThere(ctx context.Context, conn *net.UnixConn) (_ context.Context, done func()) {
	ctx, cancel := context.WithCancel(ctx)
	raw, err := conn.SyscallConn()
	if err == nil {
		err = conn.SetReadDeadline(time.Time{})
	}
	if err != nil { // it is not open any more
		cancel()
		return ctx, cancel
	}
	var watching sync.WaitGroup
	watching.Go(func() {
		if err := raw.Read(hungUp); err == nil {
			cancel()
		}
	})
	return ctx, func() {
		_ = conn.SetReadDeadline(time.Unix(1, 0)) // wakes the watch; a closed connection has ended it
		watching.Wait()
		cancel()
	}
}

// hungUp reports whether the other end of a connection is closed, and not only its direction to here.
func hungUp(fd uintptr) bool {
	one := []unix.PollFd{{Fd: int32(fd)}} // POLLHUP is told without being asked for (poll(2))
	n, err := unix.Poll(one, 0)
	return err == nil && n > 0
}

func (s *Server) answer(ctx context.Context, data []byte, root bool) Response {
	var r Request
	if len(data) > maxRequest {
		return Response{Error: Refuse(CodeBadRequest, "", "the request is larger than %d bytes", maxRequest)}
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return Response{Error: Refuse(CodeBadRequest, "", "the request is not understood: %v", err)}
	}
	if !r.Verb.readable() && !root {
		return Response{Error: Refuse(CodeForbidden, "run it as root", "only root may %s", r.Verb)}
	}
	ctx, cancel := context.WithTimeout(ctx, handleTime)
	defer cancel()
	var (
		out Response
		err error
	)
	switch r.Verb {
	case VerbStatus:
		var st Status
		if st, err = s.handler.Status(ctx); err == nil {
			st.Schema = Schema
			out.Status = &st
		}
	case VerbWhy:
		out.Events, err = s.handler.Why(ctx)
	case VerbFence:
		var f Fence
		if f, err = s.handler.Fence(ctx, r); err == nil {
			out.Fence = &f
		}
	case VerbPoke, VerbSwitchover, VerbRelease, VerbAcquire, VerbPause, VerbResume, VerbHandover,
		VerbOrderedStart, VerbOrderedStop, VerbOrderedCheck:
		out.Message, err = s.handler.Do(ctx, r)
	default:
		return Response{Error: Refuse(CodeBadRequest, "agent and command are of different versions; restart the agent",
			"this agent does not know %q", r.Verb)}
	}
	if err == nil {
		return out
	}
	var refusal *Error
	if !errors.As(err, &refusal) {
		refusal = Refuse(CodeInternal, "", "%v", err)
	}
	return Response{Error: refusal}
}

// isRoot asks the kernel who connected.
func isRoot(conn *net.UnixConn) (bool, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return false, err
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err := errors.Join(err, credErr); err != nil {
		return false, fmt.Errorf("ask who connected: %w", err)
	}
	return cred.Uid == 0, nil
}
