package control

import "time"

// Schema is the version of the Status document.
const Schema = 1

// State is where a lease stands on this node.
type State string

// The states. Only in Held, Leaving and Paused may guarded resources be active here.
const (
	StateStandby   State = "standby"
	StateAcquiring State = "acquiring"
	StateHeld      State = "held"
	StateLeaving   State = "leaving"
	StateLosing    State = "losing"
	StateStopped   State = "stopped"
	StatePaused    State = "paused"
	StateRefused   State = "refused" // this node cannot guard the lease's resources; WhyNot says why
)

// Status is everything that an administrator may want to know about this node.
type Status struct {
	Schema       int     `json:"schema"`
	Cluster      string  `json:"cluster"`
	Node         string  `json:"node"`
	Version      string  `json:"version"`
	Boot         string  `json:"boot_mark"` // names this boot
	Instance     string  `json:"instance"`
	UptimeS      float64 `json:"uptime_s"` // of the agent
	ConfigDigest string  `json:"config_digest"`
	Insecure     bool    `json:"insecure"`

	Certificate *Certificate `json:"certificate"` // null: insecure, or none could be read

	Clock    *Clock   `json:"clock"` // null: from an agent that does not measure it
	Watchdog Watchdog `json:"watchdog"`
	Arbiter  Arbiter  `json:"arbiter"`
	Budget   Budget   `json:"budget"`
	Leases   []Lease  `json:"leases"`
	Alarms   []Alarm  `json:"alarms"`
}

// Certificate is what this node proves itself with.
type Certificate struct {
	Identity string  `json:"identity"`
	Serial   string  `json:"serial"`
	CA       string  `json:"ca"` // short fingerprint
	EndsInS  float64 `json:"ends_in_s"`
}

// Clock is how fast this node's clock was measured to run. Rates are positive where it gains.
type Clock struct {
	Verdict       string        `json:"verdict"`  // "unknown", "within" (drift_ppm), "warning" (beyond half of it) or "off" (beyond it)
	Disagree      bool          `json:"disagree"` // those who should know do
	Text          string        `json:"text,omitempty"`
	DriftPPM      int           `json:"drift_ppm"`
	NTP           *ClockRate    `json:"ntp"`   // what most of the servers agree on
	Agree         int           `json:"agree"` // how many do
	Servers       []ClockSource `json:"servers"`
	Arbiter       ClockSource   `json:"arbiter"`
	Pauses        int           `json:"pauses"` // of the machine, as the guard found them
	PausedS       float64       `json:"paused_s"`
	SuspendedS    float64       `json:"suspended_s"` // since the agent's start; a lease counts it
	LastPauseAgoS *float64      `json:"last_pause_ago_s"`
}

// ClockRate bounds a rate, in parts per million.
type ClockRate struct {
	LowPPM  float64 `json:"low_ppm"`
	HighPPM float64 `json:"high_ppm"`
}

// ClockSource is one clock that was measured against.
type ClockSource struct {
	Name         string     `json:"name,omitempty"`
	Rate         *ClockRate `json:"rate"`
	Enough       bool       `json:"enough"`         // it was measured long enough for a verdict
	OffsetS      *float64   `json:"offset_s"`       // how far this node's wall clock is ahead of it
	OffsetDoubtS *float64   `json:"offset_doubt_s"` // that may be off by as much
	AnsweredAgoS *float64   `json:"answered_ago_s"` // the newest answer that was good for something
	Problem      string     `json:"problem,omitempty"`
	Steps        int        `json:"steps"`   // how often it was found to have gone back
	Differs      bool       `json:"differs"` // from what most of the servers agree on
}

// Watchdog is what can reset this node, and what protects it from a pause from outside.
type Watchdog struct {
	Mode            string   `json:"mode"`
	Device          string   `json:"device,omitempty"`
	TimeoutS        *float64 `json:"timeout_s"`
	KillTimer       *bool    `json:"kill_timer"`
	PauseProtection string   `json:"pause_protection"` // "rtc", "none" or "unknown"
	Layers          []string `json:"layers"`           // of the reset, first to last
}

// Arbiter is how the arbiter answers.
type Arbiter struct {
	URLs           []string `json:"urls"`
	Reachable      *bool    `json:"reachable"`
	LastError      string   `json:"last_error,omitempty"`
	RTTS           *float64 `json:"rtt_s"`     // of the newest renewal
	RTTP99S        *float64 `json:"rtt_p99_s"` // of the newest thousand
	LastAnswerAgoS *float64 `json:"last_answer_ago_s"`
}

// Budget is the effective budget in short; "leasedog budget" has all of it.
type Budget struct {
	Profile       string   `json:"profile"`
	RenewEveryS   float64  `json:"renew_every_s"`
	LossAfterS    float64  `json:"loss_after_s"`
	StopBudgetS   float64  `json:"stop_budget_s"`
	HardDeadlineS float64  `json:"hard_deadline_s"`
	HoldS         float64  `json:"hold_s"`
	TokenS        *float64 `json:"token_s"`           // Corosync's, as read
	Warning       string   `json:"warning,omitempty"` // the comfort line that does not hold
}

// Lease is one lease as this node knows it.
type Lease struct {
	Name           string     `json:"name"`
	State          State      `json:"state"`
	Epoch          uint64     `json:"epoch"`         // of this node's grant, 0 without one
	Holder         string     `json:"holder"`        // who holds as far as is known; "" if nobody or unknown
	HolderKnown    bool       `json:"holder_known"`  // false: Holder says nothing
	ExpiresInS     *float64   `json:"expires_in_s"`  // until the loss is decided, if nothing is renewed
	MarginS        *float64   `json:"margin_s"`      // until the guard resets, if nothing changes
	RenewedAgoS    *float64   `json:"renewed_ago_s"` // since the last acknowledged renewal was sent
	Guard          Guard      `json:"guard"`
	Resources      []Resource `json:"resources"`
	Attribute      *string    `json:"attribute"` // as read back from the CIB; null unknown, "" absent
	Waiters        []string   `json:"waiters"`
	WhyNot         []string   `json:"why_not"`        // reasons for which this node does not compete, or its resources are not to run on this holder
	Next           string     `json:"next,omitempty"` // what happens next and by when
	LastTransition *Event     `json:"last_transition"`
}

// Guard is the dead man's switch for a lease.
type Guard struct {
	State  string   `json:"state"` // "off", "starting", "armed", "disarmed" or "unknown"
	Armed  bool     `json:"armed"`
	UntilS *float64 `json:"until_in_s"` // until it resets this node
}

// Resource is one guarded resource.
type Resource struct {
	ID    string `json:"id"`
	Kind  string `json:"kind"`  // "group", "primitive", "promotable" or "" if unknown
	Role  string `json:"role"`  // what is guarded: "Started" or "Promoted"
	State string `json:"state"` // on this node: "running", "promoted", "stopped", "failed" or "unknown"
	Node  string `json:"node"`  // where it is active as far as Pacemaker says; "" if nowhere or unknown

	Disabled bool `json:"disabled,omitempty"` // Pacemaker is told to keep it, or a member of it, stopped: target-role
}

// Alarm is something that an administrator must act on.
type Alarm struct {
	Text string `json:"text"`
	Hint string `json:"hint,omitempty"`
}

// Seconds turns a duration into a field of this document.
func Seconds(d time.Duration) float64 { return d.Seconds() }

// Known returns a pointer to v: a field that is known.
func Known[T any](v T) *T { return &v }
