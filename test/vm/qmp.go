package vm

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"
)

// Event is what the emulator says of its own accord (QEMU QMP reference, "Events"). The guest has no part in it.
type Event struct {
	Name   string // SHUTDOWN, WATCHDOG, STOP, RESUME, …
	Reason string // of a SHUTDOWN
	Guest  bool   // of a SHUTDOWN: the machine itself, or a device in it, is the reason
	At     time.Time
}

// isReset tells a reset from within, which this emulator is told to stand still at.
func (e Event) isReset() bool { return e.Name == "SHUTDOWN" && e.Guest && e.Reason == "guest-reset" }

// kept lists the events that mean something to a row.
func kept() []string {
	return []string{"SHUTDOWN", "WATCHDOG", "STOP", "RESUME", "RESET", "GUEST_PANICKED"}
}

// qmp speaks to the emulator. One goroutine reads; any number may ask.
type qmp struct {
	conn net.Conn

	mu     sync.Mutex
	events []Event
	news   chan struct{} // closed and replaced at each event, and at the end
	ended  error

	ask     sync.Mutex
	answers chan qmpLine
	done    chan struct{}
}

type qmpLine struct {
	Event  string          `json:"event"`
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Desc string `json:"desc"`
	} `json:"error"`
	Data struct {
		Reason string `json:"reason"`
		Guest  bool   `json:"guest"`
	} `json:"data"`
}

// errClosed means that the emulator has ended.
var errClosed = errors.New("the emulator has closed its socket")

func newQMP(conn net.Conn) (*qmp, error) {
	q := &qmp{conn: conn, news: make(chan struct{}), answers: make(chan qmpLine, 1), done: make(chan struct{})}
	go q.read()
	if err := q.command("qmp_capabilities", nil); err != nil {
		q.close()
		return nil, err
	}
	return q, nil
}

func (q *qmp) read() {
	defer close(q.done)
	lines := bufio.NewScanner(q.conn)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		at := time.Now()
		var l qmpLine
		if json.Unmarshal(lines.Bytes(), &l) != nil {
			continue
		}
		switch {
		case l.Event != "":
			q.note(Event{Name: l.Event, Reason: l.Data.Reason, Guest: l.Data.Guest, At: at}, nil)
		case l.Return != nil || l.Error != nil:
			select {
			case q.answers <- l:
			default: // nobody waits for it any more
			}
		}
	}
	q.note(Event{}, errClosed)
}

func (q *qmp) note(e Event, end error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case end != nil:
		q.ended = end
	case !slices.Contains(kept(), e.Name):
		return
	default:
		q.events = append(q.events, e)
	}
	close(q.news)
	q.news = make(chan struct{})
}

// command runs one command of the protocol and waits for its answer.
func (q *qmp) command(name string, arguments map[string]any) error {
	q.ask.Lock()
	defer q.ask.Unlock()
	select {
	case <-q.answers: // a late answer of one that was given up
	default:
	}
	request := map[string]any{"execute": name}
	if arguments != nil {
		request["arguments"] = arguments
	}
	if err := json.NewEncoder(q.conn).Encode(request); err != nil {
		return fmt.Errorf("emulator: %s: %w", name, err)
	}
	select {
	case l := <-q.answers:
		if l.Error != nil {
			return fmt.Errorf("emulator: %s: %s", name, l.Error.Desc)
		}
		return nil
	case <-q.done:
		return fmt.Errorf("emulator: %s: %w", name, errClosed)
	case <-time.After(10 * time.Second):
		return fmt.Errorf("emulator: %s: no answer", name)
	}
}

// since returns the events that came at or after an instant, and a channel that is closed when there is more to see.
func (q *qmp) since(at time.Time) ([]Event, <-chan struct{}, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var out []Event
	for _, e := range q.events {
		if !e.At.Before(at) {
			out = append(out, e)
		}
	}
	return out, q.news, q.ended
}

// await waits for an event.
func (q *qmp) await(ctx context.Context, since time.Time, name string) error {
	for {
		events, news, err := q.since(since)
		if slices.ContainsFunc(events, func(e Event) bool { return e.Name == name }) {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case <-news:
		case <-ctx.Done():
			return fmt.Errorf("wait for the emulator's %s: %w", name, ctx.Err())
		}
	}
}

func (q *qmp) close() {
	q.conn.Close()
	<-q.done
}
