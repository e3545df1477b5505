package lease

import (
	"fmt"
	"time"
)

// Phase is where a node stands with one lease.
type Phase string

// The phases, one way: standby → acquiring → winning → held → (leaving →) losing → stopped → standby. Nothing turns
// leaving or losing back to held. paused and resuming hang on held.
const (
	Standby   Phase = "standby"   // holds nothing; the attribute's absence is asserted
	Acquiring Phase = "acquiring" // an acquire is under way; no time yet
	Winning   Phase = "winning"   // has an epoch; not everything that must stand before the attribute stands
	Held      Phase = "held"      // the attribute is set, the guard is armed
	Leaving   Phase = "leaving"   // a planned loss: renewals go on, Pacemaker stops in order
	Losing    Phase = "losing"    // nothing is renewed; the stop ladder runs against the guard's deadline
	Stopped   Phase = "stopped"   // proven stopped: /run, disarm, release
	Paused    Phase = "paused"    // resources run without a deadline (or with a far one); the peer is denied
	Resuming  Phase = "resuming"  // on the way from paused to held
)

// AcquireMode says when a node competes.
type AcquireMode string

// Modes: always when its gates are open, only after an administrator's acquire, only when something asks.
const (
	AcquireAuto     AcquireMode = "auto"
	AcquireManual   AcquireMode = "manual"
	AcquireOnDemand AcquireMode = "on-demand"
)

// HolderOptions configure one Holder. Budget is what the next grant is asked for with; a held lease keeps the one
// that it was granted with.
type HolderOptions struct {
	Lease        string
	Self         Party
	Budget       Budget
	Mode         AcquireMode
	GiveUpAfter  time.Duration // 0: never gives up for a failed resource
	LeaveTimeout time.Duration // how long Pacemaker's own ordered stop is waited for in leaving
	Defers       bool          // another node is preferred: it gets a head start when this one has just started
}

// Tri is a reading that may be unknown. The zero value is unknown, which is the unsafe case.
type Tri int

// Readings.
const (
	Unknown Tri = iota
	No
	Yes
)

// RunState is what /run says about a lease.
type RunState string

// RunState values. Only held, leaving and paused are ever taken up again; everything else goes through losing.
const (
	RunHeld     RunState = "held"
	RunLeaving  RunState = "leaving"
	RunPaused   RunState = "paused"
	RunLosing   RunState = "losing"
	RunReleased RunState = "released"
	RunNone     RunState = "none" // the record is to be removed
)

// RunRecord is what a successor of this agent in the same boot must know. It lives in /run, raw and unshifted.
type RunRecord struct {
	Lease    string
	State    RunState
	Party    Party // who holds at the arbiter: a successor releases with this instance
	Epoch    Epoch
	Hold     time.Duration
	PauseFor time.Duration
	// Maintenance: the pause began with Pacemaker's maintenance and ends with it.
	Maintenance bool
	Sent        Instant // of the newest acknowledged renewal when this was written (the guard knows a newer one)
	Budget      Budget  // of the grant
}

// GuardState is what a running guard shows as armed for this lease.
type GuardState struct {
	Epoch    Epoch
	Sent     Instant
	Until    Instant
	Watchdog time.Duration // W as the guard has read it back from the device; 0: not known
}

// Events. Every Holder takes every event in every phase.
type (
	// Found is the first event: what an earlier agent left behind, and whether a guarded resource is active here.
	Found struct {
		Record *RunRecord
		Guard  *GuardState
		Active Tri
		// Watched is what the guard shows as armed for resources that an earlier agent found active without a lease.
		Watched *GuardState
		// Unguarded: no rule of Pacemaker depends on the lease (read now).
		Unguarded bool
	}
	// Tick only lets time be looked at.
	Tick struct{}
	// Answered brings the arbiter's authenticated answer to the request with this Seq.
	Answered struct {
		Seq    uint64
		Answer Answer
	}
	// Failed reports that the request with this Seq got no usable answer.
	Failed struct {
		Seq uint64
		Err string
	}
	// Reading is what a poll of this node found. It counts until FreshUntil.
	Reading struct {
		WhyNot    []string // why this node may not compete; empty with Proven Yes: it may
		Fit       bool     // nothing speaks against this node but the rules of the resources, and that they run
		Proven    Tri      // the guarded resources are proven stopped here
		Running   Tri      // the guarded resources run here as they should
		CannotRun string   // why Pacemaker cannot run a guarded resource here; "" if it can
		// CannotSince is when that began, as far as is known; 0: it is first seen now. Planned: an administrator wants it
		// so (standby, a ban, a stop of Pacemaker): it is not waited for, and this node does not stand back afterwards.
		CannotSince Instant
		Planned     bool
		// Maintenance: Pacemaker leaves every guarded resource here alone (maintenance mode of the cluster or the node,
		// or all of them unmanaged).
		Maintenance Tri
		FreshUntil  Instant
	}
	// KnownSaved answers SaveKnown with Wait.
	KnownSaved struct {
		Epoch Epoch
		Err   string
	}
	// RunWritten answers WriteRun.
	RunWritten struct {
		State RunState
		Epoch Epoch
		Err   string
	}
	// GuardStarted answers StartGuard.
	GuardStarted struct {
		Epoch Epoch
		Err   string
	}
	// Armed answers Arm, and repeats its Sent. Watchdog is the timeout that the guard reads back from its device (W).
	Armed struct {
		Epoch    Epoch
		Sent     Instant
		Until    Instant
		Watchdog time.Duration
		Err      string
	}
	// Disarmed answers Disarm.
	Disarmed struct {
		Epoch Epoch
		Err   string
	}
	// Watched answers Watch, Unwatched answers Unwatch.
	Watched struct {
		Until Instant
		Err   string
	}
	Unwatched struct{ Err string }
	// GateOpened answers OpenGate: the attribute was read back with this epoch.
	GateOpened struct{ Epoch Epoch }
	// Proven reports that the ladder numbered Ladder has proven the resources stopped, with the gate closed before
	// and after.
	Proven struct{ Ladder int }
	// LeaveAsked begins a planned loss. Retire: compete no more until asked (release, stop of the agent).
	// Unguarded: no rule of Pacemaker depends on the lease any more (read now), so that there is nothing to stop or prove.
	LeaveAsked struct {
		Cause     string
		Retire    bool
		Unguarded bool
	}
	// AcquireAsked ends a retirement and lets a manual or on-demand lease compete.
	AcquireAsked struct{}
	// PauseAsked and ResumeAsked come from an administrator or from maintenance mode. For 0 is without an end.
	PauseAsked  struct{ For time.Duration }
	ResumeAsked struct{}
	// Jumped reports a machine pause found between two samples of which the later was at Until: Size is taken off
	// every deadline that counts from a Sent before it.
	Jumped struct {
		Until Instant
		Size  time.Duration
	}
)

// Actions are values; the driver carries them out in their order and answers with events.
type (
	// Send sends a request: Body is one of Acquire, Renew, Release, Pause, Resume. Sent was read before; an answer
	// after Deadline is worthless.
	Send struct {
		Seq      uint64
		Sent     Instant
		Deadline Instant
		Body     any
	}
	// SaveKnown puts Known on disk. With Wait the lease is not won before KnownSaved; without, it is written
	// behind, never in the way of a renewal.
	SaveKnown struct {
		Known Known
		Epoch Epoch
		Wait  bool
	}
	// WriteRun replaces the record in /run (State none: removes it) and answers RunWritten.
	WriteRun struct{ Record RunRecord }
	// StartGuard starts the guard's unit and awaits its job.
	StartGuard struct{ Epoch Epoch }
	// Arm arms or extends the guard. Shorten allows Until to go back.
	Arm struct {
		Epoch       Epoch
		Sent, Until Instant
		Budget      Budget
		Shorten     bool
	}
	// Disarm ends the guard's watch over this lease.
	Disarm struct{ Epoch Epoch }
	// Watch starts the guard and arms it, under a name of its own, for resources that were found active while this node
	// has no lease: they are stopped, or the node is reset. Unwatch disarms that.
	Watch   struct{ Sent, Until Instant }
	Unwatch struct{}
	// OpenGate sets the attribute to the epoch and reads it back.
	OpenGate struct{ Epoch Epoch }
	// CloseGate takes the attribute away and keeps asserting its absence.
	CloseGate struct{}
	// Stop runs the stop ladder. Orderly: Pacemaker's own stop is waited for until Orderly passes, renewals go on.
	// From and Until bound the forced ladder; Until Never: no reset will come.
	Stop struct {
		Ladder      int
		Orderly     Instant
		From, Until Instant
	}
	// Enter reports a change of phase: one line in the log.
	Enter struct {
		Phase Phase
		Epoch Epoch
		Cause string
	}
	// Note is a line for the log that changes no phase. Alarm: a human must act.
	Note struct {
		Alarm bool
		Text  string
	}
	// Retire tells the agent to end itself: a newer instance speaks for this node.
	Retire struct{ Cause string }
	// Fenced says that this node is barred and is to reset itself, or to power down (Off), unless it holds another lease.
	Fenced struct {
		Off   bool
		Cause string
	}
)

type (
	kind    int
	step    int
	pending struct {
		kind     kind
		seq      uint64
		sent     Instant
		deadline Instant
		seen     Stamp
		seenEp   Epoch
		proxy    bool // in the name of an earlier agent of this boot
	}
)

const (
	kindAcquire kind = iota
	kindAdopt
	kindRenew
	kindRelease
	kindPause
	kindResume
	kindReport
)

const (
	stepNone  step = iota
	stepSave       // known on disk, and the first renewal acknowledged
	stepRun        // /run says held
	stepGuard      // guard started
	stepArm        // guard armed
	stepGate       // attribute set
	stepTell       // resume sent, not answered yet
	stepDisarm
	stepRelease
)

// Holder is a node's side of one lease. See doc.go of the package for how it is driven.
type Holder struct {
	opt   HolderOptions
	known *Known
	acts  []Action

	now    Instant // of the newest Step
	phase  Phase
	since  Instant
	cause  string
	step   step
	party  Party // under which the epoch is held at the arbiter
	epoch  Epoch
	hold   time.Duration
	budget Budget // of the grant
	sent   Instant
	seq    uint64
	out    []pending

	saved    bool    // winning: Known is on disk
	granter  string  // winning: the id of the store that the grant is in
	adopting bool    // a claimed lease: the arbiter has not yet installed this instance
	rearmed  bool    // resuming: the guard counts by renewals again
	tried    bool    // resuming: an arm was sent, and what came of it may not be known
	armed    Instant // what the guard has acknowledged; 0: not armed
	ladder   int
	orderly  Instant
	nextSend Instant // earliest next acquire, renewal, release or resume

	notBefore   Instant // no acquire before this
	startBy     Instant // a resource was found active: granted by then, or it is stopped
	watched     Instant // and the guard is, or may be, armed until then for it; 0: not
	watchedFrom Instant // what that deadline counts from
	deferred    bool    // the head start of the preferred node was given
	gaveUp      bool
	gone        bool // superseded: a newer instance speaks for this node
	reading     Reading
	retired     bool
	asked       bool
	waiters     []Waiter
	cannotSince Instant
	cannotSeen  int    // readings in a row, since it is held, that say why Pacemaker cannot run a resource here
	movedFor    string // why an administrator wanted the lease elsewhere when it was left last
	standBack   Instant
	backOff     time.Duration
	pauseFor    time.Duration
	pauseSent   Instant
	pausing     bool // a pause was sent and not answered: its outcome is unknown
	owed        bool // the arbiter may say paused, which no clock ends: the release is sent until it is answered
	// byMaintenance: the pause (asked for, or entered) began with Pacemaker's maintenance.
	byMaintenance bool
	nextPause     Instant // earliest next pause for maintenance
	nextResume    Instant // earliest next resume by itself, after one that could not be finished
	pauseSeq      uint64  // of the newest pause that left
	pauseProblem  string  // why the newest pause or resume that was asked for did not happen
	resumeSeq     uint64  // of the newest resume that left
	lastAnswer    Instant
	lastDenial    Answer
	lastError     string
	lastFailure   string
	failBackOff   time.Duration
	newcomer      bool // no rule depends on the lease (leasedog is being installed): what is found active is not touched
}

// Action is one of the action types of this package.
type Action any

// Event is one of the event types of this package.
type Event any

// NewHolder returns a Holder that waits for its first event, Found. The budget must have no violations.
func NewHolder(opt HolderOptions, known *Known) *Holder {
	if v := opt.Budget.Violations(); len(v) > 0 {
		panic(fmt.Sprintf("lease: NewHolder with a budget that violates %v", v[0]))
	}
	if opt.Mode == "" {
		opt.Mode = AcquireAuto
	}
	if known.Epochs == nil {
		known.Epochs = map[string]Epoch{}
	}
	return &Holder{opt: opt, known: known, budget: opt.Budget, backOff: StandBackFirst, failBackOff: RetryAfterFailure}
}

// SetBudget changes what the next grant is asked for with. A held lease keeps its own.
func (h *Holder) SetBudget(b Budget) {
	if v := b.Violations(); len(v) > 0 {
		panic(fmt.Sprintf("lease: SetBudget with a budget that violates %v", v[0]))
	}
	h.opt.Budget = b
}

// SetLeaveTimeout changes how long Pacemaker's own ordered stop is waited for in a leaving that begins later.
func (h *Holder) SetLeaveTimeout(d time.Duration) { h.opt.LeaveTimeout = d }

// Gate returns the epoch that the attribute must have now; 0 means that it must be absent. The driver asserts it at
// every poll.
func (h *Holder) Gate() Epoch {
	switch h.phase {
	case Held, Paused, Resuming:
		return h.epoch
	case Winning:
		if h.step == stepGate {
			return h.epoch
		}
	}
	return 0
}

// View is a Holder's state for people and for status.
type View struct {
	Phase      Phase
	Since      Instant
	Cause      string
	Epoch      Epoch
	Hold       time.Duration
	Budget     Budget
	Sent       Instant // of the newest acknowledged renewal; 0: none
	LoseAt     Instant // losing begins here unless a renewal is acknowledged; Never if nothing is held
	ResetAt    Instant // the guard resets here unless it is extended or disarmed; Never if not armed
	Adopting   bool
	Retired    bool
	Asked      bool // an acquire was asked for since it was retired last
	StandBack  Instant
	Waiters    []Waiter
	LastAnswer Instant
	LastDenial Answer
	LastError  string
	// LastFailure is why the last grant could not be used, "" after one that could. NotBefore: no acquire earlier.
	LastFailure string
	NotBefore   Instant
	WhyNot      []string
	Pausing     bool          // a pause was asked for and is not settled
	PauseFor    time.Duration // Paused: its length; 0 is without an end
	PausedSince Instant       // Paused, Resuming: when it was asked for
	// PauseProblem is why the newest pause or resume that was asked for did not happen.
	PauseProblem string
	// Maintenance: Pacemaker is in maintenance as far as is known, and, in Paused, the pause ends with it.
	Maintenance bool
	// GiveUpAt: in Held, when the lease is given up unless the resources run here again by then; 0: it is kept.
	GiveUpAt Instant
	// MayEnd: an agent that is being stopped need not wait for this lease.
	MayEnd bool
}

// View returns a snapshot.
func (h *Holder) View() View {
	v := View{Phase: h.phase, Since: h.since, Cause: h.cause, Epoch: h.epoch, Hold: h.hold, Budget: h.budget,
		Sent: h.sent, LoseAt: h.loseAt(), ResetAt: Never, Adopting: h.adopting, Retired: h.retired, Asked: h.asked,
		StandBack: h.standBack, Waiters: h.waiters, LastAnswer: h.lastAnswer, LastDenial: h.lastDenial,
		LastError: h.lastError, LastFailure: h.lastFailure, NotBefore: h.notBefore, WhyNot: h.reading.WhyNot,
		Pausing: h.pausing, PauseFor: h.pauseFor, PausedSince: h.pauseSent, PauseProblem: h.pauseProblem, Maintenance: h.byMaintenance}
	v.ResetAt, v.MayEnd = h.resetAt(), h.mayEnd()
	if h.phase == Held && h.cannotSince != 0 {
		v.GiveUpAt = h.cannotSince.Add(h.opt.GiveUpAfter)
	}
	return v
}

// mayEnd: nothing is held; or it is paused, also while a resume has no answer yet; or what was held is proven stopped, the
// guard is disarmed, the hold is over, and only the arbiter is not told, which a successor goes on with.
func (h *Holder) mayEnd() bool {
	switch h.phase {
	case Standby, Paused:
		return true
	case Resuming:
		return !h.rearmed
	case Stopped:
		return h.step == stepRelease && h.now >= h.sent.Add(h.hold)
	}
	return false
}

// resetAt is when the guard resets unless something changes; Never if nothing is armed.
func (h *Holder) resetAt() Instant {
	at := Never
	if h.armed != 0 {
		at = h.armed
	}
	if h.watched != 0 {
		at = Earlier(at, h.watched)
	}
	return at
}

// loseAt is when the lease counts as lost: L after the Sent of the newest acknowledged renewal.
func (h *Holder) loseAt() Instant {
	switch h.phase {
	case Winning:
		if h.sent == 0 {
			return h.since.Add(h.budget.LossAfter)
		}
		return h.sent.Add(h.budget.LossAfter)
	case Held, Leaving:
		at := h.sent.Add(h.budget.LossAfter)
		if h.armed != 0 {
			// A guard that takes no extension resets at what it last acknowledged: stopping must begin S before that.
			at = Earlier(at, h.armed.Add(-h.budget.StopBudget))
		}
		return at
	case Paused:
		if h.pauseFor > 0 {
			return h.pauseSent.Add(h.pauseFor)
		}
	case Resuming:
		if h.rearmed {
			return h.sent.Add(h.budget.LossAfter)
		}
		if h.pauseFor > 0 {
			return h.pauseSent.Add(h.pauseFor)
		}
	}
	return Never
}
