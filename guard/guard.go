package guard

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/leasedog/leasedog/agent/cause"
	"github.com/leasedog/leasedog/guard/guardapi"
	"github.com/leasedog/leasedog/lease"
	"github.com/leasedog/leasedog/systemd"
)

// guard carries out what Deadman decides. Only the loop's goroutine touches it; tests call its methods directly.
type guard struct {
	now    func() lease.Instant
	dead   *lease.Deadman
	timer  killTimer // nil: could not be made, c = 2
	dog    *watchdog // nil in mode systemd
	notify *systemd.Notifier
	last   *resetter
	reset  func(text string)
	scribe *scribe
	logf   func(format string, args ...any)

	base     guardapi.Status
	unusable string // why nothing may be armed although the guard has to stay
	rtcSeen  func() bool
	slack    time.Duration

	watches []watch
	agent   *client // the connection that speaks for the agent
	clients map[*client]struct{}
	closer  func() // stops listening and drops everybody

	everArmed bool // an arm was at least tried
	said      bool // the last words
	feedError bool
	noTimer   error // why the kill timer does not stand
	feedDue   lease.Instant
	closeDue  bool
	done      bool
}

// step hands one event to Deadman and carries out the actions. It returns the answer to a request.
func (g *guard) step(event lease.DeadmanEvent) (answer lease.DeadmanAction) {
	for _, a := range g.dead.Step(g.now(), event) {
		switch a.Do {
		case lease.DeadmanFeed:
			g.feed(a.At)
		case lease.DeadmanReset:
			g.becomeReset(a.Text)
		case lease.DeadmanSetTimer:
			g.setTimer(a.At)
		case lease.DeadmanCancelTimer:
			g.cancelTimer()
		case lease.DeadmanAccept, lease.DeadmanRefuse:
			answer = a
		case lease.DeadmanCloseSocket:
			g.closeDue = true // after the reply to the request that led here
		case lease.DeadmanExit:
			g.done = true
		}
	}
	return answer
}

// closeIfDue comes after every event, when its reply has been handed over.
func (g *guard) closeIfDue() {
	if g.closeDue {
		g.closeDue = false
		g.closer()
		g.step(lease.DeadmanSocketClosed{})
	}
}

// feed reads the clock once more: between the decision and here this thread may have stood still. What remains
// between this reading and the ioctl is what the kill timer is for.
func (g *guard) feed(notAfter lease.Instant) {
	if g.now() > notAfter {
		return
	}
	if g.dog != nil {
		if err := g.dog.dev.Keepalive(); err != nil && !g.feedError {
			g.feedError = true
			g.logf("feed %s: %v", g.dog.path, err)
		}
	}
	_ = g.notify.Watchdog()
}

func (g *guard) setTimer(at lease.Instant) {
	if g.timer == nil {
		return
	}
	g.noTimer = g.timer.Set(at)
}

func (g *guard) cancelTimer() {
	if g.timer == nil {
		return
	}
	if err := g.timer.Cancel(); err != nil {
		g.logf("%v", err)
	}
	g.noTimer = nil
}

// becomeReset has no way back; it is called again at every event for as long as this process lives.
func (g *guard) becomeReset(text string) {
	if !g.said {
		g.said = true
		g.last.say(text)
	}
	g.reset(text)
}

// handle answers one request of a connection.
func (g *guard) handle(c *client, req guardapi.Request) guardapi.Reply {
	if c.dropped {
		return guardapi.Reply{Code: guardapi.CodeReplaced, Message: "a newer connection speaks for the agent"}
	}
	var event lease.DeadmanEvent
	who, err := lease.ParseInstance(req.Instance)
	switch req.Op {
	case guardapi.OpStatus:
		return g.reply(guardapi.Reply{OK: true})
	case guardapi.OpArm:
		event = lease.DeadmanArm{Lease: req.Lease, Epoch: req.Epoch, Instance: who, Sent: req.Sent, Until: req.Until}
	case guardapi.OpShorten:
		event = lease.DeadmanShorten{Lease: req.Lease, Epoch: req.Epoch, Instance: who, Sent: req.Sent, Until: req.Until}
	case guardapi.OpDisarm:
		event = lease.DeadmanDisarm{Lease: req.Lease, Epoch: req.Epoch, Instance: who}
	case guardapi.OpNote:
	default:
		return g.reply(guardapi.Reply{Code: guardapi.CodeBad, Message: fmt.Sprintf("unknown request %q", req.Op)})
	}
	if err != nil {
		return g.reply(guardapi.Reply{Code: guardapi.CodeBad, Message: err.Error()})
	}
	if g.dead.Older(who) {
		return g.reply(guardapi.Reply{Code: guardapi.CodeRefused,
			Message: fmt.Sprintf("instance %v has been replaced by a newer one", who)})
	}
	if req.Op == guardapi.OpNote {
		g.note(req)
		return g.reply(guardapi.Reply{OK: true})
	}
	g.takeAgentsPlace(c)
	g.everArmed = g.everArmed || req.Op == guardapi.OpArm
	if req.Op == guardapi.OpArm && g.unusable != "" {
		return g.reply(guardapi.Reply{Code: guardapi.CodeRefused, Message: g.unusable})
	}
	return g.reply(g.decide(req, event))
}

func (g *guard) decide(req guardapi.Request, event lease.DeadmanEvent) guardapi.Reply {
	answer := g.step(event)
	r := guardapi.Reply{OK: answer.Do == lease.DeadmanAccept, Message: answer.Text, Until: answer.At}
	switch {
	case !r.OK:
		r.Code = guardapi.CodeRefused
		return r
	case req.Op == guardapi.OpDisarm:
		g.closeWatch(req.Lease)
		return r
	case g.noTimer != nil:
		return guardapi.Reply{Code: guardapi.CodeNoTimer, Message: g.noTimer.Error(), Until: answer.At}
	}
	if req.Op == guardapi.OpArm {
		g.openWatch(req)
		g.prepareLastWords(req)
	}
	return r
}

// takeAgentsPlace drops the connection that spoke for the agent before; what it wrote and was not read is lost, so
// that a late disarm of a dead agent cannot follow the arm of its successor.
func (g *guard) takeAgentsPlace(c *client) {
	if g.agent != nil && g.agent != c {
		g.agent.drop()
	}
	g.agent = c
}

func (g *guard) prepareLastWords(req guardapi.Request) {
	if req.DyingTo == "" {
		return
	}
	g.last.bye = []byte(req.DyingText)
	if g.last.dying != nil && g.last.dying.RemoteAddr().String() == req.DyingTo {
		return
	}
	to, err := netip.ParseAddrPort(req.DyingTo)
	if err != nil {
		g.logf("address of the last datagram: %v", err)
		return
	}
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		g.logf("address of the last datagram: %v", err)
		return
	}
	if g.last.dying != nil {
		g.last.dying.Close()
	}
	g.last.dying = conn
}

// connected and gone keep account of who could still send an arm.
func (g *guard) connected(c *client) {
	g.clients[c] = struct{}{}
	g.step(lease.DeadmanClients{Open: len(g.clients)})
}

func (g *guard) gone(c *client) {
	delete(g.clients, c)
	if g.agent == c {
		g.agent = nil
	}
	g.step(lease.DeadmanClients{Open: len(g.clients)})
}

func (g *guard) reply(r guardapi.Reply) guardapi.Reply {
	r.Status = g.status()
	return r
}

func (g *guard) status() guardapi.Status {
	s := g.base
	s.Now = g.now()
	s.PauseProtection = "none"
	if g.rtcSeen != nil && g.rtcSeen() {
		s.PauseProtection = "rtc"
	}
	for i := range g.dead.Armed() {
		a := g.dead.Lease(i)
		s.Armed = append(s.Armed, guardapi.Armed{Lease: a.Lease, Epoch: a.Epoch, Instance: a.Instance.String(),
			Sent: a.Sent, Until: a.Until})
	}
	for _, j := range g.dead.Jumps() {
		s.Jumps = append(s.Jumps, guardapi.Jump{S1: j.S1, S2: j.S2, Size: j.Size})
	}
	if lost := g.scribe.lost.Load(); lost > 0 {
		s.Warnings = append(s.Warnings[:len(s.Warnings):len(s.Warnings)],
			fmt.Sprintf("%d cause records could not be written: %s", lost, g.scribe.problem()))
	}
	if g.dead.Resetting() {
		s.Resetting = "a deadline has passed"
	}
	return s
}

// describe is the status line that systemctl shows.
func (g *guard) describe() string {
	if g.dead.Armed() == 0 {
		if g.unusable != "" {
			return "cannot be armed: " + g.unusable
		}
		return "nothing is armed"
	}
	var names []string
	for i := range g.dead.Armed() {
		a := g.dead.Lease(i)
		names = append(names, fmt.Sprintf("%s epoch %d", a.Lease, a.Epoch))
	}
	return "armed: " + strings.Join(names, ", ")
}

// watch is what is kept beside Deadman about an armed lease: how its cause record stands.
type watch struct {
	record cause.Record
	budget time.Duration // S
	stage  cause.Stage
	until  lease.Instant // that the record was written for
}

// imminentBefore is how long before the deadline the guard leaves its sign of life in the record.
const imminentBefore = 300 * time.Millisecond

func (g *guard) openWatch(req guardapi.Request) {
	for i := range g.watches {
		if w := &g.watches[i]; w.record.Lease == req.Lease {
			w.budget = req.StopBudget
			return
		}
	}
	w := watch{budget: req.StopBudget, stage: cause.Armed, until: req.Until, record: cause.Record{Lease: req.Lease,
		Epoch: uint64(req.Epoch), BootID: g.base.BootID, By: "guard", Slack: g.slack.String()}}
	g.watches = append(g.watches, w)
	g.record(&g.watches[len(g.watches)-1], cause.Armed, req.Until)
}

func (g *guard) closeWatch(name string) {
	for i := range g.watches {
		w := &g.watches[i]
		if w.record.Lease != name {
			continue
		}
		end := cause.Closed
		if w.stage != cause.Armed {
			end = cause.Averted
		}
		g.record(w, end, w.until)
		g.watches = append(g.watches[:i], g.watches[i+1:]...)
		return
	}
}

func (g *guard) note(req guardapi.Request) {
	for i := range g.watches {
		w := &g.watches[i]
		if w.record.Lease == req.Lease && w.record.Epoch == uint64(req.Epoch) {
			w.record.Because = req.Because
			if req.State == "losing" && w.stage == cause.Armed {
				g.record(w, cause.Announced, w.until)
			}
		}
	}
}

// mark writes the records ahead, and returns when it wants to be called again. It allocates only when something is
// to be written.
func (g *guard) mark(now lease.Instant) lease.Instant {
	next := lease.Never
	for i := range g.watches {
		w := &g.watches[i]
		until := g.untilOf(w.record.Lease)
		if until == 0 {
			continue
		}
		announce := until.Add(-w.budget)
		imminent := until.Add(-min(imminentBefore, w.budget/2))
		if until > w.until && w.stage != cause.Armed && now < announce {
			w.record.Because = ""
			g.record(w, cause.Armed, until)
		}
		w.until = until
		switch {
		case w.stage != cause.Imminent && now >= imminent:
			g.record(w, cause.Imminent, until)
		case w.stage == cause.Armed && now >= announce:
			if w.record.Because == "" {
				w.record.Because = "no renewal of the lease was acknowledged in time"
			}
			g.record(w, cause.Announced, until)
		}
		if w.stage == cause.Armed {
			next = lease.Earlier(next, announce)
		} else if w.stage == cause.Announced {
			next = lease.Earlier(next, imminent)
		}
	}
	return next
}

func (g *guard) untilOf(name string) lease.Instant {
	for i := range g.dead.Armed() {
		if a := g.dead.Lease(i); a.Lease == name {
			return a.Until
		}
	}
	return 0
}

func (g *guard) record(w *watch, stage cause.Stage, until lease.Instant) {
	w.stage, w.until = stage, until
	w.record.Stage = stage
	w.record.Written = time.Now()
	w.record.Due = w.record.Written.Add(until.Sub(g.now()))
	g.scribe.put(w.record)
}

// lastRecords bounds how long the end waits for the disk.
const lastRecords = 500 * time.Millisecond

// end comes when nothing is armed and nobody can connect. The watchdogs are put to rest first: nobody feeds them
// while the last records are written. A device that cannot be stopped is left with a long timeout.
func (g *guard) end() error {
	errs := []error{g.notify.WatchdogTimeout(guardapi.RequiredWatchdog)}
	if g.dog != nil {
		errs = append(errs, g.dog.end())
	}
	if g.timer != nil {
		errs = append(errs, g.timer.Delete())
	}
	g.scribe.close(lastRecords)
	return errors.Join(errs...)
}

func kernelBootID(root string) string {
	text, err := os.ReadFile(root + "/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}
