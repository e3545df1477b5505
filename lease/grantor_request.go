package lease

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// request judges who speaks and what they have seen, then goes to the verb. It may be called again for a request
// that was deferred.
func (g *Grantor) request(now Instant, r Request) {
	if why := malformed(r); why != "" {
		g.refuse(r, why)
		return
	}
	if _, ok := r.Body.(ResumeAsk); ok { // before all that writes: it changes nothing, whatever the state
		g.askResume(now, r.ID, r.Lease)
		return
	}
	// What is noticed while the disk is bad waits for it, and who holds goes on meanwhile.
	if g.cluster.Stamp.StoreID == "" || g.suspect && (!g.behind || g.mayWrite(now)) {
		g.enterRecovery(now, r)
		return
	}
	if body, ok := r.Body.(Switchover); ok {
		if l := g.leases[r.Lease]; l != nil {
			g.switchover(now, l, r.ID, body)
			return
		}
		g.refuse(r, "no such lease")
		return
	}
	party := partyOf(r.Body)
	if !r.heard && !g.hear(r.at, party) {
		g.refuse(r, fmt.Sprintf("the cluster has %d nodes already", maxNodes))
		return
	}
	r.heard = true
	n := g.nodes[party.Node]
	if n.superseded(party) && !g.isLateRelease(r) {
		g.reply(r.ID, Answer{Verdict: Superseded, Seq: seqOf(r.Body), Reason: "a newer agent of this boot speaks for this node"})
		return
	}
	l := g.leaseOf(r)
	if l == nil && r.Lease != "" {
		g.refuse(r, fmt.Sprintf("the cluster has %d leases already", maxLeases))
		return
	}
	if !g.judgeSeen(now, r, l) {
		return
	}
	if a := n.barred(party.BootID, seqOf(r.Body)); a != nil { // what it has seen and claims counts all the same
		g.reply(r.ID, *a)
		return
	}
	if g.mayBeBarred(party) { // the bar is being written: a renewal of a hold that ran out must not overtake it
		g.later(now, r)
		return
	}
	g.verb(now, r, l)
}

func (g *Grantor) verb(now Instant, r Request, l *grantLease) {
	switch body := r.Body.(type) {
	case Acquire:
		g.acquire(now, l, r, body)
	case Renew:
		g.renew(now, l, r, body)
	case Release:
		g.release(now, l, r, body)
	case Pause:
		g.pause(now, l, r, body)
	case Resume:
		g.resume(now, l, r, body)
	case Report:
		g.reply(r.ID, Answer{Verdict: OK, Seq: body.Seq})
	case Fence:
		g.fence(now, r, body)
	}
}

func (g *Grantor) refuse(r Request, why string) {
	a := Answer{Verdict: Refused, Seq: seqOf(r.Body), Reason: why}
	if l := g.leases[r.Lease]; l != nil {
		a.Epoch = l.rec.Epoch
	}
	g.reply(r.ID, a)
}

// leaseOf returns the lease of a request, made when first asked for; nil for a Report or Fence, or when there are too many.
func (g *Grantor) leaseOf(r Request) *grantLease {
	if r.Lease == "" {
		return nil
	}
	return g.leaseNamed(r.Lease)
}

func (g *Grantor) leaseNamed(name string) *grantLease {
	l := g.leases[name]
	if l == nil && len(g.leases) < maxLeases {
		l = &grantLease{name: name, rec: Record{Lease: name, State: RecordFree}}
		g.addLease(l)
	}
	return l
}

// malformed says what makes a request senseless in every state.
func malformed(r Request) string {
	switch body := r.Body.(type) {
	case Switchover:
		if body.To == "" || r.Lease == "" {
			return "a switchover names a lease and a target"
		}
		return ""
	case ResumeAsk:
		if r.Lease == "" {
			return "it names no lease"
		}
		return ""
	case Acquire, Renew, Release, Pause, Resume:
		if r.Lease == "" || seqOf(body) == 0 {
			return "a request names a lease and has a sequence number above 0"
		}
	case Fence:
		if body.Target == "" || body.Seq == 0 || r.Lease != "" {
			return "a fencing names a target, no lease, and has a sequence number above 0"
		}
	case Report:
	default:
		return fmt.Sprintf("unknown request %T", r.Body)
	}
	p := partyOf(r.Body)
	if p.Node == "" || p.BootID == "" || p.Instance.IsZero() {
		return "a request names its node, boot and instance"
	}
	for c := range r.claims {
		if why := c.malformed(); why != "" {
			return why
		}
	}
	return ""
}

func (c leaseClaim) malformed() string {
	if c.claim == nil {
		return ""
	}
	s := c.claim.State
	switch {
	case s != ClaimHeld && s != ClaimLeaving && s != ClaimPaused:
		return fmt.Sprintf("a claim cannot have the state %q", s)
	case c.claim.Epoch == 0:
		return "a claim has an epoch above 0"
	case c.claim.Hold < 0 || c.claim.Hold > maxDuration || c.claim.PauseFor < 0 || c.claim.PauseFor > maxDuration:
		return fmt.Sprintf("the durations of a claim must be 0 to %v", maxDuration)
	}
	return ""
}

// leaseClaim is what one request says about one lease.
type leaseClaim struct {
	lease string
	seen  Epoch
	claim *Claim
}

// claims lists what a request says about leases: what its node has seen, and what it claims to hold.
func (r *Request) claims(yield func(leaseClaim) bool) {
	switch b := r.Body.(type) {
	case Acquire:
		yield(leaseClaim{r.Lease, b.SeenEpoch, b.Claim})
	case Renew:
		c := b.Claim
		if c == nil {
			c = &Claim{Epoch: b.Epoch, State: ClaimHeld}
		}
		yield(leaseClaim{r.Lease, b.Epoch, c})
	case Release: // it gives back what it names, and so claims nothing
		yield(leaseClaim{r.Lease, b.Epoch, nil})
	case Pause:
		yield(leaseClaim{r.Lease, b.Epoch, &Claim{Epoch: b.Epoch, State: ClaimHeld}})
	case Resume: // paused until the resume is durable
		yield(leaseClaim{r.Lease, b.Epoch, &Claim{Epoch: b.Epoch, State: ClaimPaused}})
	case Report:
		for _, l := range b.Leases {
			if !yield(leaseClaim{l.Lease, l.SeenEpoch, l.Claim}) {
				return
			}
		}
	}
}

func partyOf(body any) Party {
	switch b := body.(type) {
	case Acquire:
		return b.Party
	case Renew:
		return b.Party
	case Release:
		return b.Party
	case Pause:
		return b.Party
	case Resume:
		return b.Party
	case Report:
		return b.Party
	case Fence:
		return b.Party
	}
	return Party{}
}

func seenOf(body any) Stamp {
	switch b := body.(type) {
	case Acquire:
		return b.Seen
	case Renew:
		return b.Seen
	case Release:
		return b.Seen
	case Pause:
		return b.Seen
	case Resume:
		return b.Seen
	case Report:
		return b.Seen
	case Fence:
		return b.Seen
	}
	return Stamp{}
}

func seqOf(body any) uint64 {
	switch b := body.(type) {
	case Acquire:
		return b.Seq
	case Renew:
		return b.Seq
	case Release:
		return b.Seq
	case Pause:
		return b.Seq
	case Resume:
		return b.Seq
	case Report:
		return b.Seq
	case Fence:
		return b.Seq
	}
	return 0
}

// isLateRelease reports whether r is a release by a successor, which names the recorded instance.
func (g *Grantor) isLateRelease(r Request) bool {
	b, ok := r.Body.(Release)
	l := g.leases[r.Lease]
	return ok && l != nil && l.rec.Holder == b.Party && l.rec.Epoch == b.Epoch
}

// grantNode is a node: its durable record and who spoke for it since this arbiter started.
type grantNode struct {
	rec    NodeRecord
	boots  []grantBoot // the one heard last is last
	beside string      // NodeRecord.Beside, when it is on disk
	since  Instant     // this arbiter listens
	twin   Instant     // two boots were alive: no new grant until then
}

// grantBoot is one boot of a node.
type grantBoot struct {
	id     string
	newest Instance // of the agents of this boot
	first  Instant  // heard
	last   Instant
	window time.Duration // L, as this boot last said it
}

// maxBoots of a node are remembered: more than a machine has while an arbiter runs. No machine boots more than quickBoots times
// within one L.
const (
	maxBoots   = 64
	quickBoots = 4
)

// defaultWindow stands for L of a node that has not told it: that of the slowest profile.
const defaultWindow = 20 * time.Second

// hear remembers who spoke at an instant, which lies back when the request had to wait. Two boots of one name that speak alternately
// are two machines. false: too many nodes.
func (g *Grantor) hear(at Instant, p Party) bool {
	n := g.nodes[p.Node]
	if n == nil {
		if len(g.nodes) >= maxNodes {
			return false
		}
		n = &grantNode{rec: NodeRecord{Node: p.Node}, since: g.started}
		g.addNode(n)
	}
	i := slices.IndexFunc(n.boots, func(b grantBoot) bool { return b.id == p.BootID })
	boot := grantBoot{id: p.BootID, newest: p.Instance, first: at, window: defaultWindow}
	if i >= 0 {
		boot = n.boots[i]
		if at < boot.last {
			return true // its sender has spoken since
		}
		if last := n.boots[len(n.boots)-1]; last.id != p.BootID && at.Sub(last.last) <= last.window {
			g.twins(n, last, p)
		}
		n.boots = slices.Delete(n.boots, i, i+1)
	}
	if boot.newest.Older(p.Instance) {
		boot.newest = p.Instance
		g.cancelPolls(p)
	}
	boot.last = at
	g.sideBySide(n, boot)
	n.boots = append(n.boots, boot)
	slices.SortStableFunc(n.boots, func(a, b grantBoot) int { return cmp.Compare(a.last, b.last) })
	if i := len(n.boots) - 1 - quickBoots; i >= 0 && at.Sub(n.boots[i].last) <= n.boots[i].window {
		g.twins(n, n.boots[i], p)
	}
	n.boots = n.boots[max(0, len(n.boots)-maxBoots):]
	return true
}

// mayFollow reports whether b may have booted after o ended. What was on its way comes late, but not so late.
func (b grantBoot) mayFollow(o grantBoot) bool { return o.last <= b.first.Add(RetryAfterFailure) }

// follows reports whether that is the only order that there can be.
func (b grantBoot) follows(o grantBoot) bool { return b.mayFollow(o) && !o.mayFollow(b) }

// twins is the alarm for two machines with one name, and takes back what a new boot has ended.
func (g *Grantor) twins(n *grantNode, other grantBoot, p Party) {
	now := g.at
	if now >= n.twin {
		g.note(NoteAlarm, nil, p.Node, "two boots of %s are alive at once (%s and %s): two machines with one name? "+
			"No new grant to either", p.Node, BootMark(other.id), BootMark(p.BootID))
	}
	n.twin = now.Add(max(other.window, defaultWindow))
	g.takeBack(p.Node)
}

// takeBack lets a pause go on that another machine of the holder's name was taken to have ended.
func (g *Grantor) takeBack(node string) {
	for _, l := range g.sorted() {
		if l.pauseOver && l.rec.Holder.Node == node {
			l.pauseOver, l.expired = false, false
			l.holdEnd = Never
			if hold, ends := l.rec.quarantine(g.opt.MaxHold); ends {
				l.holdEnd = g.at.Add(hold)
			}
		}
	}
}

// sideBySide remembers, on disk too, boots beside which this one spoke, so that neither has come after the other. They are
// machines of one name, and whose a further boot is cannot be told: from now on no boot proves anything of any of them.
func (g *Grantor) sideBySide(n *grantNode, boot grantBoot) {
	was, ids := n.beside, strings.Fields(n.beside)
	for _, o := range n.boots {
		if boot.mayFollow(o) || o.mayFollow(boot) || slices.Contains(ids, boot.id) && slices.Contains(ids, o.id) {
			continue
		}
		ids = slices.DeleteFunc(ids, func(id string) bool { return id == boot.id || id == o.id })
		ids = append(ids, o.id, boot.id)
		n.beside = strings.Join(ids[max(0, len(ids)-maxBoots):], " ")
	}
	if n.beside != was {
		g.takeBack(n.rec.Node)
		g.note(NoteAlarm, nil, n.rec.Node, "boot %s of %s has spoken beside another: neither ends a pause or a bar, and no later boot ends "+
			"theirs; leasedog-arbiter free and unbar do", BootMark(boot.id), n.rec.Node)
	}
}

// succeeds reports whether boot, which was heard, has come after old, a boot id or its mark. One that had spoken before old was last
// heard is another machine's, and proves nothing of old.
func (n *grantNode) succeeds(boot, old string) bool {
	is := func(id string) bool { return id == old || BootMark(id) == old }
	if slices.ContainsFunc(strings.Fields(n.beside), func(id string) bool { return id == boot || is(id) }) {
		return false
	}
	i := slices.IndexFunc(n.boots, func(b grantBoot) bool { return b.id == boot })
	j := slices.IndexFunc(n.boots, func(b grantBoot) bool { return is(b.id) })
	if i >= 0 && j < 0 { // what boot said may be a late word, if it was said before old spoke to the arbiter before this one
		return n.boots[i].last > n.since.Add(RetryAfterFailure)
	}
	return i >= 0 && n.boots[i].follows(n.boots[j])
}

// current is the boot that was heard last, if that was not a late word of one that another has followed. sure is false while it may
// still have been one: whoever is over does not speak again.
func (n *grantNode) current() (boot grantBoot, sure bool) {
	boot = n.boots[len(n.boots)-1]
	for _, o := range n.boots {
		if o.follows(boot) {
			boot = o
		}
	}
	if n.rec.BootID != "" && n.rec.BootID != boot.id && boot.last <= n.since.Add(RetryAfterFailure) && // the one on disk spoke before
		!slices.ContainsFunc(n.boots, func(o grantBoot) bool { return o.id == n.rec.BootID }) {
		return boot, false
	}
	return boot, !slices.ContainsFunc(n.boots, func(o grantBoot) bool {
		return o.id != boot.id && o.mayFollow(boot) && boot.mayFollow(o)
	})
}

// superseded reports whether a newer instance of p's boot has been heard.
func (n *grantNode) superseded(p Party) bool {
	return slices.ContainsFunc(n.boots, func(b grantBoot) bool { return b.id == p.BootID && p.Instance.Older(b.newest) })
}

// record is what of n belongs on disk.
func (n *grantNode) record() NodeRecord {
	r := n.rec
	if len(n.boots) > 0 {
		if boot, sure := n.current(); sure || r.BootID == "" {
			r.BootID = boot.id
		}
	}
	r.Beside = n.beside
	if r.BarredBoot != "" && r.BootID != r.BarredBoot && n.succeeds(r.BootID, r.BarredBoot) {
		r.BarredBoot, r.BarredOff = "", false // a new boot ends a bar
	}
	return r
}

// rememberBoots writes for themselves a new boot of a node, the end of a bar by it, and boots that were heard side by side; which of
// these was heard last, and a new node, along with whatever is written next. They are never waited for.
func (g *Grantor) rememberBoots() {
	if g.cluster.Stamp.StoreID == "" || g.suspect {
		return
	}
	for _, n := range g.byName {
		name := n.rec.Node
		if g.inflight != nil && slices.ContainsFunc(g.inflight.change.Nodes, func(o NodeRecord) bool { return o.Node == name }) {
			continue // a bar, or its end
		}
		r := n.record()
		anew := n.rec.BootID != "" && n.rec.BootID != r.BootID && !slices.Contains(strings.Fields(n.beside), r.BootID)
		must := anew || n.rec.BarredBoot != r.BarredBoot || n.rec.Beside != r.Beside
		if r != n.rec && g.canAdd() && (g.inflight != nil || must) {
			t := Transition{}
			if n.rec.BarredBoot != r.BarredBoot {
				t = Transition{Node: name, What: "unbarred", Cause: "the node has booted anew"}
			}
			g.writeNode(r, t)
		}
	}
}

// writeNode adds a node's record to the transaction.
func (g *Grantor) writeNode(r NodeRecord, t Transition) {
	c := g.cluster
	if g.inflight != nil {
		c = g.inflight.change.Cluster
	}
	g.write(c, grantOp{kind: opCluster}, t)
	x := g.inflight
	x.change.Nodes = append(slices.DeleteFunc(slices.Clone(x.change.Nodes), func(o NodeRecord) bool {
		return o.Node == r.Node
	}), r)
	g.refreshStore()
}
