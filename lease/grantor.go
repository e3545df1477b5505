package lease

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Limits of one cluster. They bound memory against a node that goes wild, nothing else.
const (
	maxLeases   = 64
	maxNodes    = 16
	maxDeferred = 1024
	maxFormer   = 32
)

// Grantor is the arbiter's side of one cluster: every lease, node and waiter of it. Its state is what is committed
// on disk, at most one transaction that is being written, and what an arbiter may forget (renewals, waiters,
// expiry), which a restart replaces by quarantine. One goroutine owns it.
//
// Step is total: any event in any state. Every Reply says only what is on disk.
type Grantor struct {
	opt     GrantorOptions
	cluster ClusterRecord
	suspect bool // the first thing to do is to enter recovery under a new id
	behind  bool // suspect, since a node was heard that has seen more than this record
	leases  map[string]*grantLease
	inOrder []*grantLease // the same, by name; replaced and never changed when one is added
	nodes   map[string]*grantNode
	byName  []*grantNode // the same, by name

	lastGen  uint64 // the highest generation that was ever sent to the store, written or not
	txn      uint64
	inflight *grantTxn
	deferred []Request // requests that need a write, while another one is under way
	broken   bool      // the last write failed: no new grant until one succeeds
	retryAt  Instant   // when the next write may be tried

	started      Instant // since when this process listens
	recoveryFrom Instant // since when this process waits for claims
	freshNodes   map[string]bool
	at           Instant // of the last Step
	acts         []GrantorAction
}

// grantLease is one lease: its committed record and what is known of it since this arbiter started.
type grantLease struct {
	name       string
	rec        Record
	writing    bool           // a change of rec is under way
	holdEnd    Instant        // nobody else is granted before; 0: no hold
	lapseAt    Instant        // a grant that waits for its first renewal until then; 0: renewed, or none
	lapsed     bool           // that wait is over: the grant is void
	expired    bool           // the hold is over, decided after draining
	quarantine bool           // nothing is known of renewals yet, since this arbiter started
	pauseOver  bool           // the holder's node has shown that its pause is over, by a new boot or standing by
	lastSeq    uint64         // of the holder's instance
	lastRenew  bool           // lastSeq was a renewal's, so that its repeat may be answered ok
	first      Instant        // receipt of the first renewal of this epoch
	freeSince  Instant        // since when it can be had
	move       grantMove      // a switchover
	pausedAt   Instant        // since when this arbiter knows of the pause
	longPause  bool           // the alarm about the pause was given
	resumeAsk  bool           // an administrator asked the holder to end this very pause
	floor      Epoch          // recovery: the highest epoch that any node has seen
	skip       Epoch          // recovery: Record.Floor as an operator's recover makes it
	blocks     []grantBlock   // recovery: claims that could not be taken back are waited out
	denied     Instant        // recovery: the hold of a holder that was heard, and whose epoch a claim says is over
	reported   []string       // recovery: nodes that have reported on this lease under the new id
	waiters    []*grantWaiter // sorted by node
}

// grantMove is a switchover: for one epoch, to one node, not for ever.
type grantMove struct {
	epoch Epoch
	to    string
	until Instant
}

// grantTxn is one transaction that is being written.
type grantTxn struct {
	id     uint64
	change Change
	ops    []grantOp
}

type grantOpKind int

const (
	opCluster grantOpKind = iota // no lease: recovery, boot ids, bars, the probe after a write error
	opGrant
	opAdopt
	opFree // released, or freed by an operator
	opPause
	opResume
	opClaim
	opFloor // nothing but the floor: whatever is known of renewals stays
)

// grantOp is one part of a transaction: what happens in memory when it is on disk, and who is answered then.
type grantOp struct {
	kind    grantOpKind
	rec     Record
	hold    Instant // opClaim: the end of the hold, counted from the receipt
	regrant bool    // opGrant: to the boot that holds already
	ids     []RequestID
	answer  Answer
}

// NewGrantor returns the Grantor of a cluster as it was loaded at now. Every held lease starts in quarantine. It
// panics if an option is missing, which is a programming error.
func NewGrantor(opt GrantorOptions, snap Snapshot, now Instant) *Grantor {
	if opt.Cluster == "" || opt.NewStoreID == nil || opt.MinHold <= 0 || opt.MaxHold < opt.MinHold ||
		opt.MaxPause <= 0 || opt.Grace < 0 || opt.DriftPPM < 0 || opt.RetryWrite <= 0 {
		panic(fmt.Sprintf("lease: NewGrantor: bad options %+v", opt))
	}
	g := &Grantor{
		opt: opt, cluster: snap.Cluster, leases: map[string]*grantLease{}, nodes: map[string]*grantNode{},
		suspect: snap.Suspect, started: now, recoveryFrom: now, freshNodes: map[string]bool{},
	}
	g.lastGen = snap.Cluster.Stamp.Generation
	for _, r := range snap.Leases {
		l := &grantLease{name: r.Lease, rec: r, lastSeq: r.Seq, freeSince: now, pausedAt: now}
		if r.State != RecordFree {
			l.quarantine = true
			l.holdEnd = Never
			if hold, ends := r.quarantine(opt.MaxHold); ends {
				l.holdEnd = now.Add(hold)
			}
		}
		g.addLease(l)
	}
	for _, n := range snap.Nodes {
		g.addNode(&grantNode{rec: n, beside: n.Beside, since: now})
	}
	return g
}

// Step takes one event at now and returns what is to be done, in order.
func (g *Grantor) Step(now Instant, ev GrantorEvent) []GrantorAction {
	g.acts, g.at = nil, now
	switch ev := ev.(type) {
	case Request:
		ev.at = now
		g.request(now, ev)
	case Gone:
		g.gone(ev.ID)
	case Drained:
		g.decide(now)
	case Stored:
		g.stored(now, ev)
	case GrantorTick:
	case OperatorRecover:
		g.operatorRecover(now, ev)
	case OperatorFree:
		g.operatorFree(now, ev)
	case OperatorBar:
		g.operatorBar(now, ev)
	case OperatorUnbar:
		g.operatorUnbar(now, ev)
	case OperatorResume:
		g.askResume(now, ev.ID, ev.Lease)
	default:
		panic(fmt.Sprintf("lease: Grantor.Step: unknown event %T", ev))
	}
	g.settle(now)
	return g.acts
}

// Next returns when Step must be called again at the latest: with Drained, after every request that has arrived by
// then was given to Step. Never: only when something happens.
func (g *Grantor) Next() Instant {
	next := Never
	if g.mustProbe() {
		next = Earlier(next, g.retryAt)
	}
	for _, l := range g.sorted() {
		if l.rec.State != RecordFree && !l.writing {
			if !l.expired && l.holdEnd != 0 {
				next = Earlier(next, l.holdEnd)
			}
			if l.lapseAt != 0 && !l.lapsed {
				next = Earlier(next, l.lapseAt)
			}
			if l.endless() && !l.longPause {
				next = Earlier(next, l.pausedAt.Add(longPause))
			}
		}
		for _, w := range l.waiters {
			next = Earlier(next, g.nextOfWaiter(l, w))
		}
	}
	if g.cluster.Recovery && g.inflight == nil {
		next = Earlier(next, g.nextOfRecovery())
	}
	return next
}

// settle does what follows from any event: end a recovery, grant what is free, end polls, write.
func (g *Grantor) settle(now Instant) {
	if g.canAdd() && g.mayWrite(now) {
		g.probe()
		g.endRecovery(now)
		g.grantFree(now)
		g.rememberBoots()
	}
	g.endPolls(now)
}

// mayWrite reports whether a write may be tried: not while the disk is known to be bad.
func (g *Grantor) mayWrite(now Instant) bool { return !g.broken || now >= g.retryAt }

// mustProbe reports whether the store is to be tried again without being asked. Not before a recovery that has to
// begin: that is what must be written then.
func (g *Grantor) mustProbe() bool {
	return g.broken && g.inflight == nil && g.cluster.Stamp.StoreID != "" && !g.suspect
}

// probe writes everything again after a write error: what the failed write left on disk is not known.
func (g *Grantor) probe() {
	if g.mustProbe() {
		g.write(g.cluster, grantOp{kind: opCluster}, Transition{})
	}
}

// write starts a transaction, or adds op to the one that this Step has just begun. cluster is the cluster record
// to write; its generation is set here. The caller has checked that nothing is outstanding.
func (g *Grantor) write(cluster ClusterRecord, op grantOp, t Transition) {
	if g.inflight != nil && !g.fresh(g.inflight) {
		panic("lease: Grantor: a second transaction while one is outstanding")
	}
	if g.inflight == nil {
		g.txn++
		g.lastGen = max(g.lastGen, cluster.Stamp.Generation) + 1
		g.inflight = &grantTxn{id: g.txn}
		g.acts = append(g.acts, StoreChange{Txn: g.txn})
		if g.broken { // the state on disk is unknown: write all of it
			for _, name := range slices.Sorted(maps.Keys(g.leases)) {
				if l := g.leases[name]; l.rec.Epoch > 0 {
					g.inflight.change.Leases = append(g.inflight.change.Leases, l.rec)
				}
			}
			for _, n := range g.byName {
				g.inflight.change.Nodes = append(g.inflight.change.Nodes, n.record())
			}
		}
	}
	x := g.inflight
	cluster.Stamp.Generation = g.lastGen
	x.change.Cluster = cluster
	x.ops = append(x.ops, op)
	if op.kind != opCluster {
		g.leases[op.rec.Lease].writing = op.kind != opFloor
		x.change.Leases = append(slices.DeleteFunc(slices.Clone(x.change.Leases), func(r Record) bool {
			return r.Lease == op.rec.Lease
		}), op.rec)
	}
	if t.What != "" {
		x.change.History = append(slices.Clone(x.change.History), t)
	}
	g.refreshStore()
}

// fresh reports whether x was begun in this very Step, so that it may still grow.
func (g *Grantor) fresh(x *grantTxn) bool {
	return slices.ContainsFunc(g.acts, func(a GrantorAction) bool {
		s, ok := a.(StoreChange)
		return ok && s.Txn == x.id
	})
}

// canAdd reports whether a change may be written now: nothing is outstanding, or this Step has just begun it.
func (g *Grantor) canAdd() bool { return g.inflight == nil || g.fresh(g.inflight) }

// refreshStore puts the grown transaction into this Step's action.
func (g *Grantor) refreshStore() {
	for i, a := range g.acts {
		if s, ok := a.(StoreChange); ok && s.Txn == g.inflight.id {
			g.acts[i] = StoreChange{Txn: s.Txn, Change: g.inflight.change}
		}
	}
}

// stored is the end of a transaction.
func (g *Grantor) stored(now Instant, ev Stored) {
	x := g.inflight
	if x == nil || x.id != ev.Txn {
		g.note(NoteAlarm, nil, "", "the store answered for transaction %d, which is not outstanding", ev.Txn)
		return
	}
	g.inflight = nil
	if ev.Err != nil {
		g.writeFailed(now, x, ev.Err)
		return
	}
	if g.broken {
		g.broken = false
		g.note(NoteWarn, nil, "", "writes succeed again: new grants are possible")
	}
	g.commitCluster(now, x.change.Cluster)
	for _, n := range x.change.Nodes {
		g.nodes[n.Node].rec = n
	}
	g.dismissBarred()
	for _, op := range x.ops {
		if op.kind != opCluster {
			g.commitLease(now, op)
		}
		for _, id := range op.ids {
			g.reply(id, op.answer)
		}
	}
	for _, t := range x.change.History {
		level := NoteInfo
		if t.What == whatRecovery && !x.change.Cluster.Fresh {
			level = NoteAlarm
		}
		g.acts = append(g.acts, GrantorNote{Level: level, Lease: t.Lease, Epoch: t.Epoch, Node: t.Node,
			Text: t.What + ": " + t.Cause})
	}
	queue := g.deferred
	g.deferred = nil
	for _, r := range queue {
		g.request(now, r)
	}
}

// writeFailed forgets the transaction: nothing of it counts. What it left on disk is not known; a restart would
// find the old or the new record and quarantines either.
func (g *Grantor) writeFailed(now Instant, x *grantTxn, err error) {
	if !g.broken {
		g.note(NoteAlarm, nil, "", "write error: no new grants until a write succeeds; renewals go on: %v", err)
	}
	g.broken, g.retryAt = true, now.Add(g.opt.RetryWrite)
	if x.change.Cluster.Recovery && !g.cluster.Recovery {
		g.doubt()
	}
	for _, op := range x.ops {
		if op.kind != opCluster {
			g.leases[op.rec.Lease].writing = false
		}
		for _, id := range op.ids {
			g.reply(id, Answer{Verdict: Unavailable, Seq: op.answer.Seq, Reason: "the arbiter cannot write its store"})
		}
	}
	queue := g.deferred
	g.deferred = nil
	for _, r := range queue {
		g.request(now, r)
	}
}

// later keeps a request until the outstanding transaction is done, or answers that it cannot be decided now.
func (g *Grantor) later(now Instant, r Request) {
	if g.inflight == nil || len(g.deferred) >= maxDeferred {
		g.unavailable(r, "the arbiter cannot write its store now")
		return
	}
	g.deferred = append(g.deferred, r)
}

func (g *Grantor) unavailable(r Request, why string) {
	g.reply(r.ID, Answer{Verdict: Unavailable, Seq: seqOf(r.Body), Reason: why})
}

// gone forgets who does not wait any more.
func (g *Grantor) gone(id RequestID) {
	g.deferred = slices.DeleteFunc(g.deferred, func(r Request) bool { return r.ID == id })
	if g.inflight != nil {
		for i := range g.inflight.ops {
			g.inflight.ops[i].ids = without(g.inflight.ops[i].ids, id)
		}
	}
	for _, l := range g.leases {
		for _, w := range l.waiters {
			w.ids = without(w.ids, id)
		}
	}
}

func without(ids []RequestID, id RequestID) []RequestID {
	return slices.DeleteFunc(slices.Clone(ids), func(x RequestID) bool { return x == id })
}

// reply answers a request, always with the last committed stamp.
func (g *Grantor) reply(id RequestID, a Answer) {
	a.Stamp = g.cluster.Stamp
	g.acts = append(g.acts, Reply{ID: id, Answer: a})
}

func (g *Grantor) note(level NoteLevel, l *grantLease, node, format string, args ...any) {
	n := GrantorNote{Level: level, Node: node, Text: fmt.Sprintf(format, args...)}
	if l != nil {
		n.Lease, n.Epoch = l.name, l.rec.Epoch
	}
	g.acts = append(g.acts, n)
}

// sorted returns the leases in the order of their names.
func (g *Grantor) sorted() []*grantLease { return g.inOrder }

func (g *Grantor) addLease(l *grantLease) {
	g.leases[l.name] = l
	g.inOrder = append(slices.Clone(g.inOrder), l)
	slices.SortFunc(g.inOrder, func(a, b *grantLease) int { return cmp.Compare(a.name, b.name) })
}

func (g *Grantor) addNode(n *grantNode) {
	g.nodes[n.rec.Node] = n
	g.byName = append(g.byName, n)
	slices.SortFunc(g.byName, func(a, b *grantNode) int { return cmp.Compare(a.rec.Node, b.rec.Node) })
}

// withDrift takes the larger bound of the two clocks.
func (g *Grantor) withDrift(t Terms) Terms {
	t.DriftPPM = max(t.DriftPPM, g.opt.DriftPPM)
	return t
}

// left is how long until at; 0 when it is past or does not come.
func left(now, at Instant) time.Duration {
	if at == Never || at <= now {
		return 0
	}
	return at.Sub(now)
}
