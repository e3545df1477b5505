package control

import (
	"errors"
	"fmt"
)

// SocketPath is where the agent listens.
const SocketPath = "/run/leasedog/agent.sock"

// ReaderGroup is the group that may read: Pacemaker's, whose alert agents poke.
const ReaderGroup = "haclient"

// Verb is what is asked.
type Verb string

// The verbs. Readers may use the first three, only root the others. Resume at a node that does not hold only asks the
// holder, by way of the arbiter.
const (
	VerbStatus     Verb = "status"
	VerbWhy        Verb = "why"
	VerbPoke       Verb = "poke" // something changed in the cluster: look now
	VerbSwitchover Verb = "switchover"
	VerbRelease    Verb = "release"
	VerbAcquire    Verb = "acquire"
	VerbPause      Verb = "pause"
	VerbResume     Verb = "resume"
	// VerbHandover is asked before Pacemaker is stopped: until nothing is left to wait for, the answer is CodeTryAgain.
	VerbHandover Verb = "handover"
	// What ocf:leasedog:lease asks: until a start or stop is done, the answer is CodeTryAgain.
	VerbOrderedStart Verb = "ordered-start"
	VerbOrderedStop  Verb = "ordered-stop"
	VerbOrderedCheck Verb = "ordered-check"
)

// VerbFence is what fence_leasedog asks, again and again until it is done. Without To it lists the nodes.
const VerbFence Verb = "fence"

// readable says whether a peer that is not root may use v.
func (v Verb) readable() bool { return v == VerbStatus || v == VerbWhy || v == VerbPoke }

// Request is one question.
type Request struct {
	Verb  Verb   `json:"verb"`
	Lease string `json:"lease,omitempty"`
	To    string `json:"to,omitempty"` // switchover: the node that is to hold
	// ForS is how long a pause lasts; 0 is without an end.
	ForS float64 `json:"for_s,omitempty"`
	// Resource is the primitive that asks (ordered-…). Ordered: Pacemaker runs its agent and waits for the answer.
	Resource string `json:"resource,omitempty"`
	Ordered  bool   `json:"ordered,omitempty"`
	// Of a fencing of node To: it is to power down; the boot that an earlier answer named; change nothing, only tell.
	Off   bool   `json:"off,omitempty"`
	Boot  string `json:"boot,omitempty"`
	Check bool   `json:"check,omitempty"`
}

// Response is the answer: an Error, or what the verb returns.
type Response struct {
	Error   *Error  `json:"error,omitempty"`
	Status  *Status `json:"status,omitempty"`
	Events  []Event `json:"events,omitempty"`
	Fence   *Fence  `json:"fence,omitempty"`
	Message string  `json:"message,omitempty"` // what an accepted command will do, in words
}

// Fence is how a fencing stands.
type Fence struct {
	// Done: the target runs nothing for certain. Of a check: it is barred, and so as good as off.
	Done bool `json:"done"`
	// Final: it is not done, and asking again changes nothing.
	Final  bool   `json:"final,omitempty"`
	Reason string `json:"reason,omitempty"`
	Boot   string `json:"boot,omitempty"` // for the next request
	// FreeInS is until when the target's hold ends unless it renews; null: it has none, or one without an end.
	FreeInS *float64 `json:"free_in_s"`
	// QuietS is how long the arbiter has not heard the target; null: not since it started. Of a check only.
	QuietS *float64 `json:"quiet_s"`
	Nodes  []string `json:"nodes,omitempty"` // the list
}

// Code classifies an Error for programs.
type Code string

// Codes.
const (
	CodeBadRequest Code = "bad-request" // not understood by this agent
	CodeForbidden  Code = "forbidden"   // only root may do that
	CodeNoLease    Code = "no-lease"    // the configuration names no such lease
	CodeRefused    Code = "refused"     // cannot be done in this state; asking again changes nothing
	CodeTryAgain   Code = "try-again"   // cannot be done now
	CodeInternal   Code = "internal"    // a fault of the agent
)

// Error is a refusal, for a person and for a program.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`        // what is wrong, lower case
	Hint    string `json:"hint,omitempty"` // what to do
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// Refuse makes an Error from a format.
func Refuse(code Code, hint, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...), Hint: hint}
}

// ErrNotRunning is what a Client returns when nobody listens at the socket.
var ErrNotRunning = errors.New("the agent is not running")

// Event is a line of what happened to a lease.
type Event struct {
	At    string `json:"at"` // wall clock, RFC 3339, for people
	Lease string `json:"lease,omitempty"`
	Epoch uint64 `json:"epoch,omitempty"`
	What  string `json:"what"`
	Cause string `json:"cause,omitempty"`
}
