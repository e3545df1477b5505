package guardapi

import (
	"time"

	"github.com/leasedog/leasedog/lease"
)

// Where the guard and its agent meet. The folder is made by tmpfiles.d and outlives both.
const (
	SocketPath = "/run/leasedog/guard.sock"
	SetupPath  = "/run/leasedog/guard.json"
	UnitName   = "leasedog-guard.service"
)

// MaxMessage bounds a packet in either direction.
const MaxMessage = 16 << 10

// Op is what a request asks for.
type Op string

// Requests. Only Arm, Shorten and Disarm take the agent's place, and only with an instance that is not older.
const (
	OpArm     Op = "arm"     // arm or extend: Until = Sent + F
	OpShorten Op = "shorten" // bring the deadline nearer
	OpDisarm  Op = "disarm"  // the resources are proven stopped, or a pause is durable
	OpNote    Op = "note"    // why: goes into the cause record, changes nothing
	OpStatus  Op = "status"  // changes nothing
)

// Request is one packet to the guard. Instants are raw CLOCK_BOOTTIME in nanoseconds.
type Request struct {
	Op       Op            `json:"op"`
	Lease    string        `json:"lease,omitempty"`
	Epoch    lease.Epoch   `json:"epoch,omitempty"`
	Instance string        `json:"instance,omitempty"` // lease.Instance.String
	Sent     lease.Instant `json:"sent,omitempty"`
	Until    lease.Instant `json:"until,omitempty"`
	// StopBudget is S in nanoseconds: with less time left than this the cause record is written ahead.
	StopBudget time.Duration `json:"stop_budget,omitempty"`
	// DyingTo ("address:port", no names) and DyingText are the last datagram of a node that resets itself.
	DyingTo   string `json:"dying_to,omitempty"`
	DyingText string `json:"dying_text,omitempty"`
	// State and Because belong to a note: the lease's state in the Holder, and why it is being lost.
	State   string `json:"state,omitempty"`
	Because string `json:"because,omitempty"`
}

// Code says in one word why a request was refused.
type Code string

// Codes of a Reply that is not OK.
const (
	CodeRefused  Code = "refused"   // the rules of the dead man's switch; Message says which
	CodeBad      Code = "bad"       // not a request
	CodeNoTimer  Code = "no-timer"  // the kill timer could not be set: the lease must not be used
	CodeReplaced Code = "replaced"  // a newer connection speaks for the agent
	CodeNoRoom   Code = "too-large" // the reply does not fit into a packet
)

// Reply is one packet from the guard.
type Reply struct {
	OK      bool          `json:"ok"`
	Code    Code          `json:"code,omitempty"`
	Message string        `json:"message,omitempty"`
	Until   lease.Instant `json:"until,omitempty"` // in force for the lease, found pauses taken off; 0: not armed
	Status  Status        `json:"status"`
}

// Mode is how far the reset reaches.
type Mode string

// Modes. There is no "off".
const (
	ModeRequired Mode = "required" // a kernel watchdog, or no lease
	ModeSystemd  Mode = "systemd"  // no bound when PID 1 or the kernel hangs; what containers use
)

// Status is what the guard says about itself in every reply.
type Status struct {
	PID      int    `json:"pid"`
	Version  string `json:"version,omitempty"`
	BootID   string `json:"boot_id"` // the kernel's
	Mode     Mode   `json:"mode"`
	Device   string `json:"device,omitempty"`   // /dev/watchdogN
	Identity string `json:"identity,omitempty"` // as the driver says
	// Watchdog is W in nanoseconds, as read back from the device (or counted, in mode systemd).
	Watchdog  time.Duration `json:"watchdog"`
	NoWayOut  bool          `json:"nowayout,omitempty"` // stays and feeds, unarmed, until shutdown
	KillTimer bool          `json:"kill_timer"`
	RealTime  bool          `json:"real_time"`
	// Chances is c: 1 only with the kill timer and real-time scheduling.
	Chances         int           `json:"chances"`
	ResetBy         string        `json:"reset_by"`         // "sysrq" or "reboot(2)"
	PauseProtection string        `json:"pause_protection"` // "rtc" or "none"
	Jumps           []Jump        `json:"jumps,omitempty"`
	Armed           []Armed       `json:"armed,omitempty"`
	Warnings        []string      `json:"warnings,omitempty"`
	Now             lease.Instant `json:"now"`
	Resetting       string        `json:"resetting,omitempty"`
}

// Armed is one armed lease.
type Armed struct {
	Lease    string        `json:"lease"`
	Epoch    lease.Epoch   `json:"epoch"`
	Instance string        `json:"instance"`
	Sent     lease.Instant `json:"sent"`
	Until    lease.Instant `json:"until"`
}

// Jump is a found pause of the machine. An agent takes it off every deadline that counts from a Sent before S2.
type Jump struct {
	S1   lease.Instant `json:"s1"`
	S2   lease.Instant `json:"s2"`
	Size time.Duration `json:"size"`
}

// Shows reports whether the guard has this epoch of a lease armed: what an agent that adopts must see.
func (s Status) Shows(name string, epoch lease.Epoch) bool {
	for _, a := range s.Armed {
		if a.Lease == name && a.Epoch == epoch {
			return true
		}
	}
	return false
}
