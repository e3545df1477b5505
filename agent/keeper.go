package agent

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/leasedog/leasedog/agent/cause"
	"github.com/leasedog/leasedog/agent/control"
	"github.com/leasedog/leasedog/config"
	"github.com/leasedog/leasedog/lease"
	"github.com/leasedog/leasedog/pcmk"
	"github.com/leasedog/leasedog/systemd"
)

// keeper is one lease on this node: its Holder, which the loop steps, and the drivers that carry its actions out.
type keeper struct {
	a      *Agent
	name   string        // of the lease; never changes, and so is for every goroutine
	conf   config.Lease  // the loop's, and the survey's: adoptDefinitions changes it
	holder *lease.Holder // the loop's
	begun  bool          // the loop's: Found was given

	gate   *gate
	ladder *ladder
	files  *queue // /run
	disk   *queue // /var/lib, which may hang: nothing waits for it
	guard  *queue

	polls map[uint64]context.CancelFunc // the loop's: acquires that are out
	phase lease.Phase                   // the loop's: the one before
	last  control.Event                 // the loop's: newest transition

	marginAt  lease.Instant // the loop's: when it was told last that a margin was used
	announced bool          // the loop's: a reset was written ahead

	watched  *lease.GuardState // what an earlier agent armed for resources that it found active; for Found
	outdated bool              // see outdated.go
	after    *config.Lease     // the definition that begins when the outdated one was left
	asking   bool              // the loop's: it is being found out how to leave it

	mu      sync.Mutex
	plan    *pcmk.Plan
	planErr error
	survey  survey
}

// errNoPlan is why a lease's resources are not known until the first survey.
var errNoPlan = errors.New("the cluster's configuration was not read yet")

func newKeeper(a *Agent, conf config.Lease) *keeper {
	k := &keeper{a: a, name: conf.Name, conf: conf, files: newQueue(), disk: newQueue(), guard: newQueue(), polls: map[uint64]context.CancelFunc{},
		planErr: errNoPlan}
	k.gate = newGate("leasedog-"+conf.Name, a.node, a.opt.Cluster, a.pacemakerDown, pollEvery,
		func(e lease.Epoch) { k.post(lease.GateOpened{Epoch: e}) })
	k.ladder = &ladder{k: k}
	k.loadPlan()
	k.holder = k.newHolder()
	return k
}

func (k *keeper) newHolder() *lease.Holder {
	return lease.NewHolder(lease.HolderOptions{
		Lease: k.name, Self: k.a.self, Budget: k.a.budget(), Mode: lease.AcquireMode(k.conf.Acquire),
		GiveUpAfter: k.conf.GiveUpAfter, LeaveTimeout: k.leaveTimeout(),
		Defers: k.conf.Prefer != "" && k.conf.Prefer != k.a.node,
	}, k.a.known)
}

// run starts the drivers.
func (k *keeper) run(ctx context.Context, all *sync.WaitGroup) {
	for _, work := range []func(context.Context){k.files.work, k.disk.work, k.guard.work, k.gate.work} {
		all.Go(func() { work(ctx) })
	}
}

func (k *keeper) log() *logrus.Entry { return k.a.log.WithField(keyLease, k.name) }

// post sends an event to the loop. It may be called from any goroutine but the loop's.
func (k *keeper) post(ev lease.Event) {
	select {
	case k.a.mail <- letter{k, ev}:
	case <-k.a.done:
	}
}

// step is the loop's: it gives the Holder one event and carries out what it says.
func (k *keeper) step(ev lease.Event) {
	switch ev := ev.(type) {
	case lease.Found:
		k.begun = true
	case lease.LeaveAsked:
		k.asking = false
	case lease.Answered:
		delete(k.polls, ev.Seq)
		if ev.Answer.Verdict == lease.OK && k.begun {
			k.tellMargin(k.holder.View())
		}
	case lease.Failed:
		delete(k.polls, ev.Seq)
	}
	if !k.begun {
		return
	}
	for _, act := range k.holder.Step(k.a.opt.Now(), ev) {
		k.carryOut(act)
	}
	k.gate.set(k.holder.Gate())
	if _, found := ev.(lease.Found); found && k.a.leaving {
		k.step(lease.LeaveAsked{Cause: "the agent is stopped", Retire: true}) // the others were asked before this one began
	}
	k.leaveOutdated()
}

func (k *keeper) carryOut(act lease.Action) {
	switch act := act.(type) {
	case lease.Send:
		k.send(act)
	case lease.SaveKnown:
		k.a.saveKnown(k, act)
	case lease.WriteRun:
		k.files.add("", func(context.Context) {
			err := k.a.writeRecord(act.Record)
			k.post(lease.RunWritten{State: act.Record.State, Epoch: act.Record.Epoch, Err: text(err)})
		})
	case lease.StartGuard:
		k.startGuard(act.Epoch)
	case lease.Arm:
		k.arm(act)
	case lease.Watch:
		k.watchActive(act)
	case lease.Unwatch:
		k.unwatchActive()
	case lease.Disarm:
		k.disarm(act.Epoch, k.a.self.Instance)
	case lease.OpenGate:
		k.gate.set(act.Epoch)
	case lease.CloseGate:
		k.gate.set(0)
	case lease.Stop:
		k.ladder.start(k.a.life, act)
	case lease.Enter:
		k.entered(act)
	case lease.Note:
		level := logrus.InfoLevel
		if act.Alarm {
			level = logrus.WarnLevel
		}
		k.log().Log(level, act.Text)
	case lease.Retire:
		k.a.retire(act.Cause)
	case lease.Fenced:
		k.fenced(act)
	default:
		panic("agent: unknown action")
	}
}

// entered is one line of the log, one of the history, and what others want to know of it.
func (k *keeper) entered(act lease.Enter) {
	v := k.holder.View()
	fields := logrus.Fields{keyEpoch: uint64(act.Epoch), keyCause: act.Cause, keyPhase: string(act.Phase),
		systemd.MessageIDField: messageID(act.Phase)}
	k.log().WithFields(fields).Infof("lease %s: %s (%s)", k.name, act.Phase, act.Cause)
	k.last = control.Event{At: time.Now().UTC().Format(time.RFC3339Nano), Lease: k.name, Epoch: uint64(act.Epoch),
		What: string(act.Phase), Cause: act.Cause}
	k.a.remember(k.last)
	k.tellTransition(k.phase, act)
	k.phase = act.Phase
	switch act.Phase {
	case lease.Losing, lease.Leaving:
		if act.Epoch != 0 {
			k.tellGuard(k.name, act.Phase, act.Epoch, act.Cause)
		} else if v.ResetAt != lease.Never {
			k.tellGuard(k.name+foundActive, act.Phase, foundEpoch, act.Cause)
		}
		if act.Phase == lease.Losing && v.ResetAt != lease.Never {
			k.announced = true
			k.recordCause(cause.Announced, act.Epoch, act.Cause, v.ResetAt)
		}
	case lease.Stopped:
		k.ladder.halt()
		if k.announced {
			k.announced = false
			k.recordCause(cause.Averted, act.Epoch, act.Cause, lease.Never)
		}
	}
	if act.Phase != lease.Acquiring {
		for seq, cancel := range k.polls {
			cancel()
			delete(k.polls, seq)
		}
	}
	k.a.pokeSurvey()
	go func() { // for human eyes only: nothing waits for it
		ctx, cancel := context.WithTimeout(k.a.life, toolTime)
		defer cancel()
		if act.Phase == lease.Standby || act.Phase == lease.Held || act.Phase == lease.Paused {
			k.gate.say(ctx, string(act.Phase)) // not on the way out of a lease, where the tool is needed
		}
	}()
}

// send asks the arbiter, on a goroutine that ends with the request's deadline.
func (k *keeper) send(s lease.Send) {
	ctx, cancel := context.WithTimeout(k.a.life, max(0, s.Deadline.Sub(k.a.opt.Now())))
	if acq, ok := s.Body.(lease.Acquire); ok && acq.Claim == nil {
		k.polls[s.Seq] = cancel
	}
	began := k.a.opt.Now()
	go func() {
		defer cancel()
		answer, err := k.a.opt.Arbiter.Ask(ctx, k.name, s.Body)
		_, poll := s.Body.(lease.Acquire)
		came := k.a.opt.Now()
		k.a.noteContact(err, came.Sub(began), !poll)
		if err != nil {
			k.post(lease.Failed{Seq: s.Seq, Err: err.Error()})
			return
		}
		k.a.noteClock(began, came, answer.Clock)
		k.post(lease.Answered{Seq: s.Seq, Answer: answer})
	}()
}

// currentPlan is how the resources are stopped and checked, as read while the cluster was healthy.
func (k *keeper) currentPlan() (pcmk.Plan, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.plan == nil {
		return pcmk.Plan{}, k.planErr
	}
	return *k.plan, nil
}

// learnPlan keeps a plan that was read now, in /run too for a successor that starts while Pacemaker hangs.
func (k *keeper) learnPlan(p pcmk.Plan, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.planErr = err
	if err != nil {
		return // the last good one stays in use
	}
	if k.plan == nil || !samePlan(*k.plan, p) {
		k.plan = &p
		k.files.add("plan", func(context.Context) {
			if err := writeJSON(k.a.planPath(k.name), p); err != nil {
				k.log().WithError(err).Warn("the plan to stop the resources cannot be kept for a successor")
			}
		})
	}
}

func (k *keeper) loadPlan() {
	var p pcmk.Plan
	if err := readJSON(k.a.planPath(k.name), &p); err == nil && len(p.Primitives()) > 0 && p.Node == k.a.node {
		k.plan = &p
	}
}

// leaveTimeout is how long Pacemaker's own ordered stop is waited for: as configured, or the sum of the stop
// timeouts.
func (k *keeper) leaveTimeout() time.Duration {
	if k.conf.LeaveTimeout > 0 {
		return k.conf.LeaveTimeout
	}
	plan, err := k.currentPlan()
	if err != nil {
		return defaultLeave
	}
	sum := time.Duration(0)
	for _, p := range plan.Primitives() {
		sum += p.Timeout(string(pcmk.Stop))
	}
	return sum
}

// defaultLeave is used while the stop timeouts are not known yet.
const defaultLeave = time.Minute

// messageID marks a transition's line in the journal (journalctl MESSAGE_ID=…). The ids never change.
func messageID(p lease.Phase) string {
	switch p {
	case lease.Standby:
		return "2dad4a68f055402bb81063e929d5f805"
	case lease.Acquiring:
		return "d6e43354f90f49b88541cb09a545e1cc"
	case lease.Winning:
		return "dac65b13750a4e6cbe4ef2fbffd5f40c"
	case lease.Held:
		return "ba5326818d714793a9456272df9345c3"
	case lease.Leaving:
		return "22145f8273cb4ee2a60fc023dc341139"
	case lease.Losing:
		return "cc22ddfc9e444314aa4d81ecb82f2aa9"
	case lease.Stopped:
		return "5ce1b76de0a1458789fd280bfb69ec6d"
	case lease.Paused:
		return "48c867d272b1401382362858af18c622"
	case lease.Resuming:
		return "d0eb93d454f54e7fba837277d526cf78"
	}
	panic("agent: phase without a message id: " + string(p))
}
