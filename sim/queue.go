package sim

import "github.com/leasedog/leasedog/lease"

// event is something that happens at an instant of real time. Events of one instant happen in the order in which they
// were made.
type event struct {
	at    lease.Instant
	order uint64
	task  task
}

// task is what happens. What happens often is a task of its own: a closure would have to be made for it each time.
type task interface{ happen() }

// do makes a function a task.
type do func()

func (f do) happen() { f() }

func (e *event) before(o *event) bool { return e.at < o.at || e.at == o.at && e.order < o.order }

// queue is a heap of events with four children a node: an event is moved half as often as with two.
type queue []event

func (q *queue) push(e event) {
	h := append(*q, e)
	i := len(h) - 1
	for i > 0 {
		up := (i - 1) / 4
		if !e.before(&h[up]) {
			break
		}
		h[i] = h[up]
		i = up
	}
	h[i] = e
	*q = h
}

// pop takes the next event out.
func (q *queue) pop() event {
	h := *q
	first, last := h[0], h[len(h)-1]
	h[len(h)-1] = event{}
	h = h[:len(h)-1]
	*q = h
	if len(h) == 0 {
		return first
	}
	i := 0
	for {
		child := 4*i + 1
		if child >= len(h) {
			break
		}
		least := child
		for c := child + 1; c < min(child+4, len(h)); c++ {
			if h[c].before(&h[least]) {
				least = c
			}
		}
		if !h[least].before(&last) {
			break
		}
		h[i] = h[least]
		i = least
	}
	h[i] = last
	return first
}
