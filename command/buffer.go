package command

import (
	"slices"
	"sync"
)

// head keeps the first max bytes and closes full, once, when there are more. It swallows the rest, so that
// a program which is about to be killed is not blocked on its pipe. Its lock allows reading it while a
// program that could not be reaped still writes.
type head struct {
	mu   sync.Mutex
	buf  []byte
	max  int
	over bool
	full chan<- struct{}
}

func (h *head) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	room := h.max - len(h.buf)
	if len(p) <= room {
		h.buf = append(h.buf, p...)
		return len(p), nil
	}
	h.buf = append(h.buf, p[:room]...)
	if !h.over {
		h.over = true
		close(h.full)
	}
	return len(p), nil
}

func (h *head) Bytes() []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.buf)
}

func (h *head) Full() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.over
}

// tail keeps the last max bytes.
type tail struct {
	mu  sync.Mutex
	buf []byte
	max int
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if extra := len(t.buf) - t.max; extra > 0 {
		t.buf = append(t.buf[:0], t.buf[extra:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}
