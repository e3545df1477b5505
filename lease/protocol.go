package lease

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Epoch is the fencing token: one higher with every grant of a lease, never reused. Zero means none.
type Epoch uint64

// MaxEpoch bounds epochs, so that the Pacemaker rule (which closes the gate above it) can never be passed by a
// number that came from a corrupt file. MaxEpochLead is how far a node's seen epoch may lie ahead of the record.
const (
	MaxEpoch     Epoch  = 1_000_000_000_000_000
	MaxEpochLead Epoch  = 1 << 32
	MaxLead      uint64 = 1 << 32 // the same for a cluster's generation
)

// Instance names one start of one agent: when it started (on its own machine) and something random. In one boot
// the one with the later Start is the newer; Instances of two boots have no order.
type Instance struct {
	Start Instant
	Nonce uint64
}

// Older reports whether i started before j. Both must be of the same node and boot. The nonce breaks a tie, so
// that of two different instances exactly one is the older.
func (i Instance) Older(j Instance) bool {
	return cmp.Or(cmp.Compare(i.Start, j.Start), cmp.Compare(i.Nonce, j.Nonce)) < 0
}

// IsZero reports whether i is no instance at all.
func (i Instance) IsZero() bool { return i == Instance{} }

// String is the form on the wire and in files: start in nanoseconds, a dash, the nonce in hexadecimal.
func (i Instance) String() string { return fmt.Sprintf("%d-%016x", int64(i.Start), i.Nonce) }

// ParseInstance reads what String wrote; anything else is an error.
func ParseInstance(s string) (Instance, error) {
	start, nonce, ok := strings.Cut(s, "-")
	n, err1 := strconv.ParseInt(start, 10, 64)
	x, err2 := strconv.ParseUint(nonce, 16, 64)
	i := Instance{Start: Instant(n), Nonce: x}
	if !ok || err1 != nil || err2 != nil || n <= 0 || i.String() != s {
		return Instance{}, fmt.Errorf("parse instance %q: want START-NONCE", s)
	}
	return i, nil
}

// Party is who speaks: a node, the boot it is in, and the start of its agent.
type Party struct {
	Node     string
	BootID   string
	Instance Instance
}

// BootMark names a boot to whoever does not speak in it. The id itself is a secret between a node and its arbiter: without it
// nobody releases, renews or adopts what the node holds, not with the node's key either. So no answer, status or log has it.
func BootMark(id string) string {
	if id == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:8])
}

// SameBoot reports whether p and q are the same node in the same boot.
func (p Party) SameBoot(q Party) bool { return p.Node == q.Node && p.BootID == q.BootID }

// Stamp identifies what an arbiter knows about a cluster: the id of its store and the generation, which rises
// with every durable change. A Stamp in an answer is always one that is on disk.
type Stamp struct {
	StoreID    string
	Generation uint64
}

// ClaimState is what a node's /run says about a lease that it takes up again.
type ClaimState string

// The states that may be claimed. Everything else goes through losing and claims nothing.
const (
	ClaimHeld    ClaimState = "held"
	ClaimLeaving ClaimState = "leaving"
	ClaimPaused  ClaimState = "paused"
)

// Claim is what a node says that it holds: in an acquire it asks to adopt, in any request it is what recovery
// takes back as claimed.
type Claim struct {
	Epoch    Epoch
	State    ClaimState
	Hold     time.Duration // the hold of the grant, as the arbiter answered it
	PauseFor time.Duration // length of a pause with an end; 0: none, or endless
}

// Acquire asks for a lease, or (with a Claim) to go on with one. Wait > 0 makes it a long poll.
type Acquire struct {
	Party
	Seq        uint64
	Claim      *Claim
	SeenEpoch  Epoch // highest epoch of this lease that the node ever saw
	Seen       Stamp // highest stamp of this cluster that the node ever saw
	Terms      Terms // the node's side of the safety inequality
	Hold       time.Duration
	Wait       time.Duration // how long the arbiter may keep the answer; at most MaxWait
	Ready      bool          // the gates of this node are open now: it could run the resources at once
	LastResort bool          // stands back: grant only if the lease is free and nobody else waits
	Stopped    bool          // the guarded resources are proven stopped here: this boot holds nothing, nor pauses it
}

// MaxWait bounds a long poll.
const MaxWait = 5 * time.Second

// Renew restarts the hold of a held lease. A repeat of the last Seq is answered ok and extends nothing.
type Renew struct {
	Party
	Epoch Epoch
	Seq   uint64
	Seen  Stamp
	Claim *Claim // what /run says, for recovery
}

// Release gives a lease back. The node sends it only after its resources are proven stopped and its guard is
// disarmed.
type Release struct {
	Party
	Epoch Epoch
	Seq   uint64
	Seen  Stamp
}

// Pause turns a held lease into a paused one: For is its length, 0 means without an end.
type Pause struct {
	Party
	Epoch Epoch
	Seq   uint64
	Seen  Stamp
	For   time.Duration
	Terms Terms
}

// Resume ends a pause. Only the holder's own agent sends it, after a renewal was acknowledged and the guard is
// armed and acknowledged.
type Resume struct {
	Party
	Epoch Epoch
	Seq   uint64
	Seen  Stamp
}

// Switchover asks the holder of Epoch to leave for node To. It comes from an administrator, through any node's
// agent or at the arbiter. Epoch 0 means the epoch of now.
type Switchover struct {
	Epoch Epoch
	To    string
}

// ResumeAsk asks the holder to end its pause. Any node of the cluster may pass it on. It changes nothing by itself: the
// holder hears of it with its next renewal (Answer.ResumeAsk), and only the holder can end a pause.
type ResumeAsk struct{}

// Fence asks that Target, in the boot in which it was heard last, never runs a guarded resource again. OK means that this
// is certain, and durable; Denied that it is not yet: ask again, with Answer.Boot as Boot.
type Fence struct {
	Party
	Seq     uint64
	Seen    Stamp
	Target  string
	Off     bool   // it is to power down, not to boot anew
	Guarded bool   // the asker vouches that a lease guards every resource of the cluster: who holds nothing runs nothing
	Boot    string // the BootMark that an answer to this very fencing has named; "" in the first request
	Check   bool   // change nothing, only say how the target stands: OK is barred, Denied is not
}

// Verdict is the arbiter's answer in one word.
type Verdict string

// Verdicts. Only Lost, from an authenticated arbiter, for the same epoch and instance, ever shortens a held lease.
const (
	OK          Verdict = "ok"          // renewed, released, paused, resumed, adopted, switchover noted
	Granted     Verdict = "granted"     // acquire: a new epoch, and no time until the first renewal
	Adopted     Verdict = "adopted"     // acquire: the same epoch goes on under this instance
	Denied      Verdict = "denied"      // acquire: not now; Answer says who holds, for how long at most, and why
	Lost        Verdict = "lost"        // another epoch was granted, or this one was released
	Superseded  Verdict = "superseded"  // a newer instance of the same boot speaks for this node
	Unsafe      Verdict = "unsafe"      // acquire: the budgets do not satisfy the inequality; Reason has the numbers
	Barred      Verdict = "barred"      // this boot of this node is barred; only a new boot ends that
	Recovery    Verdict = "recovery"    // the cluster's record is being rebuilt from the nodes' claims
	Unavailable Verdict = "unavailable" // cannot be decided now (write error, change being written): ask again
	Refused     Verdict = "refused"     // the request makes no sense: stale sequence number, absurd epoch, bad target
)

// Waiter is a node that waits for a lease.
type Waiter struct {
	Node       string
	Ready      bool
	LastResort bool
}

// Answer is what every request of a node is answered with. Stamp is the last committed one of the cluster.
// With Verdict Recovery, Echo repeats the Seen of the very request that is answered, which allows the node to
// take over a new store id.
type Answer struct {
	Verdict    Verdict
	Epoch      Epoch         // of the lease now (Granted, Adopted, OK: the asker's own)
	Seq        uint64        // of the request
	Hold       time.Duration // of the grant
	Stamp      Stamp
	Echo       *Stamp
	Reason     string        // in words, for an administrator
	Holder     string        // who holds (or may), if not the asker; "" if free or unknown
	FreeIn     time.Duration // Denied: longest time until the hold ends if nobody renews; 0 unknown or endless
	Waiters    []Waiter      // who else waits
	MoveTo     string        // a switchover of this epoch is asked for
	ResumeAsk  bool          // an administrator asks the holder to end its pause
	Paused     bool          // the record says paused
	BarredBoot bool          // the asker's boot is barred
	Off        bool          // Barred: it is to power down, not to boot anew
	Boot       string        // Fence: BootMark of the target
	Quiet      time.Duration // Fence: how long the target was not heard; below 0: not since this arbiter started
	Elapsed    time.Duration // the arbiter's clock since the first renewal of this epoch, to audit drift
	Clock      ClockReading  // the same in every answer, and for who holds nothing; its server's, not the Grantor's
}

// ClockReading is what the arbiter's clock showed when a request came and when its answer left, counted from a start that ID
// names. Only the difference of two readings with one ID means anything.
type ClockReading struct {
	ID      string // "": not told
	In, Out time.Duration
}
