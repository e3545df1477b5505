package guard

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/leasedog/leasedog/guard/guardapi"
)

const (
	// maxClients bounds the connections: an agent, its successor, and a few that look.
	maxClients = 16
	// idleLimit ends a connection that asks nothing; a forgotten one must not keep the guard alive.
	idleLimit = 30 * time.Second
	// answerLimit bounds the writing of a reply to a peer that does not read.
	answerLimit = time.Second
)

// server moves packets between connections and the loop. It decides nothing: one reader a connection hands each
// request over and waits for its reply.
type server struct {
	listener *net.UnixListener
	joined   chan *client
	requests chan request
	left     chan *client
	closed   chan struct{}
	tasks    sync.WaitGroup
	slots    chan struct{}
}

type client struct {
	conn    *net.UnixConn
	dropped bool // only the loop's goroutine touches it
}

// drop closes the connection unread.
func (c *client) drop() {
	c.dropped = true
	if c.conn != nil {
		c.conn.Close()
	}
}

type request struct {
	from  *client
	body  guardapi.Request
	reply chan guardapi.Reply
}

// listen never takes the socket from a guard that lives: one that is frozen still has its backlog, and may be armed.
func listen(path string) (*server, error) {
	if other, err := net.DialTimeout("unixpacket", path, answerLimit); err == nil {
		other.Close()
		return nil, fmt.Errorf("listen on %s: another guard does", path)
	} else if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ECONNREFUSED) {
		return nil, fmt.Errorf("listen on %s: who listens there cannot be told: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	old := unix.Umask(0o177)
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	unix.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return &server{listener: l, joined: make(chan *client), requests: make(chan request), left: make(chan *client),
		closed: make(chan struct{}), slots: make(chan struct{}, maxClients)}, nil
}

// serve starts accepting; before it, connections wait in the socket.
func (s *server) serve() {
	s.tasks.Add(1)
	go s.accept()
}

func (s *server) accept() {
	defer s.tasks.Done()
	for {
		conn, err := s.listener.AcceptUnix()
		if err != nil {
			select {
			case <-s.closed:
				return
			case <-time.After(100 * time.Millisecond): // out of file descriptors, perhaps
				continue
			}
		}
		if !allowed(conn) {
			conn.Close()
			continue
		}
		select {
		case s.slots <- struct{}{}:
		default:
			conn.Close()
			continue
		}
		c := &client{conn: conn}
		select {
		case s.joined <- c:
			s.tasks.Add(1)
			go s.read(c)
		case <-s.closed:
			conn.Close()
			return
		}
	}
}

// allowed asks the kernel who is at the other end: root, or whoever runs this guard (a test).
func allowed(conn *net.UnixConn) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return false
	}
	ok := false
	err = raw.Control(func(fd uintptr) {
		cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		ok = err == nil && (cred.Uid == 0 || int(cred.Uid) == os.Geteuid())
	})
	return err == nil && ok
}

func (s *server) read(c *client) {
	defer s.tasks.Done()
	defer func() {
		c.conn.Close()
		<-s.slots
		select {
		case s.left <- c:
		case <-s.closed:
		}
	}()
	buf := make([]byte, guardapi.MaxMessage)
	for {
		_ = c.conn.SetReadDeadline(time.Now().Add(idleLimit))
		select { // close sets a deadline that has passed; the line above may have undone it
		case <-s.closed:
			return
		default:
		}
		n, err := c.conn.Read(buf)
		if err != nil {
			return
		}
		reply := guardapi.Reply{Code: guardapi.CodeBad, Message: "this packet is no request"}
		var body guardapi.Request
		if err := json.Unmarshal(buf[:n], &body); err == nil {
			r := request{from: c, body: body, reply: make(chan guardapi.Reply, 1)}
			select {
			case s.requests <- r:
			case <-s.closed:
				return
			}
			select {
			case reply = <-r.reply:
			case <-s.closed:
				select { // what was decided before the end is still said
				case reply = <-r.reply:
				default:
					return
				}
			}
		}
		if !send(c.conn, reply) {
			return
		}
	}
}

func send(conn *net.UnixConn, reply guardapi.Reply) bool {
	packet, err := json.Marshal(reply)
	if err != nil || len(packet) > guardapi.MaxMessage {
		reply.Status.Jumps, reply.Status.Warnings, reply.Status.Armed = nil, nil, nil
		reply.Code, reply.Message = guardapi.CodeNoRoom, "the status does not fit into a packet"
		if packet, err = json.Marshal(reply); err != nil {
			return false
		}
	}
	_ = conn.SetWriteDeadline(time.Now().Add(answerLimit))
	_, err = conn.Write(packet)
	return err == nil
}

// close stops listening and drops whoever waits to be accepted or to be read; replies that were decided go out
// first. It returns when no task of the server is left. The loop calls it, so nobody can be handed to it meanwhile.
func (s *server) close(open map[*client]struct{}) {
	close(s.closed)
	s.listener.Close()
	for c := range open {
		_ = c.conn.SetReadDeadline(time.Unix(1, 0))
	}
	s.tasks.Wait()
}
