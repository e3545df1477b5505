package systemd

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Notifier speaks sd_notify(3) over one connected socket. A nil *Notifier does nothing, so a program that was not
// started by systemd needs no other path. One goroutine only. The socket is not one of the net package: its poller
// wakes the program whenever PID 1 has read a datagram.
type Notifier struct {
	socket int
	alive  []byte // what a feed says, made once: a feed allocates nothing
}

// NewNotifier connects to $NOTIFY_SOCKET and takes it out of the environment, so that no child speaks for us. It
// returns nil without an error if there is none.
func NewNotifier() (*Notifier, error) {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return nil, nil
	}
	if err := os.Unsetenv("NOTIFY_SOCKET"); err != nil {
		return nil, fmt.Errorf("connect to $NOTIFY_SOCKET: %w", err)
	}
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("connect to $NOTIFY_SOCKET: %w", err)
	}
	wait := unix.NsecToTimeval(int64(sendTime))
	err = errors.Join(unix.SetsockoptTimeval(socket, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &wait),
		unix.Connect(socket, &unix.SockaddrUnix{Name: name}))
	if err != nil {
		_ = unix.Close(socket)
		return nil, fmt.Errorf("connect to $NOTIFY_SOCKET: %w", err)
	}
	return &Notifier{socket, []byte("WATCHDOG=1")}, nil
}

// sendTime bounds every message but a feed, which never waits.
const sendTime = time.Second

// Close closes the socket.
func (n *Notifier) Close() error {
	if n == nil {
		return nil
	}
	return unix.Close(n.socket)
}

// Watchdog sends WATCHDOG=1. It never waits: with a full queue (PID 1 hangs) it returns EAGAIN. It allocates
// nothing.
func (n *Notifier) Watchdog() error {
	if n == nil {
		return nil
	}
	return unix.Send(n.socket, n.alive, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
}

// Ready tells that the start is over, with a first status.
func (n *Notifier) Ready(status string) error { return n.Send("READY=1", "STATUS="+line(status)) }

// Status is the text that systemctl status shows.
func (n *Notifier) Status(status string) error { return n.Send("STATUS=" + line(status)) }

// ExtendTimeout asks for d more before the start, or stop, counts as hung.
func (n *Notifier) ExtendTimeout(d time.Duration) error {
	return n.Send("EXTEND_TIMEOUT_USEC=" + usec(d))
}

// WatchdogTimeout replaces the unit's WatchdogSec= for this run of the service.
func (n *Notifier) WatchdogTimeout(d time.Duration) error { return n.Send("WATCHDOG_USEC=" + usec(d)) }

// Reloading and Stopping announce these. While stopping the service watchdog is off: nobody who still guards
// anything sends it.
func (n *Notifier) Reloading() error { return n.Send("RELOADING=1") }

// Stopping tells that the service is ending.
func (n *Notifier) Stopping() error { return n.Send("STOPPING=1") }

// Send sends assignments in one datagram. It waits at most a second.
func (n *Notifier) Send(assignments ...string) error {
	if n == nil {
		return nil
	}
	text, err := []byte(strings.Join(assignments, "\n")), error(unix.EINTR)
	for errors.Is(err, unix.EINTR) {
		err = unix.Send(n.socket, text, unix.MSG_NOSIGNAL)
	}
	if err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	return nil
}

func usec(d time.Duration) string { return strconv.FormatInt(d.Microseconds(), 10) }

// line keeps a status from smuggling in an assignment.
func line(s string) string { return strings.ReplaceAll(s, "\n", " ") }

// WatchdogInterval is WatchdogSec= of the unit that started this process (sd_watchdog_enabled(3)), 0 if none.
func WatchdogInterval() (time.Duration, error) {
	text := os.Getenv("WATCHDOG_USEC")
	if text == "" {
		return 0, nil
	}
	if pid := os.Getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n <= 0 || n > int64(24*time.Hour/time.Microsecond) {
		return 0, fmt.Errorf("parse $WATCHDOG_USEC %q: want microseconds", text)
	}
	return time.Duration(n) * time.Microsecond, nil
}
