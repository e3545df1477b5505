package hooks

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// AlertTime is how long an alert may take: Pacemaker's default for its own.
const AlertTime = 30 * time.Second

// maxAlerts bounds what waits while alerts are slow; more are dropped, and counted.
const maxAlerts = 64

// Events that are told.
const (
	LeaseWon           = "lease-won"
	LeaseLost          = "lease-lost"          // not renewed any more: stopped, or the node is reset
	LeaseLeft          = "lease-left"          // a planned loss
	MarginUsed         = "margin-used"         // a renewal was acknowledged late
	ArbiterUnreachable = "arbiter-unreachable" // for longer than a lease may go without a renewal
	ArbiterBack        = "arbiter-back"
	PeerSilent         = "peer-silent" // Pacemaker does not see the other node
	PeerBack           = "peer-back"
	CertificateEnds    = "certificate-ends" // or cannot be used or renewed
	ClockOff           = "clock-off"        // this node's clock runs too fast or too slow for a lease
	Reset              = "reset"            // this node was reset in an earlier boot
)

// Alert is one event, for the environment of a program.
type Alert struct {
	Event string
	Node  string
	Lease string // "" when it is about the node
	Epoch uint64
	Text  string
	At    time.Time
}

// env is in the style of Pacemaker's alerts. Its own alert agents find the names that they know, with a kind that they do
// not.
func (a Alert) env(sequence int) []string {
	return []string{"CRM_alert_version=1", "CRM_alert_kind=leasedog", "CRM_alert_recipient=", "CRM_alert_node=" + a.Node,
		"CRM_alert_node_sequence=" + fmt.Sprint(sequence), "CRM_alert_task=" + a.Event, "CRM_alert_rsc=" + a.Lease,
		"CRM_alert_epoch=" + fmt.Sprint(a.Epoch), "CRM_alert_desc=" + a.Text,
		"CRM_alert_timestamp=" + a.At.UTC().Format("15:04:05.000000"), "CRM_alert_timestamp_epoch=" + fmt.Sprint(a.At.Unix()),
		"CRM_alert_timestamp_usec=" + fmt.Sprint(a.At.Nanosecond()/1000)}
}

// Alerts tells events to every program of a folder, one event after the other. Raise may be called by any goroutine.
type Alerts struct {
	folder Folder
	warn   func(format string, args ...any)
	queue  chan Alert

	mu      sync.Mutex
	dropped int
}

// NewAlerts returns Alerts that do nothing until Work runs. Warn is told what went wrong.
func NewAlerts(f Folder, warn func(format string, args ...any)) *Alerts {
	return &Alerts{folder: f, warn: warn, queue: make(chan Alert, maxAlerts)}
}

// Raise never waits. An alert that finds the queue full is dropped.
func (a *Alerts) Raise(al Alert) {
	select {
	case a.queue <- al:
	default:
		a.mu.Lock()
		a.dropped++
		a.mu.Unlock()
	}
}

// Work tells events until ctx ends. The folder is read for each, so a program may come and go.
func (a *Alerts) Work(ctx context.Context) {
	for sequence := 1; ; sequence++ {
		select {
		case <-ctx.Done():
			return
		case al := <-a.queue:
			a.tell(ctx, al, sequence)
		}
	}
}

func (a *Alerts) tell(ctx context.Context, al Alert, sequence int) {
	a.mu.Lock()
	dropped := a.dropped
	a.dropped = 0
	a.mu.Unlock()
	if dropped > 0 {
		a.warn("alerts are slow: %d events were not told", dropped)
	}
	programs, err := a.folder.Programs()
	if err != nil {
		a.warn("alert %s is not told: %v", al.Event, err)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, AlertTime)
	defer cancel()
	var all sync.WaitGroup
	defer all.Wait()
	for _, p := range programs {
		if p.Problem != "" {
			a.warn("alert %s is not told: %s", al.Event, p.Problem)
			continue
		}
		all.Go(func() {
			if words, err := run(ctx, p, al.env(sequence)); err != nil {
				a.warn("alert program %s failed for %s: %v %s", p.Name, al.Event, err, words)
			}
		})
	}
}
