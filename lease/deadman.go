package lease

import (
	"fmt"
	"time"
)

// Deadman decides for the guard: which leases are armed, whether the watchdog may be fed, when the node is reset
// and when the guard may end. It knows one thing only about a lease: the Instant after which this node must not
// run its resources any more. Several leases may be armed at once; the nearest deadline counts for all.
//
// What it guarantees: a feed is handed out only while now ≤ until of every armed lease; once any until has passed
// there is no way back from the reset; until never goes back except by an explicit shorten or a found pause of the
// machine; a message of an older instance or for another epoch changes nothing.
//
// It must not be used by two goroutines at once. The slice that Step returns is valid until the next Step: the
// guard's tick allocates nothing.
type Deadman struct {
	cfg        DeadmanConfig
	armed      []ArmedLease
	lastEpoch  []epochSeen
	newest     Instance // of every arm, shorten and disarm that was not refused as older
	jumps      []DeadmanJump
	clients    int
	timer      Instant // what the kill timer is set to; 0: not set
	terminate  bool
	closing    bool
	resetLease string
	resetCause string
	actions    []DeadmanAction
}

// DeadmanConfig is what a Deadman is made of.
type DeadmanConfig struct {
	Born       Instant       // when the guard started
	TimerSlack time.Duration // J: the kill timer stands this long after the nearest until, and never in the past
	// Stays makes the guard live on unarmed: its device cannot be stopped (nowayout), and an unfed one resets the
	// node. Only Terminate ends it then.
	Stays bool
}

// ArmedLease is one lease that is armed.
type ArmedLease struct {
	Lease    string
	Epoch    Epoch
	Instance Instance
	Sent     Instant // of the renewal that Until counts from
	Until    Instant // found jumps already taken off
}

type epochSeen struct {
	lease string
	epoch Epoch
}

const (
	// BirthGrace: a guard does not end by itself sooner after its start; the agent is on its way to arm it.
	BirthGrace = 5 * time.Second
	// maxArmed bounds the leases of one node.
	maxArmed = 64
	// maxJumps bounds the list of found pauses; the two oldest are merged, which takes off more, never less.
	maxJumps = 16
)

// DeadmanEvent is what may happen to a Deadman.
type DeadmanEvent interface{ deadmanEvent() }

// Events of a Deadman. Instants are raw CLOCK_BOOTTIME; nobody but the Deadman takes jumps off.
type (
	// DeadmanArm arms a lease, or extends it when it is armed with the same epoch. A newer instance with the same
	// epoch adopts. Sent is when the acknowledged renewal left, Until = Sent + F.
	DeadmanArm struct {
		Lease       string
		Epoch       Epoch
		Instance    Instance
		Sent, Until Instant
	}
	// DeadmanShorten brings the deadline of an armed lease nearer.
	DeadmanShorten struct {
		Lease       string
		Epoch       Epoch
		Instance    Instance
		Sent, Until Instant
	}
	// DeadmanDisarm ends the watch over a lease whose resources are proven stopped (or whose pause is durable).
	DeadmanDisarm struct {
		Lease    string
		Epoch    Epoch
		Instance Instance
	}
	// DeadmanTick comes at least once a feeding period.
	DeadmanTick struct{}
	// DeadmanJump is a pause of the machine, found between the samples at S1 and S2; Size is rounded up.
	DeadmanJump struct {
		S1, S2 Instant
		Size   time.Duration
	}
	// DeadmanClients tells how many connections are open now.
	DeadmanClients struct{ Open int }
	// DeadmanSocketClosed answers CloseSocket: nobody can connect any more, whoever was connected is dropped.
	DeadmanSocketClosed struct{}
	// DeadmanTerminate asks the guard to end (SIGTERM). While anything is armed it only is remembered.
	DeadmanTerminate struct{}
)

func (DeadmanArm) deadmanEvent()          {}
func (DeadmanShorten) deadmanEvent()      {}
func (DeadmanDisarm) deadmanEvent()       {}
func (DeadmanTick) deadmanEvent()         {}
func (DeadmanJump) deadmanEvent()         {}
func (DeadmanClients) deadmanEvent()      {}
func (DeadmanSocketClosed) deadmanEvent() {}
func (DeadmanTerminate) deadmanEvent()    {}

// DeadmanVerb says what an action does.
type DeadmanVerb uint8

// What the guard carries out. Everything else is decided here.
const (
	// DeadmanFeed: feed the device and systemd, unless the clock, read again, says more than At.
	DeadmanFeed DeadmanVerb = iota + 1
	// DeadmanReset: reset the node now, because of Lease, for the reason in Text. It is repeated at every event.
	DeadmanReset
	// DeadmanSetTimer: set the kill timer to the absolute Instant At.
	DeadmanSetTimer
	// DeadmanCancelTimer: nothing is armed any more.
	DeadmanCancelTimer
	// DeadmanAccept and DeadmanRefuse answer arm, shorten and disarm. At is the until in force (0: not armed),
	// Text why it was refused.
	DeadmanAccept
	DeadmanRefuse
	// DeadmanCloseSocket: stop listening, drop every connection unread, then report DeadmanSocketClosed.
	DeadmanCloseSocket
	// DeadmanExit: end with exit code 0.
	DeadmanExit
)

// DeadmanAction is one thing to do. Actions are carried out in their order.
type DeadmanAction struct {
	Do    DeadmanVerb
	At    Instant
	Lease string
	Text  string
}

// NewDeadman returns a Deadman with nothing armed.
func NewDeadman(cfg DeadmanConfig) *Deadman {
	return &Deadman{cfg: cfg, armed: make([]ArmedLease, 0, maxArmed), actions: make([]DeadmanAction, 0, 8)}
}

// Step tells what happened at now and returns what to do.
func (d *Deadman) Step(now Instant, event DeadmanEvent) []DeadmanAction {
	d.actions = d.actions[:0]
	d.checkDeadlines(now)
	switch e := event.(type) {
	case DeadmanArm:
		d.arm(now, e)
	case DeadmanShorten:
		d.shorten(now, e)
	case DeadmanDisarm:
		d.disarm(now, e)
	case DeadmanTick:
	case DeadmanJump:
		d.jump(now, e)
	case DeadmanClients:
		d.clients = e.Open
	case DeadmanSocketClosed:
		if d.closing && len(d.armed) == 0 && d.resetCause == "" {
			d.act(DeadmanAction{Do: DeadmanExit})
			return d.actions
		}
	case DeadmanTerminate:
		d.terminate = true
	default:
		panic(fmt.Sprintf("lease: Deadman got an unknown event %T", event))
	}
	if d.resetCause != "" {
		d.act(DeadmanAction{Do: DeadmanReset, Lease: d.resetLease, Text: d.resetCause})
		return d.actions
	}
	if _, tick := event.(DeadmanTick); tick {
		d.act(DeadmanAction{Do: DeadmanFeed, At: d.Nearest()})
	}
	d.mayEnd(now)
	return d.actions
}

// Next is by when Step must be called again at the latest: just after the nearest deadline, or when the guard may
// end. Never means that only a message can change anything.
func (d *Deadman) Next() Instant {
	switch {
	case len(d.armed) > 0:
		return d.Nearest().Add(1)
	case d.cfg.Stays || d.clients > 0:
		return Never
	}
	return d.cfg.Born.Add(BirthGrace)
}

// Nearest is the earliest until of all armed leases, Never if nothing is armed.
func (d *Deadman) Nearest() Instant {
	nearest := Never
	for i := range d.armed {
		nearest = Earlier(nearest, d.armed[i].Until)
	}
	return nearest
}

// Armed is how many leases are armed; Lease returns the i-th of them.
func (d *Deadman) Armed() int { return len(d.armed) }

// Lease returns the i-th armed lease, in no order that means anything.
func (d *Deadman) Lease(i int) ArmedLease { return d.armed[i] }

// Jumps returns a copy of the found pauses, the oldest first.
func (d *Deadman) Jumps() []DeadmanJump { return append([]DeadmanJump(nil), d.jumps...) }

// Older reports whether i is older than an instance that was heard: whoever speaks for it has been replaced.
func (d *Deadman) Older(i Instance) bool { return !d.newest.IsZero() && i.Older(d.newest) }

// Resetting reports whether a deadline has passed: nothing but the reset happens any more.
func (d *Deadman) Resetting() bool { return d.resetCause != "" }

func (d *Deadman) act(a DeadmanAction) { d.actions = append(d.actions, a) }

func (d *Deadman) refuse(lease, format string, args ...any) {
	a := DeadmanAction{Do: DeadmanRefuse, Lease: lease, Text: fmt.Sprintf(format, args...)}
	if i := d.find(lease); i >= 0 {
		a.At = d.armed[i].Until
	}
	d.act(a)
}

func (d *Deadman) find(lease string) int {
	for i := range d.armed {
		if d.armed[i].Lease == lease {
			return i
		}
	}
	return -1
}

// checkDeadlines runs before every event, so that no message can be quicker than a deadline that has passed.
func (d *Deadman) checkDeadlines(now Instant) {
	if d.resetCause != "" {
		return
	}
	for i := range d.armed {
		if now > d.armed[i].Until {
			d.becomeResetting(now, d.armed[i])
			return
		}
	}
}

// becomeResetting has no way back.
func (d *Deadman) becomeResetting(now Instant, a ArmedLease) {
	d.resetLease = a.Lease
	d.resetCause = fmt.Sprintf("lease %s epoch %d: not disarmed by %v (last acknowledged renewal was sent at %v, now %v)",
		a.Lease, a.Epoch, a.Until, a.Sent, now)
}

// admit is what arm, shorten and disarm have in common.
func (d *Deadman) admit(now Instant, lease string, epoch Epoch, who Instance) bool {
	switch {
	case d.resetCause != "":
		d.refuse(lease, "the node is being reset: %s", d.resetCause)
	case d.closing:
		d.refuse(lease, "the guard is ending")
	case lease == "":
		d.refuse(lease, "no lease is named")
	case epoch == 0 || epoch > MaxEpoch:
		d.refuse(lease, "epoch %d is outside 1..%d", epoch, MaxEpoch)
	case who.IsZero() || who.Start > now:
		d.refuse(lease, "instance %v has not started yet (now %v)", who, now)
	case d.Older(who):
		d.refuse(lease, "instance %v is older than %v", who, d.newest)
	default:
		d.newest = who
		return true
	}
	return false
}

func (d *Deadman) arm(now Instant, e DeadmanArm) {
	if !d.admit(now, e.Lease, e.Epoch, e.Instance) {
		return
	}
	if e.Sent <= 0 || e.Sent > now || e.Until <= e.Sent || e.Until == Never {
		d.refuse(e.Lease, "sent %v and until %v make no deadline (now %v)", e.Sent, e.Until, now)
		return
	}
	until := e.Until.Add(-d.paused(e.Sent))
	i := d.find(e.Lease)
	switch {
	case i >= 0 && d.armed[i].Epoch != e.Epoch:
		d.refuse(e.Lease, "epoch %d is armed, not %d: disarm it first", d.armed[i].Epoch, e.Epoch)
		return
	case i < 0 && e.Epoch < d.seen(e.Lease):
		d.refuse(e.Lease, "epoch %d is older than %d, which was armed before", e.Epoch, d.seen(e.Lease))
		return
	case i < 0 && until <= now:
		d.refuse(e.Lease, "too late: until %v has passed (now %v)", until, now)
		return
	case i < 0 && len(d.armed) == maxArmed:
		d.refuse(e.Lease, "%d leases are armed, which is the most", maxArmed)
		return
	case i < 0:
		d.armed = append(d.armed, ArmedLease{e.Lease, e.Epoch, e.Instance, e.Sent, until})
		d.remember(e.Lease, e.Epoch)
	default:
		d.armed[i].Instance = e.Instance
		// A renewal that left before the one that the deadline counts from says nothing new: an extension that was on
		// its way when the deadline was shortened must not undo that.
		if until > d.armed[i].Until && e.Sent >= d.armed[i].Sent {
			d.armed[i].Until, d.armed[i].Sent = until, e.Sent
		}
	}
	d.setTimer(now)
	d.act(DeadmanAction{Do: DeadmanAccept, Lease: e.Lease, At: d.armed[d.find(e.Lease)].Until})
}

func (d *Deadman) shorten(now Instant, e DeadmanShorten) {
	if !d.admit(now, e.Lease, e.Epoch, e.Instance) {
		return
	}
	i := d.find(e.Lease)
	until := e.Until.Add(-d.paused(e.Sent))
	switch {
	case i < 0 || d.armed[i].Epoch != e.Epoch:
		d.refuse(e.Lease, "epoch %d is not armed", e.Epoch)
	case e.Sent <= 0 || e.Sent > now || e.Until <= e.Sent:
		d.refuse(e.Lease, "sent %v and until %v make no deadline (now %v)", e.Sent, e.Until, now)
	case until > d.armed[i].Until:
		d.refuse(e.Lease, "until %v is later than %v: a shorten cannot lengthen", until, d.armed[i].Until)
	case until <= now:
		d.refuse(e.Lease, "too late: until %v has passed (now %v)", until, now)
	default:
		d.armed[i].Until, d.armed[i].Sent, d.armed[i].Instance = until, e.Sent, e.Instance
		d.setTimer(now)
		d.act(DeadmanAction{Do: DeadmanAccept, Lease: e.Lease, At: until})
	}
}

// disarm of a lease that is not armed is accepted: it states a fact, and a repeated disarm must not look like an
// error to the agent that missed the first answer.
func (d *Deadman) disarm(now Instant, e DeadmanDisarm) {
	if !d.admit(now, e.Lease, e.Epoch, e.Instance) {
		return
	}
	if i := d.find(e.Lease); i >= 0 {
		if d.armed[i].Epoch != e.Epoch {
			d.refuse(e.Lease, "epoch %d is armed, not %d", d.armed[i].Epoch, e.Epoch)
			return
		}
		d.armed = append(d.armed[:i], d.armed[i+1:]...)
		d.setTimer(now)
	}
	d.act(DeadmanAction{Do: DeadmanAccept, Lease: e.Lease})
}

// jump takes a pause off every armed until, and off every later arm whose renewal left before the second sample.
func (d *Deadman) jump(now Instant, e DeadmanJump) {
	if e.Size <= 0 || e.S2 <= e.S1 {
		return
	}
	if len(d.jumps) == maxJumps {
		a, b := d.jumps[0], d.jumps[1]
		d.jumps = append(d.jumps[:0], d.jumps[1:]...)
		d.jumps[0] = DeadmanJump{S1: a.S1, S2: Later(a.S2, b.S2), Size: a.Size + b.Size}
	}
	d.jumps = append(d.jumps, e)
	for i := range d.armed {
		d.armed[i].Until = d.armed[i].Until.Add(-e.Size)
	}
	if len(d.armed) > 0 {
		d.setTimer(now)
	}
	d.checkDeadlines(now)
}

// paused is how long the machine is known to have stood still since an Instant that lies before the find.
func (d *Deadman) paused(sent Instant) time.Duration {
	var sum time.Duration
	for _, j := range d.jumps {
		if sent < j.S2 {
			sum += j.Size
		}
	}
	return sum
}

// setTimer is called before the answer to an arm: an acknowledged arm has its kill timer. After a pause the nearest until may
// have passed long ago. A timer in the past would end this guard at once, before it could carry out the reset that it has
// to decide on now, and leave that to slower layers; so it stands J after now.
func (d *Deadman) setTimer(now Instant) {
	if len(d.armed) == 0 {
		d.timer = 0
		d.act(DeadmanAction{Do: DeadmanCancelTimer})
		return
	}
	if at := Later(d.Nearest(), now).Add(d.cfg.TimerSlack); at != d.timer {
		d.timer = at
		d.act(DeadmanAction{Do: DeadmanSetTimer, At: at})
	}
}

// mayEnd closes the socket when nothing is armed, nobody is connected and the guard is not just born. The exit
// comes one event later, so that an arm is either acknowledged before or never read.
func (d *Deadman) mayEnd(now Instant) {
	if len(d.armed) > 0 || d.closing {
		return
	}
	byItself := !d.cfg.Stays && d.clients == 0 && now >= d.cfg.Born.Add(BirthGrace)
	if d.terminate || byItself {
		d.closing = true
		d.act(DeadmanAction{Do: DeadmanCloseSocket})
	}
}

func (d *Deadman) seen(lease string) Epoch {
	for _, s := range d.lastEpoch {
		if s.lease == lease {
			return s.epoch
		}
	}
	return 0
}

// remember keeps the highest epoch of a lease; the guard lives no longer than a grant, so the list stays short.
func (d *Deadman) remember(lease string, epoch Epoch) {
	for i := range d.lastEpoch {
		if d.lastEpoch[i].lease == lease {
			d.lastEpoch[i].epoch = max(d.lastEpoch[i].epoch, epoch)
			return
		}
	}
	if len(d.lastEpoch) == 4*maxArmed {
		d.lastEpoch = append(d.lastEpoch[:0], d.lastEpoch[1:]...)
	}
	d.lastEpoch = append(d.lastEpoch, epochSeen{lease, epoch})
}
