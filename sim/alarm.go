package sim

import "github.com/leasedog/leasedog/lease"

// alarm is a deadline that is moved much more often than it passes. At most one event is on its way for it: a deadline
// that moved away is found out when that event comes, and waited for anew.
type alarm struct {
	w    *world
	run  func()
	due  lease.Instant // in real time
	next lease.Instant // when the event that is on its way comes
	sent uint64        // the order of that event; another one is stale
}

func (w *world) newAlarm(run func()) *alarm {
	return &alarm{w: w, run: run, due: lease.Never, next: lease.Never}
}

// set moves the deadline; Never takes it away.
func (a *alarm) set(real lease.Instant) {
	if a.due = real; real < a.next {
		a.send(real)
	}
}

func (a *alarm) send(real lease.Instant) {
	a.next = lease.Later(real, a.w.now)
	a.sent = a.w.plans(real, a)
}

func (a *alarm) happen() {
	if a.sent != a.w.running {
		return
	}
	a.next = lease.Never
	switch {
	case a.due == lease.Never:
	case a.due > a.w.now:
		a.send(a.due)
	default:
		a.due = lease.Never
		a.run()
	}
}

// localAlarm is an alarm on a machine's own clock: it dies with the boot, and waits while the machine is paused.
type localAlarm struct {
	n     *node
	boot  int
	local lease.Instant
	alarm *alarm
}

func (n *node) newAlarm(run func()) *localAlarm {
	l := &localAlarm{n: n, boot: n.boots, local: lease.Never}
	l.alarm = n.w.newAlarm(func() {
		switch {
		case n.boots != l.boot || !n.alive || l.local == lease.Never:
		case n.paused():
			l.alarm.set(n.still)
		case n.now() < l.local:
			l.alarm.set(n.clock.real(l.local))
		default:
			l.local = lease.Never
			run()
		}
	})
	return l
}

// set moves the deadline; the alarm comes late by so much.
func (l *localAlarm) set(local lease.Instant, late lease.Instant) {
	if l.local = local; local == lease.Never {
		return
	}
	l.alarm.set(lease.Later(l.n.clock.real(local), l.n.w.now) + late)
}
