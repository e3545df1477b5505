package api

// Proto is the version of the protocol that every request carries.
const Proto = 1

// MaxBody bounds a request and an answer to a node.
const MaxBody = 8 << 10

// Paths. {cluster}, {lease} and {node} are names as the configuration allows them.
const (
	PathLease    = "/v1/clusters/{cluster}/leases/{lease}/" // + a verb
	PathReport   = "/v1/clusters/{cluster}/nodes/{node}/report"
	PathFence    = "/v1/clusters/{cluster}/nodes/{node}/fence" // node is the target
	PathClusters = "/v1/clusters"
	PathCluster  = "/v1/clusters/{cluster}"
	PathHistory  = "/v1/history"
	PathJoin     = "/v1/join"
	PathCert     = "/v1/certificate"
	PathCA       = "/v1/ca"
	PathHealthy  = "/healthz"
	PathReady    = "/readyz"
)

// Verbs of a lease.
const (
	VerbAcquire    = "acquire"
	VerbRenew      = "renew"
	VerbRelease    = "release"
	VerbSwitchover = "switchover"
	VerbPause      = "pause"
	VerbResume     = "resume"
	VerbResumeAsk  = "resume-ask"
)

// Stamp is a store's id and its generation.
type Stamp struct {
	StoreID    string `json:"store_id"`
	Generation uint64 `json:"generation"`
}

// Who is the asker.
type Who struct {
	Proto    int    `json:"proto"`
	Node     string `json:"node"`
	BootID   string `json:"boot_id"`
	Instance string `json:"instance"` // START-NONCE
	Seq      uint64 `json:"seq"`
	Seen     Stamp  `json:"seen"`
}

// Claim is what a node's /run says that it holds.
type Claim struct {
	Epoch      uint64 `json:"epoch"`
	State      string `json:"state"` // held, leaving, paused
	HoldNS     int64  `json:"hold_ns"`
	PauseForNS int64  `json:"pause_for_ns,omitempty"`
}

// Terms are the node's side of the safety inequality.
type Terms struct {
	LossAfterNS    int64 `json:"loss_after_ns"`
	StopBudgetNS   int64 `json:"stop_budget_ns"`
	TimerSlackNS   int64 `json:"timer_slack_ns"`
	WatchdogNS     int64 `json:"watchdog_ns"`
	QuantumNS      int64 `json:"quantum_ns"`
	Chances        int   `json:"chances"`
	ResetLatencyNS int64 `json:"reset_latency_ns"`
	DriftPPM       int   `json:"drift_ppm"`
}

// Acquire asks for a lease.
type Acquire struct {
	Who
	Claim      *Claim `json:"claim,omitempty"`
	SeenEpoch  uint64 `json:"seen_epoch"`
	Terms      Terms  `json:"terms"`
	HoldNS     int64  `json:"hold_ns"`
	WaitNS     int64  `json:"wait_ns,omitempty"`
	Ready      bool   `json:"ready"`
	LastResort bool   `json:"last_resort,omitempty"`
	Stopped    bool   `json:"stopped,omitempty"`
}

// Renew restarts a hold.
type Renew struct {
	Who
	Epoch uint64 `json:"epoch"`
	Claim *Claim `json:"claim,omitempty"`
}

// Release gives a lease back.
type Release struct {
	Who
	Epoch uint64 `json:"epoch"`
}

// Pause turns a held lease into a paused one; ForNS 0 is without an end.
type Pause struct {
	Who
	Epoch uint64 `json:"epoch"`
	ForNS int64  `json:"for_ns"`
	Terms Terms  `json:"terms"`
}

// Resume ends a pause.
type Resume struct {
	Who
	Epoch uint64 `json:"epoch"`
}

// Switchover asks the holder to leave for another node. Node is who passes it on; Epoch 0 means the epoch of now.
type Switchover struct {
	Proto int    `json:"proto"`
	Node  string `json:"node,omitempty"`
	Epoch uint64 `json:"epoch,omitempty"`
	To    string `json:"to"`
}

// ResumeAsk asks the holder to end its pause, and changes nothing by itself. Node is who passes it on.
type ResumeAsk struct {
	Proto int    `json:"proto"`
	Node  string `json:"node,omitempty"`
}

// Fence asks that the target never runs a guarded resource again in the boot in which it was heard last. Its answer is ok
// when that is certain, denied while it is not, and names the target's boot, which the next request repeats.
type Fence struct {
	Who
	Off     bool   `json:"off,omitempty"`     // it is to power down, not to boot anew
	Guarded bool   `json:"guarded,omitempty"` // the asker vouches that a lease guards every resource of the cluster
	Boot    string `json:"boot_mark,omitempty"`
	Check   bool   `json:"check,omitempty"` // change nothing: ok is barred, denied is not
}

// Waiter waits for a lease.
type Waiter struct {
	Node       string `json:"node"`
	Ready      bool   `json:"ready"`
	LastResort bool   `json:"last_resort,omitempty"`
}

// Answer answers every request of a node with status 200, whatever the verdict.
type Answer struct {
	Proto      int      `json:"proto"`
	Verdict    string   `json:"verdict"`
	Epoch      uint64   `json:"epoch"`
	Seq        uint64   `json:"seq"`
	HoldNS     int64    `json:"hold_ns,omitempty"`
	Stamp      Stamp    `json:"stamp"`
	Echo       *Stamp   `json:"echo,omitempty"`
	Reason     string   `json:"reason,omitempty"`
	Holder     string   `json:"holder,omitempty"`
	FreeInNS   int64    `json:"free_in_ns,omitempty"`
	Waiters    []Waiter `json:"waiters,omitempty"`
	MoveTo     string   `json:"move_to,omitempty"`
	ResumeAsk  bool     `json:"resume_ask,omitempty"`
	Paused     bool     `json:"paused,omitempty"`
	BarredBoot bool     `json:"barred_boot,omitempty"`
	Off        bool     `json:"off,omitempty"` // barred: it is to power down
	Boot       string   `json:"boot_mark,omitempty"`
	QuietNS    int64    `json:"quiet_ns,omitempty"` // fence: how long the target was not heard; below 0: not since the arbiter started
	ElapsedNS  int64    `json:"elapsed_ns,omitempty"`
	Clock      *Clock   `json:"clock,omitempty"`
}

// Clock is the arbiter's clock when a request came and when its answer left, counted from a start that ID names. Only the
// difference of two readings with one ID means anything: how fast the clock runs.
type Clock struct {
	ID    string `json:"id"`
	InNS  int64  `json:"in_ns"`
	OutNS int64  `json:"out_ns"`
}

// MaxClockID bounds the ID of a Clock.
const MaxClockID = 64

// Report is what a node says about itself, without asking for a lease. It grants nothing. One that names its instance also
// says what its node has seen of the leases in it, and that it holds nothing of them.
type Report struct {
	Who
	Leases       []LeaseReport `json:"leases,omitempty"`
	Version      string        `json:"version,omitempty"`
	ConfigDigest string        `json:"config_digest,omitempty"`
	Cause        string        `json:"cause,omitempty"`  // why its last boot ended, if it was reset
	Alarms       []string      `json:"alarms,omitempty"` // what an administrator must act on there: at most MaxAlarms, each of at most MaxAlarm bytes
}

// MaxAlarms bounds the alarms of a Report, MaxAlarm the bytes of one.
const (
	MaxAlarms = 16
	MaxAlarm  = 400
)

// LeaseReport is a line of a Report. Its node holds nothing of the lease.
type LeaseReport struct {
	Lease     string `json:"lease"`
	SeenEpoch uint64 `json:"seen_epoch"`
}

// Join asks for a node's first certificate. CSR is PEM; Secret is the secret part of a join code, in base64.
type Join struct {
	Proto   int    `json:"proto"`
	Cluster string `json:"cluster"`
	Node    string `json:"node"`
	Secret  []byte `json:"secret"`
	CSR     string `json:"csr"`
}

// Renewal asks for a new certificate for the identity of the connection.
type Renewal struct {
	Proto int    `json:"proto"`
	CSR   string `json:"csr"`
}

// Certificate is what was issued, and the CAs that are trusted. Both are PEM.
type Certificate struct {
	Proto       int    `json:"proto"`
	Certificate string `json:"certificate"`
	CA          string `json:"ca"`
}

// Authorities are the CAs that are trusted, in PEM, and which of them signs.
type Authorities struct {
	Proto  int    `json:"proto"`
	CA     string `json:"ca"`
	Issuer string `json:"issuer,omitempty"` // short fingerprint; none: this arbiter issues no certificates
}

// Codes of an Error.
const (
	CodeBadRequest  = "bad_request" // 400: not understood, out of range, too large
	CodeForbidden   = "forbidden"   // 403: this peer may not ask that
	CodeNotFound    = "not_found"   // 404
	CodeUnavailable = "unavailable" // 503: not now
	CodeTooMany     = "too_many"    // 429
	CodeInternal    = "internal"    // 500
)

// Error is the body of every answer whose status is not 200. It never shortens a lease.
type Error struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Detail  string `json:"detail,omitempty"`
}
