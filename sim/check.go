package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/leasedog/leasedog/lease"
)

// The invariants. Instants are real time or one host's own; nobody's belief counts.
//
//	I1   at no instant two machines run what one lease guards
//	I2   nobody is granted a lease while another machine may run what it guards
//	I3   epochs rise, whatever is lost, restored or restarted
//	I4   the watchdog is not fed for a lease that was not renewed for F and is not proven stopped; no gate opens unguarded
//	I5   what was lost, or is being left, is not held again with the same epoch
//	I6   an answer says only what is on disk
//	I7   who releases or disarms has stopped: gate closed, nothing runs (or the pause is durable)
//	I8   a renewal extends to Sent + L and the guard to Sent + F, never further
//	I9   when the faults have ended, every lease is soon held and runs
//	I10  nobody loses a lease, or is reset, that was renewed in time; a world without faults does not move
//	I11  while a restarted arbiter knows nothing of renewals nobody is granted what was held
//	I12  of two machines with one name at most one holds a lease
type checks struct {
	won        map[string]lease.Epoch // the highest epoch that anybody won
	paused     map[pauseKey]bool      // of which a pause was ever on disk
	written    map[lease.Stamp]bool   // every stamp that ever was on disk
	granted    map[string]lease.Epoch // the highest epoch that was ever granted, or claimed, on disk
	freed      map[string]lease.Epoch // and the highest that was ever free
	ill        lease.Instant          // until then renewals may be lost by what happened before
	numbers    map[string]lease.Renew // the newest renewal that was taken, by lease
	quarantine map[string]quarantined // what the arbiter that runs found held when it started
	ended      map[string]lease.Instant
	down       map[string]lease.Instant
	because    map[string]lease.Instant // and when the fault before it began
	struck     lease.Instant            // when the newest fault of a user's world began
}

type pauseKey struct {
	lease string
	epoch lease.Epoch
}

type quarantined struct {
	epoch lease.Epoch
	until lease.Instant // on the arbiter's clock
}

func (c *checks) begin() {
	*c = checks{won: map[string]lease.Epoch{}, paused: map[pauseKey]bool{},
		written: map[lease.Stamp]bool{{}: true}, granted: map[string]lease.Epoch{}, freed: map[string]lease.Epoch{},
		numbers: map[string]lease.Renew{}, quarantine: map[string]quarantined{},
		ended: map[string]lease.Instant{}, down: map[string]lease.Instant{},
		because: map[string]lease.Instant{}}
}

func (w *world) violate(invariant, format string, args ...any) {
	if len(w.bad) > 0 {
		return
	}
	v := Violation{Invariant: invariant, At: time.Duration(w.now), Text: fmt.Sprintf(format, args...)}
	w.bad = append(w.bad, v)
	w.log("VIOLATION of %s", v)
}

// counts: a machine that stands still runs nothing, and that a paused one cannot wake up late is not promised. Neither is what
// a new boot proves about the old one if it is another machine's: a paused lease ends by it unless the arbiter hears both.
func (n *node) counts() bool { return n.alive && n.w.now >= n.excused && !n.copied() }

// copied: another machine with this one's name has spoken, this one has a paused lease and was not heard for longer than it
// is silent in a pause. When it is heard again, its lease may be another's.
func (n *node) copied() bool {
	return n.twin && (n.usurped || n.w.now.Sub(n.heard) > lease.RetryAfterFailure+n.budget.RequestTimeout) &&
		slices.ContainsFunc(n.agent.keepers, func(k *keeper) bool { return k.phase == lease.Paused || k.phase == lease.Resuming })
}

// isHeard: an arbiter that listens hears from it.
func (n *node) isHeard() {
	n.usurped = n.copied()
	n.heard = n.w.now
}

// checkOverlap is the promise: whenever something begins to run, or begins to count.
func (w *world) checkOverlap() {
	for _, l := range w.leases {
		on := 0
		for _, n := range w.nodes {
			if n.counts() && n.res[l].runs {
				on++
			}
		}
		if on > 1 {
			w.violate("I1", "%s may run on two machines", l)
		}
	}
}

// checkEnter judges a change of phase, with the cause that the Holder gives.
func (w *world) checkEnter(k *keeper, from lease.Phase, act lease.Enter) {
	n, r := k.a.n, k.a.n.res[k.name]
	switch {
	case act.Phase == lease.Held:
		w.checkHeld(k, from, act)
	case act.Phase == lease.Losing && (from == lease.Held || from == lease.Leaving) && strings.HasPrefix(act.Cause, "not renewed"):
		v := k.h.View()
		if (v.ResetAt == lease.Never || v.ResetAt.Add(-v.Budget.StopBudget) > n.now()) && k.acked.Add(v.Budget.LossAfter) > n.now() {
			w.violate("I10", "%s loses %s although a renewal sent at %v is acknowledged", n.name, k.name, k.acked)
		}
		if from == lease.Held && r.runs {
			w.stats.FalseStops++
		}
	case act.Phase == lease.Losing && strings.HasPrefix(act.Cause, "the arbiter says lost") && w.arbiter != nil && !w.check.over(k.name, act.Epoch):
		w.violate("I10", "%s loses %s, although epoch %d was neither followed nor given back", n.name, k.name, act.Epoch)
	}
	if w.round.settled != 0 && act.Phase != lease.Standby && act.Phase != lease.Acquiring {
		w.violate("I10", "%s: %s flaps: %s (%s)", n.name, k.name, act.Phase, act.Cause)
	}
}

func (w *world) checkHeld(k *keeper, from lease.Phase, act lease.Enter) {
	n := k.a.n
	if from == lease.Winning && n.counts() {
		if won := w.check.won[k.name]; act.Epoch <= won {
			w.violate("I3", "%s wins epoch %d of %s, after %d was won", n.name, act.Epoch, k.name, won)
		}
		w.check.won[k.name] = act.Epoch
	}
	if lost := n.res[k.name].lost; act.Epoch <= lost {
		w.violate("I5", "%s holds epoch %d of %s again, after it was lost or left", n.name, act.Epoch, k.name)
	}
	for _, o := range w.nodes {
		if o == n || o.name != n.name || !o.counts() || o.agent.dead || !n.counts() {
			continue
		}
		if p := o.agent.keeper(k.name).phase; p == lease.Held || p == lease.Paused || p == lease.Resuming {
			w.violate("I12", "two machines hold %s as %s", k.name, n.name)
		}
	}
}

// checkRun notes what /run says from now on about a loss.
func (w *world) checkRun(n *node, r lease.RunRecord) {
	switch r.State {
	case lease.RunLosing, lease.RunReleased, lease.RunLeaving:
		n.res[r.Lease].lost = max(n.res[r.Lease].lost, r.Epoch)
	}
}

func (w *world) checkSend(k *keeper, s lease.Send) {
	r := k.a.n.res[k.name]
	if _, release := s.Body.(lease.Release); release && (r.runs || r.attr != 0) {
		w.violate("I7", "%s releases %s, which is not stopped", k.a.n.name, k.name)
	}
}

func (w *world) checkDisarm(k *keeper, e lease.Epoch) {
	r := k.a.n.res[k.name]
	if (r.runs || r.attr != 0) && !(k.phase == lease.Paused && w.check.paused[pauseKey{k.name, e}]) {
		w.violate("I7", "%s disarms %s in %s, which is not stopped", k.a.n.name, k.name, k.phase)
	}
}

// acknowledged counts what the arbiter has acknowledged, before the Holder hears of it. late: it came when the lease had
// been lost.
func (k *keeper) acknowledged(s lease.Send, ans lease.Answer) {
	now := k.a.n.now()
	r := k.a.n.res[k.name]
	switch s.Body.(type) {
	case lease.Renew:
	case lease.Pause: // restarts the hold as a renewal does
		if ans.Verdict == lease.OK && now <= s.Deadline {
			r.acked = lease.Later(r.acked, s.Sent)
		}
		return
	default:
		return
	}
	if ans.Verdict != lease.OK || now > s.Deadline {
		return
	}
	r.acked = lease.Later(r.acked, s.Sent)
	if now < k.h.View().LoseAt {
		k.acked = lease.Later(k.acked, s.Sent)
	}
}

// jumped takes a found pause off what the world counts, as it is taken off every deadline.
func (w *world) jumped(k *keeper, j lease.DeadmanJump) {
	if k.acked < j.S2 {
		k.acked = k.acked.Add(-j.Size)
	}
}

// checkAnswered judges how far the Holder counts after an answer.
func (w *world) checkAnswered(k *keeper) {
	switch v := k.h.View(); v.Phase {
	case lease.Winning, lease.Held, lease.Leaving, lease.Resuming:
		if r := k.a.n.res[k.name]; v.Sent > r.acked {
			w.violate("I8", "%s counts %s from %v, the newest renewal that is acknowledged left at %v", k.a.n.name, k.name, v.Sent, r.acked)
		}
	}
}

func (w *world) checkArm(k *keeper, act lease.Arm) {
	switch k.phase {
	case lease.Winning, lease.Held, lease.Leaving:
		if end := k.a.n.res[k.name].acked.Add(act.Budget.HardDeadline()); act.Until > end {
			w.violate("I8", "%s arms %s until %v, which is after %v", k.a.n.name, k.name, act.Until, end)
		}
	}
}

// checkGate judges a gate that opens.
func (w *world) checkGate(n *node, name string, e lease.Epoch) {
	k := n.agent.keeper(name)
	if n.agent.dead || k.phase != lease.Winning && k.phase != lease.Held {
		return
	}
	for i := 0; n.guard != nil && i < n.guard.d.Armed(); i++ {
		if l := n.guard.d.Lease(i); l.Lease == name && l.Epoch == e {
			return
		}
	}
	w.violate("I4", "the gate of %s opens on %s, and no guard is armed for epoch %d", name, n.name, e)
}

// checkFeed judges a feed that is about to be done.
func (w *world) checkFeed(n *node) {
	for _, l := range w.leases {
		r, run := n.res[l], n.run[l]
		held := run.State == lease.RunHeld || run.State == lease.RunLeaving || run.State == lease.RunLosing
		if held && r.attr == run.Epoch && r.runs && r.acked != 0 && n.now() > r.acked.Add(run.Budget.HardDeadline()) {
			w.violate("I4", "%s feeds its watchdog at %v, and %s was renewed at %v last", n.name, n.now(), l, r.acked)
		}
	}
}

// over: a higher epoch was granted once, or this one was free once.
func (c *checks) over(name string, e lease.Epoch) bool {
	return c.granted[name] > e || c.freed[name] >= e
}

// checkReset: a node with a working agent that renews in time is never reset; and no node is where nothing but its own stops
// is ill. In a user's world the network and the stops may be as bad as they are said to be.
func (w *world) checkReset(n *node, act lease.DeadmanAction) {
	if w.direct == nil && !w.steady() && w.now > w.check.ill && w.now > w.round.healed && w.now.Sub(n.disturb) > 2*w.budget.HardDeadline() {
		w.violate("I10", "%s is reset for %s, although every renewal can come through", n.name, act.Lease)
	}
	k := n.agent.keeper(act.Lease)
	if k == nil || n.agent.dead || n.agent.stopped || w.now.Sub(n.disturb) <= 2*w.budget.HardDeadline() {
		return
	}
	if k.phase == lease.Held || k.phase == lease.Leaving {
		w.violate("I10", "%s is reset for %s, which is %s and renewed", n.name, k.name, k.phase)
	}
}

func (w *world) checkDeath(n *node, why string) {
	if w.round.settled != 0 {
		w.violate("I10", "%s dies in a world without faults: %s", n.name, why)
	}
}

// checkArbiterStart notes what a starting arbiter finds held.
func (w *world) checkArbiterStart(a *arbiter) {
	clear(w.check.quarantine)
	w.check.written[a.disk.Cluster.Stamp] = true
	for _, r := range a.disk.Leases {
		if r.State == lease.RecordFree {
			w.check.freed[r.Lease] = max(w.check.freed[r.Lease], r.Epoch)
		}
		if r.State == lease.RecordHeld && !a.disk.Suspect && !a.disk.Cluster.Recovery {
			hold := r.Hold
			if hold == 0 {
				hold = w.maxHold
			}
			w.check.quarantine[r.Lease] = quarantined{r.Epoch, a.now().Add(hold)}
		}
	}
}

// checkReply judges an answer against the disk.
func (w *world) checkReply(a *arbiter, to caller, ans lease.Answer) {
	if ans.Stamp != a.disk.Cluster.Stamp && !w.check.written[ans.Stamp] {
		w.violate("I6", "an answer says %v, on disk is %v", ans.Stamp, a.disk.Cluster.Stamp)
	}
	rec := recordIn(a.disk, to.name)
	if (ans.Verdict == lease.Granted || ans.Verdict == lease.Adopted) && rec.Epoch < ans.Epoch {
		w.violate("I6", "epoch %d of %s is answered %s, on disk is %d", ans.Epoch, to.name, ans.Verdict, rec.Epoch)
	}
	if _, pauses := to.body.(lease.Pause); pauses && ans.Verdict == lease.OK && rec.Epoch == ans.Epoch && rec.State != lease.RecordPaused {
		w.violate("I6", "a pause of %s is acknowledged, on disk it is %s", to.name, rec.State)
	}
	b, renews := to.body.(lease.Renew)
	if renews = renews && ans.Verdict == lease.OK; renews {
		if last := w.check.numbers[to.name]; b.Party != last.Party || b.Epoch != last.Epoch || b.Seq > last.Seq {
			w.check.numbers[to.name] = b
		}
	}
	if renews || ans.Verdict == lease.Adopted {
		delete(w.check.quarantine, to.name)
	}
}

// checkChange judges a change that is about to be on disk.
func (w *world) checkChange(a *arbiter, c lease.Change) {
	w.check.written[c.Cluster.Stamp] = true
	for _, r := range c.Leases {
		w.check.granted[r.Lease] = max(w.check.granted[r.Lease], r.Epoch)
		if r.State == lease.RecordFree {
			w.check.freed[r.Lease] = max(w.check.freed[r.Lease], r.Epoch)
		}
		if r.State == lease.RecordPaused {
			w.check.paused[pauseKey{r.Lease, r.Epoch}] = true
		}
	}
	if c.Cluster.Recovery {
		clear(w.check.quarantine)
	}
	for _, t := range c.History {
		if t.What != "granted" {
			continue
		}
		for _, r := range c.Leases {
			if r.Lease == t.Lease {
				w.checkGrant(r)
				w.checkQuarantine(a, recordIn(a.disk, r.Lease), r)
			}
		}
	}
}

func (w *world) checkQuarantine(a *arbiter, old, r lease.Record) {
	q, ok := w.check.quarantine[r.Lease]
	if ok && old.Epoch == q.epoch && old.State == lease.RecordHeld && a.now() < q.until {
		w.violate("I11", "epoch %d of %s is granted to %s, in quarantine until %v", r.Epoch, r.Lease, r.Holder.Node, q.until)
	}
}

// checkSwap judges a change in a store of several arbiters.
func (w *world) checkSwap(old, r lease.Record) {
	if r.Epoch != old.Epoch {
		w.checkGrant(r)
	}
}

func (w *world) checkGrant(r lease.Record) {
	w.stats.Grants++
	if won := w.check.won[r.Lease]; r.Epoch <= won {
		w.violate("I3", "epoch %d of %s is granted, after %d was won", r.Epoch, r.Lease, won)
	}
	running := false
	for _, n := range w.nodes {
		if n.alive && n.res[r.Lease].runs {
			running = true
			if n.counts() && n.agent.self.BootID != r.Holder.BootID {
				w.violate("I2", "%s is granted %s, which %s may run", r.Holder.Node, r.Lease, n.name)
			}
		}
	}
	if end, ok := w.check.ended[r.Lease]; ok && !running {
		margin := w.now.Sub(end)
		if w.stats.Margins++; w.stats.Margins == 1 || margin < w.stats.WorstMargin {
			w.stats.WorstMargin = margin
		}
	}
}

// ended, served and unserved keep the statistics.
func (w *world) ended(_ *node, name string) { w.check.ended[name] = w.now }

func (w *world) serving(name string) bool {
	for _, n := range w.nodes {
		if n.alive && n.res[name].serves {
			return true
		}
	}
	return false
}

func (w *world) served(name string) {
	if since, ok := w.check.down[name]; ok {
		w.stats.Failover = append(w.stats.Failover, w.now.Sub(since))
		w.stats.Since = append(w.stats.Since, w.now.Sub(w.check.because[name]))
		delete(w.check.down, name)
	}
}

func (w *world) unserved(name string) {
	if _, ok := w.check.down[name]; !ok && !w.serving(name) {
		w.check.down[name], w.check.because[name] = w.now, w.check.struck
	}
}

// unrest says why the world is not at rest.
func (w *world) unrest() string {
	var out []string
	for _, n := range w.nodes {
		switch {
		case n.clone:
		case !n.alive || n.agent.dead:
			out = append(out, n.name+" is off, or its agent is")
		default:
			for _, k := range n.agent.keepers {
				out = append(out, fmt.Sprintf("%s: %s is %s (%v)", n.name, k.name, k.phase, k.h.View().WhyNot))
			}
		}
	}
	return strings.Join(out, "; ")
}

// checkRepeat does f, which gives the arbiter a request. A renewal with a number that is not above the last one that was
// taken extends nothing. One that was refused, since a release was being written, say, takes no number.
func (w *world) checkRepeat(a *arbiter, name string, body any, f func()) {
	b, ok := body.(lease.Renew)
	last := w.check.numbers[name]
	if !ok || b.Party != last.Party || b.Epoch != last.Epoch || b.Seq > last.Seq {
		f()
		return
	}
	before, known := a.endsIn(name)
	f()
	if after, still := a.endsIn(name); known && still && after > before {
		w.violate("I8", "a renewal of %s with the number %d, after %d, extends its hold by %v", name, b.Seq, last.Seq, after-before)
	}
}

func (a *arbiter) endsIn(name string) (time.Duration, bool) {
	for _, l := range a.g.View(a.now()).Leases {
		if l.Lease == name && l.State == string(lease.RecordHeld) {
			return l.EndsIn, true
		}
	}
	return 0, false
}
