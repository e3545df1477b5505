package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/leasedog/leasedog/agent/cause"
	"github.com/leasedog/leasedog/agent/control"
	"github.com/leasedog/leasedog/agent/hooks"
	"github.com/leasedog/leasedog/boottime"
	"github.com/leasedog/leasedog/config"
	"github.com/leasedog/leasedog/guard/guardapi"
	"github.com/leasedog/leasedog/lease"
	"github.com/leasedog/leasedog/ntpaudit"
	"github.com/leasedog/leasedog/pcmk"
	"github.com/leasedog/leasedog/systemd"
)

// Keys of the log's fields.
const (
	keyLease = "lease"
	keyEpoch = "epoch"
	keyCause = "cause"
	keyPhase = "phase"
)

// Arbiter asks the arbiter. Ask sends one of lease.Acquire, Renew, Release, Pause, Resume, Switchover or Fence and returns
// its authenticated answer; ctx bounds everything. Any number of goroutines call it.
type Arbiter interface {
	Ask(ctx context.Context, lease string, body any) (lease.Answer, error)
}

// Guard is the dead man's switch; *guardapi.Client is the real one.
type Guard interface {
	Arm(ctx context.Context, req guardapi.Request) (guardapi.Reply, error)
	Shorten(ctx context.Context, req guardapi.Request) (guardapi.Reply, error)
	Disarm(ctx context.Context, lease string, epoch lease.Epoch, who lease.Instance) (guardapi.Reply, error)
	Note(ctx context.Context, lease string, epoch lease.Epoch, who lease.Instance, state, because string) (guardapi.Reply, error)
	Status(ctx context.Context) (guardapi.Status, error)
}

// Cluster is Pacemaker on this node; *pcmk.Cluster is the real one.
type Cluster interface {
	LocalNode(ctx context.Context) (string, error)
	Status(ctx context.Context) (pcmk.Status, error)
	CIB(ctx context.Context) (*pcmk.CIB, error)
	PlanFrom(cib *pcmk.CIB, node string, resources []string) (pcmk.Plan, error)
	PutAttribute(ctx context.Context, name, value string) error
	DeleteAttribute(ctx context.Context, name string) error
	ReadAttribute(ctx context.Context, node, name string) (pcmk.Attribute, error)
	DCState(ctx context.Context) (pcmk.DC, error)
	Pending(ctx context.Context, node string, primitives ...string) ([]pcmk.PendingOp, error)
	RunAgent(ctx context.Context, plan pcmk.Plan, p pcmk.Primitive, action pcmk.Action) (pcmk.Answer, error)
}

// Units is systemd; Manager connects again when it must.
type Units interface {
	Ping(ctx context.Context) error
	StartUnit(ctx context.Context, name string) error
	StopUnit(ctx context.Context, name string) error
	Unit(ctx context.Context, name string) (systemd.UnitState, error)
	JobType(ctx context.Context, name string) (string, error)
	Processes(ctx context.Context, name string) ([]int, error)
	Reboot(ctx context.Context) error
	PowerOff(ctx context.Context) error
}

// Preflight is what the guard could do on this node if it were started now.
type Preflight struct {
	Chances  int           // c: 1 with kill timer and real-time priority
	Watchdog time.Duration // W as last read back on this device; 0: not known
	Warnings []string
}

// Options of New. Everything is required unless said otherwise.
type Options struct {
	Config     config.Agent
	ConfigPath string
	Version    string
	Log        *logrus.Logger
	Arbiter    Arbiter
	Guard      Guard
	Cluster    Cluster
	Units      Units
	Notify     *systemd.Notifier // nil: not started by systemd
	Preflight  func(ctx context.Context) (Preflight, error)
	Token      func() (time.Duration, error) // Corosync's token timeout as configured
	Now        func() lease.Instant
	// Tell tells the arbiter what an administrator must act on here; nil: nobody is told.
	Tell func(ctx context.Context, node string, alarms []string) error
	// NTP asks a server; nil: over the network.
	NTP func(ctx context.Context, server string) (ntpaudit.Sample, error)
	// Certificate describes what the node of that name proves itself with; nil: insecure. It may not wait.
	Certificate func(node string) (*control.Certificate, []control.Alarm)

	RunDir       string // /run/leasedog
	StateDir     string // /var/lib/leasedog
	Proc         string // /proc
	Fstab        string // /etc/fstab
	CIBDir       string // where Pacemaker keeps its configuration: /var/lib/pacemaker/cib
	Socket       string // of the control API; "": none
	KernelBootID string // file; default the kernel's

	Gates  hooks.Folder // the site's gates and alerts; without a path: none
	Alerts hooks.Folder
}

// UnitName is the agent's own unit.
const UnitName = "leasedog.service"

// Agent is the node daemon.
type Agent struct {
	opt        Options
	log        *logrus.Entry
	node       string
	self       lease.Party
	kernelBoot string
	known      *lease.Known // stepped with the Holders, by the loop
	knownDisk  *queue
	knownNew   atomic.Pointer[lease.Known] // what is to be on disk
	keepers    []*keeper
	started    lease.Instant

	life  context.Context // ends with Run
	done  chan struct{}
	mail  chan letter
	calls chan func()
	poke  chan struct{}

	herald herald
	alerts alerter // nil: none
	clock  *ntpaudit.Audit
	slept  time.Duration // for which this machine had been suspended when the agent started

	refencing     refencing
	unguardedAt   lease.Instant        // the loop's: when it was told last that not everything is guarded
	fencing       bool                 // the loop's: this node is barred and about to end
	arbiterSilent bool                 // the loop's: that was told
	peers         map[string]pcmk.Bool // the survey's: seen online, as was told
	clockTold     clockSaid            // the survey's
	certificateAt lease.Instant        // the survey's: when it was told last that the certificate needs somebody

	lastCIB    *pcmk.CIB // the survey's
	cibAt      lease.Instant
	cibChanged atomic.Bool // since it was read

	holding  atomic.Bool // a lease is held
	stops    stopWatch
	handover handover

	base    atomic.Pointer[lease.Budget] // as configured
	bud     atomic.Pointer[lease.Budget] // and with what the guard can do on this node
	causeMu sync.Mutex
	causes  *cause.Log

	mu        sync.Mutex
	events    []control.Event
	contact   contact
	jumps     []guardapi.Jump
	preflight Preflight
	token     *time.Duration
	signals   int  // the loop's: that came since systemd was asked what the first of them means; 0: it is not being asked
	handsOver bool // the loop's
	leaving   bool
	left      lease.Instant // since when every lease is left; 0: not yet
	fatal     error
}

// alerter tells the site's programs what happens; *hooks.Alerts is the real one.
type alerter interface {
	Raise(al hooks.Alert)
	Work(ctx context.Context)
}

type letter struct {
	to *keeper
	ev lease.Event
}

// contact is how the arbiter answers.
type contact struct {
	at   lease.Instant   // of the newest answer
	rtts []time.Duration // of the newest requests that were answered at once, the oldest first
	err  string          // of the newest request; "" if it was answered
}

// New returns an agent that does nothing until Run.
func New(opt Options) *Agent {
	if opt.KernelBootID == "" {
		opt.KernelBootID = kernelBootID
	}
	a := &Agent{opt: opt, log: logrus.NewEntry(opt.Log), knownDisk: newQueue(), done: make(chan struct{}),
		peers: map[string]pcmk.Bool{}, mail: make(chan letter), calls: make(chan func()), poke: make(chan struct{}, 1), started: opt.Now()}
	a.herald = herald{a: a, news: make(chan struct{}, 1)}
	a.stops.gone = make(chan struct{}, 1)
	if opt.Alerts.Path != "" {
		a.alerts = hooks.NewAlerts(opt.Alerts, a.log.Warnf)
	}
	a.clock, a.slept = a.newAudit(), boottime.Suspended()
	b := opt.Config.Budget()
	a.base.Store(&b)
	a.bud.Store(&b)
	return a
}

func (a *Agent) budget() lease.Budget { return *a.bud.Load() }

// Run holds the leases until a signal ends it: a stop leaves every lease in order first; anything else hands over to
// a successor, who adopts what is held. An error means that it could not go on.
func (a *Agent) Run(ctx context.Context, signals <-chan os.Signal) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a.life = ctx
	var drivers sync.WaitGroup
	defer drivers.Wait()
	defer close(a.done) // before Wait: a driver may be posting to the loop that has ended
	defer cancel()
	a.herald.turn(a.opt.Now(), "starting", false)
	drivers.Go(func() { a.herald.work(ctx) })
	if err := a.identify(ctx, signals); err != nil || a.node == "" {
		return err
	}
	a.keepers = a.definitions()
	for _, k := range a.keepers {
		k.run(ctx, &drivers)
	}
	drivers.Go(func() { a.knownDisk.work(ctx) })
	if a.alerts != nil {
		a.tellReset()
		drivers.Go(func() { a.alerts.Work(ctx) })
	}
	if t, err := a.opt.Token(); err == nil {
		a.token = &t
	} else {
		a.log.WithError(err).Info("Corosync's token timeout is not known: whether an isolated holder can stop cleanly is not said")
	}
	if a.opt.Socket != "" {
		server, err := control.Listen(a.opt.Socket, control.ReaderGID(), handler{a})
		if err != nil {
			return err
		}
		drivers.Go(func() {
			if err := server.Serve(ctx); err != nil {
				a.log.WithError(err).Error("the control socket ended")
			}
		})
	}
	for _, k := range a.keepers {
		a.takeUp(ctx, k)
	}
	drivers.Go(func() { a.watch(ctx) })
	drivers.Go(func() { a.clock.Work(ctx) })
	drivers.Go(func() { a.watchConfiguration(ctx) })
	drivers.Go(func() { a.watchPacemaker(ctx) })
	drivers.Go(func() { a.refence(ctx) })
	if a.opt.Tell != nil {
		drivers.Go(func() { a.tellAlarms(ctx) })
	}
	return a.loop(ctx, signals)
}

// identify learns who this node is. The name comes from the configuration, from an earlier agent of this boot, or
// from Pacemaker, which is waited for: at boot it starts after this agent.
func (a *Agent) identify(ctx context.Context, signals <-chan os.Signal) error {
	_, err := a.opt.Guard.Status(ctx)
	boot, err := a.bootID(!errors.Is(err, guardapi.ErrNoGuard)) // a frozen guard does not answer, and is one
	if err != nil {
		return err
	}
	a.kernelBoot, _, _ = strings.Cut(boot, ".")
	instance, err := newInstance(a.started)
	if err != nil {
		return err
	}
	if a.known, err = a.loadKnown(); err != nil {
		return err
	}
	if a.causes, err = cause.Open(filepath.Join(a.opt.StateDir, cause.AgentFile)); err != nil {
		a.log.WithError(err).Warn("earlier causes cannot be read")
	}
	if err := a.findNode(ctx, signals); err != nil || a.node == "" {
		return err
	}
	a.self = lease.Party{Node: a.node, BootID: boot, Instance: instance}
	a.log = a.log.WithField("node", a.node)
	a.log.WithFields(logrus.Fields{"boot": lease.BootMark(boot), "instance": instance.String(), "profile": a.budget().Profile}).
		Info("agent starts")
	return nil
}

func (a *Agent) findNode(ctx context.Context, signals <-chan os.Signal) error {
	path := filepath.Join(a.opt.RunDir, "node.json")
	var kept string
	switch {
	case a.opt.Config.Node != "":
		a.node = a.opt.Config.Node
	case readJSON(path, &kept) == nil && kept != "":
		a.node = kept
	}
	for a.node == "" {
		one, cancel := context.WithTimeout(ctx, toolTime)
		name, err := a.opt.Cluster.LocalNode(one)
		cancel()
		if err == nil {
			a.node = name
			break
		}
		a.herald.turn(a.opt.Now(), "waiting for Pacemaker to tell this node's name", false)
		select {
		case s := <-signals:
			a.log.Infof("%v: ends before it held anything", s)
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
	return writeJSON(path, a.node)
}

// loop steps every Holder. Nothing in it waits for anything but the next event.
func (a *Agent) loop(ctx context.Context, signals <-chan os.Signal) error {
	alarm := boottime.NewAlarm()
	defer alarm.Stop()
	for {
		now := a.opt.Now()
		next := now.Add(time.Second)
		if a.leaving {
			next = now.Add(provePace)
		}
		for _, k := range a.keepers {
			if k.begun {
				next = lease.Earlier(next, k.holder.Next())
			}
		}
		a.herald.turn(now, a.oneLine(), a.leaving)
		a.noteHolding()
		a.tellContact(now)
		if end, err := a.finished(); end {
			return err
		}
		alarm.Set(next)
		select {
		case <-ctx.Done():
			return nil
		case l := <-a.mail:
			l.to.step(l.ev)
		case call := <-a.calls:
			call()
		case <-alarm.C():
		case s := <-signals:
			a.signalled(s)
		}
		a.tickDue()
	}
}

// tickDue lets every Holder look at the clock whose time has come: a busy mailbox must not hide a deadline.
func (a *Agent) tickDue() {
	now := a.opt.Now()
	for _, k := range a.keepers {
		if k.begun && k.holder.Next() <= now {
			k.step(lease.Tick{})
		}
	}
}

// closeTime is how long an agent that ends waits for the attributes of its leases to be away.
const closeTime = 2 * toolTime

// finished tells whether the loop is to end: every lease was left, or this agent must not go on.
func (a *Agent) finished() (bool, error) {
	if a.fatal != nil {
		return true, a.fatal
	}
	if a.handsOver || !a.leaving {
		return a.handsOver, nil
	}
	closed := true
	for _, k := range a.keepers {
		if !k.begun {
			continue
		}
		v := k.holder.View()
		if !v.MayEnd {
			return false, nil
		}
		paused := v.Phase == lease.Paused || v.Phase == lease.Resuming
		closed = closed && (paused || k.gate.isClosed())
	}
	// An attribute that stays behind would be an open gate without a lease.
	if a.left == 0 {
		a.left = a.opt.Now()
	}
	if !closed && a.opt.Now().Sub(a.left) < closeTime {
		return false, nil
	}
	for _, k := range a.keepers {
		if at := k.holder.View().ResetAt; k.begun && at != lease.Never {
			k.log().Errorf("the pause has an end: unless leasedog is started before, the guard resets this node in %v",
				at.Sub(a.opt.Now()).Round(time.Second))
		}
	}
	a.log.WithField("closed", closed).Info("every lease was left: the agent ends")
	return true, nil
}

// together reports whether every node of the cluster is in this partition: what this copy of the configuration says is
// what the others' says. Of a node that is away it may be older, and there a rule may still start what runs here.
func together(st pcmk.Status) bool {
	return len(st.Nodes) > 0 && !slices.ContainsFunc(st.Nodes, func(n pcmk.Node) bool {
		return n.Online != pcmk.Yes || n.Pending != pcmk.No || n.Unclean == pcmk.Yes
	})
}

// leave asks the Holder for a planned loss, after looking whether anything still depends on the lease: after leasedog
// constraints --remove nothing is to be stopped, which it reports. What cannot be read counts as guarded. It must not be called
// by the loop.
func (k *keeper) leave(cause string) (unguarded bool) {
	ctx, cancel := context.WithTimeout(k.a.life, toolTime)
	defer cancel()
	cib, err := k.a.opt.Cluster.CIB(ctx)
	if err == nil && !cib.DependsOn(k.gate.name) {
		status, err := k.a.opt.Cluster.Status(ctx)
		unguarded = err == nil && together(status)
	}
	k.post(lease.LeaveAsked{Cause: cause, Retire: true, Unguarded: unguarded})
	return unguarded
}

// reload reads the configuration again. What changes the budget acts with the next grant.
func (a *Agent) reload() {
	fresh, err := config.LoadAgent(a.opt.ConfigPath)
	if err != nil {
		a.log.WithError(err).Error("reload: the configuration has problems; the one in use stays")
		return
	}
	if len(fresh.Leases) != len(a.opt.Config.Leases) || fresh.Cluster != a.opt.Config.Cluster {
		a.log.Error("reload: leases or cluster changed: restart leasedog.service for that; the configuration in use stays")
		return
	}
	b := a.effective(fresh.Budget())
	if v := b.Violations(); len(v) > 0 {
		a.log.Errorf("reload: with the watchdog of this node the budget does not hold: %v; the one in use stays", v[0])
		return
	}
	a.base.Store(new(fresh.Budget()))
	a.bud.Store(&b)
	for _, k := range a.keepers {
		k.holder.SetBudget(b)
	}
	a.log.WithField("profile", b.Profile).Info("configuration read again; a changed budget acts with the next grant")
}

// effective is a budget with what the guard can do on this node.
func (a *Agent) effective(b lease.Budget) lease.Budget {
	a.mu.Lock()
	p := a.preflight
	a.mu.Unlock()
	if p.Watchdog > b.Watchdog {
		b = b.WithWatchdog(p.Watchdog)
	}
	return b
}

// takeUp gives a keeper what an earlier agent of this boot left. Without anything left it begins with the first
// survey, which knows whether a guarded resource is active.
func (a *Agent) takeUp(ctx context.Context, k *keeper) {
	record, err := a.readRecord(k.name)
	if err != nil {
		k.log().WithError(err).Error("what /run says of the lease cannot be read: it goes through losing")
		record = &lease.RunRecord{Lease: k.name, State: "unreadable", Party: a.self, Budget: a.budget(),
			Hold: a.budget().Hold()}
	}
	armed, err := a.guardShows(ctx, k.name)
	for err != nil && record != nil && a.opt.Now() < record.Sent.Add(record.Budget.LossAfter) {
		armed, err = a.guardShows(ctx, k.name)
	}
	if err != nil {
		k.log().WithError(err).Error("the guard runs but does not answer: it is taken to be armed")
		if record != nil {
			armed = &lease.GuardState{Sent: record.Sent, Until: record.Sent.Add(record.Budget.HardDeadline())}
		}
	}
	if record != nil && armed != nil && record.Epoch == 0 && armed.Epoch != 0 {
		record.Epoch = armed.Epoch
	}
	watched, err := a.guardShows(ctx, k.name+foundActive)
	if err != nil { // it is taken to be armed as long as it may be
		now := a.opt.Now()
		watched = &lease.GuardState{Epoch: foundEpoch, Sent: now, Until: now.Add(a.budget().StopBudget)}
	}
	if k.watched = watched; record == nil && armed == nil {
		return
	}
	k.step(lease.Found{Record: record, Guard: armed, Watched: watched})
}

func (a *Agent) saveKnown(k *keeper, act lease.SaveKnown) {
	key := "behind"
	if act.Wait {
		key = ""
	}
	a.knownNew.Store(&act.Known)
	a.knownDisk.add(key, func(context.Context) {
		err := writeDurable(a.knownPath(), a.knownNew.Load()) // the newest: what is on disk never goes back
		if act.Wait {
			k.post(lease.KnownSaved{Epoch: act.Epoch, Err: text(err)})
		} else if err != nil {
			a.log.WithError(err).Warn("what is known of the arbiter cannot be saved")
		}
	})
}

// noteJumps passes machine pauses that the guard has found to every Holder, each once.
func (a *Agent) noteJumps(found []guardapi.Jump) {
	a.mu.Lock()
	var fresh []guardapi.Jump
	for _, j := range found {
		known := false
		for _, old := range a.jumps {
			known = known || old.S2 == j.S2
		}
		if !known {
			fresh = append(fresh, j)
		}
	}
	a.jumps = append(a.jumps, fresh...)
	a.mu.Unlock()
	for _, j := range fresh {
		a.clock.Paused(ntpaudit.Pause{Until: j.S2, Size: j.Size})
		for _, k := range a.keepers {
			k.post(lease.Jumped{Until: j.S2, Size: j.Size})
		}
	}
}

func (a *Agent) noteContact(err error, took time.Duration, direct bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		if a.life.Err() == nil {
			a.contact.err = err.Error()
		}
		return
	}
	a.contact.at, a.contact.err = a.opt.Now(), ""
	if direct {
		a.contact.rtts = append(a.contact.rtts, took)
		if n := len(a.contact.rtts); n > keepRTTs {
			a.contact.rtts = append(a.contact.rtts[:0], a.contact.rtts[n-keepRTTs:]...)
		}
	}
}

// keepRTTs bounds what percentiles are computed from: twelve minutes of renewals in profile lan.
const keepRTTs = 1000

// retire ends this agent: a newer instance speaks for the node. What is armed counts on.
func (a *Agent) retire(cause string) {
	a.fatal = fmt.Errorf("a newer agent speaks for this node: %s", cause)
}

// keepEvents bounds the history that "leasedog why" shows of this agent's life.
const keepEvents = 256

func (a *Agent) remember(e control.Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.events = append(a.events, e)
	if len(a.events) > keepEvents {
		a.events = append(a.events[:0], a.events[len(a.events)-keepEvents:]...)
	}
}
