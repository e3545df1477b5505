package lease

import "time"

// RequestID names a request between the driver and the Grantor; the driver never uses one twice.
type RequestID uint64

// GrantorEvent is what a Grantor is told: Request, Gone, Drained, Stored, GrantorTick, OperatorRecover,
// OperatorFree, OperatorBar, OperatorUnbar, OperatorResume.
type GrantorEvent interface{ grantorEvent() }

// Request is a message of a node or, for a Switchover and a ResumeAsk, of an administrator. Body is one of Acquire,
// Renew, Release, Pause, Resume, Switchover, ResumeAsk, and with Lease empty Report and Fence. Each Request is answered with exactly
// one Reply, unless it is Gone before.
type Request struct {
	ID    RequestID
	Lease string
	Body  any

	at    Instant // received, set by Step
	heard bool    // its sender was; not a second time when it was judged again after a write
}

// Report is what a node says of itself besides its requests for a lease: what it has seen and what it claims.
type Report struct {
	Party
	Seq    uint64
	Seen   Stamp
	Leases []LeaseReport
}

// LeaseReport is a Report's line about one lease.
type LeaseReport struct {
	Lease     string
	SeenEpoch Epoch
	Claim     *Claim
}

// Gone says that nobody waits for the answer any more: a parked poll is cancelled. What is being written goes on.
type Gone struct{ ID RequestID }

// Drained says that every request that had arrived when Next was due has been given to Step. Only now may an
// expiry or a lapse be decided: a stalled arbiter must not expire a lease whose renewals wait in its sockets.
type Drained struct{}

// Stored is the answer to a StoreChange. Err nil: it is on disk.
type Stored struct {
	Txn uint64
	Err error
}

// GrantorTick lets time pass: parked polls end. It decides no expiry.
type GrantorTick struct{}

// OperatorRecover ends a recovery although not every node has reported: the operator vouches that nobody holds
// what no node has claimed. Holds of claims are still waited out.
type OperatorRecover struct{ ID RequestID }

// OperatorFree frees a lease whose holder is off, which only a human can know. It is refused while the holder was heard
// lately. So it has to come as Drained does: only after every request that had arrived was given to Step.
type OperatorFree struct {
	ID    RequestID
	Lease string
	Node  string // must be the holder: the one that is off
	Check bool   // only say what would come of it
}

// OperatorBar bars the boot in which Node was heard last.
type OperatorBar struct {
	ID   RequestID
	Node string
}

// OperatorUnbar ends a bar.
type OperatorUnbar struct {
	ID   RequestID
	Node string
}

// OperatorResume is a ResumeAsk at the arbiter itself.
type OperatorResume struct {
	ID    RequestID
	Lease string
}

func (Request) grantorEvent()         {}
func (Gone) grantorEvent()            {}
func (Drained) grantorEvent()         {}
func (Stored) grantorEvent()          {}
func (GrantorTick) grantorEvent()     {}
func (OperatorRecover) grantorEvent() {}
func (OperatorFree) grantorEvent()    {}
func (OperatorBar) grantorEvent()     {}
func (OperatorUnbar) grantorEvent()   {}
func (OperatorResume) grantorEvent()  {}

// GrantorAction is what a Grantor wants done: StoreChange, Reply, GrantorNote.
type GrantorAction interface{ grantorAction() }

// StoreChange is to be written and synced in one transaction, and answered with Stored. There is at most one
// outstanding.
type StoreChange struct {
	Txn    uint64
	Change Change
}

// Reply answers a request. Everything it says is durable.
type Reply struct {
	ID     RequestID
	Answer Answer
}

// NoteLevel is how much a note matters.
type NoteLevel string

// Levels of notes.
const (
	NoteInfo  NoteLevel = "info"  // a transition
	NoteWarn  NoteLevel = "warn"  // something an administrator may want to know
	NoteAlarm NoteLevel = "alarm" // a human must act
)

// GrantorNote is a line for the log.
type GrantorNote struct {
	Level NoteLevel
	Lease string
	Epoch Epoch
	Node  string
	Text  string
}

func (StoreChange) grantorAction() {}
func (Reply) grantorAction()       {}
func (GrantorNote) grantorAction() {}

// GrantorOptions are the arbiter's own limits.
type GrantorOptions struct {
	Cluster    string
	MinHold    time.Duration // shortest hold that may be granted
	MaxHold    time.Duration // longest; also what recovery and a record without a hold are waited out by
	MaxPause   time.Duration // longest pause with an end
	Grace      time.Duration // added to the hold of a pause
	DriftPPM   int           // bound of this arbiter's own clock
	RetryWrite time.Duration // after a write error, how long until the next write is tried
	// NewStoreID returns an id that was never used before. It is called on entering recovery.
	NewStoreID func() string
}
