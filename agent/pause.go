package agent

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/leasedog/leasedog/agent/control"
	"github.com/leasedog/leasedog/lease"
)

// settlePace is how often a command that waits for the Holder looks at it.
const settlePace = 20 * time.Millisecond

// longPause is how long a pause without an end may last before that is an alarm: most are forgotten ones then.
const longPause = 4 * time.Hour

// settle lets the loop do something and looks at the Holder until it is done with it, or ctx ends.
func (h handler) settle(ctx context.Context, k *keeper, do func(), done func(lease.View) bool) (lease.View, bool) {
	var v lease.View
	h.a.inLoop(func() { do(); v = k.holder.View() })
	for !done(v) {
		if pause(ctx, settlePace) != nil {
			return v, false
		}
		h.a.inLoop(func() { v = k.holder.View() })
	}
	return v, true
}

// pause answers when the arbiter has: until then, and if its answer is lost, the lease is not paused.
func (h handler) pause(ctx context.Context, k *keeper, seconds float64) (string, error) {
	name := k.name
	switch {
	case math.IsNaN(seconds) || seconds < 0:
		return "", control.Refuse(control.CodeBadRequest, "", "a pause of %g s is no length", seconds)
	case seconds > maxPause.Seconds():
		return "", control.Refuse(control.CodeBadRequest, "leave --for out for a pause without an end",
			"a pause of %.0f h is longer than %v", seconds/3600, maxPause)
	}
	length := time.Duration(seconds * float64(time.Second))
	ctx, cancel := context.WithTimeout(ctx, h.a.budget().RequestTimeout+time.Second)
	defer cancel()
	v, ok := h.settle(ctx, k, func() { k.step(lease.PauseAsked{For: length}) }, func(v lease.View) bool {
		return v.PauseProblem != "" || v.Phase != lease.Held
	})
	switch {
	case v.PauseProblem != "":
		return "", control.Refuse(control.CodeRefused, h.pauseHint(v, name), "lease %s is not paused: %s", name, v.PauseProblem)
	case !ok || v.Phase != lease.Paused:
		return "", control.Refuse(control.CodeTryAgain, "leasedog status", "lease %s: no answer yet; it counts as not paused", name)
	}
	return "lease " + name + " is paused: " + k.nextPaused(h.a.opt.Now(), v), nil
}

// maxPause bounds what is passed on; the arbiter has its own limit and names it.
const maxPause = 30 * 24 * time.Hour

func (h handler) pauseHint(v lease.View, name string) string {
	switch {
	case v.Phase == lease.Paused:
		return "leasedog resume " + name + " first"
	case v.LastDenial.Holder != "" && v.LastDenial.Holder != h.a.node:
		return fmt.Sprintf("%s holds it: run leasedog pause there", v.LastDenial.Holder)
	case v.Phase == lease.Held:
		return "the lease is held and renewed as before"
	}
	return "leasedog status says who holds it"
}

// resume ends a pause of this node. One of another node is only asked for, at the arbiter: nobody else can know that the
// holder's guard is armed again.
func (h handler) resume(ctx context.Context, k *keeper) (string, error) {
	name := k.name
	ctx, cancel := context.WithTimeout(ctx, resumeTime)
	defer cancel()
	var before lease.Phase
	v, ok := h.settle(ctx, k, func() {
		if before = k.holder.View().Phase; before == lease.Paused {
			k.step(lease.ResumeAsked{})
		}
	}, func(v lease.View) bool { return v.Phase != lease.Resuming })
	switch {
	case before == lease.Held:
		return "", control.Refuse(control.CodeRefused, "", "lease %s is held by this node and not paused", name)
	case before != lease.Paused && before != lease.Resuming:
		return h.askToResume(ctx, k)
	case v.Phase == lease.Held:
		return "lease " + name + " is held again: renewed, and the guard is armed", nil
	case v.PauseProblem != "":
		return "", control.Refuse(control.CodeRefused, "", "lease %s stays paused: %s", name, v.PauseProblem)
	case !ok:
		return "lease " + name + " resumes as soon as the arbiter answers; until then it is paused", nil
	}
	return "", control.Refuse(control.CodeTryAgain, "leasedog status", "lease %s is %s now", name, v.Phase)
}

// resumeTime is how long a command waits for a resume, which takes a renewal, the guard's start and one more request.
const resumeTime = 8 * time.Second

func (h handler) askToResume(ctx context.Context, k *keeper) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, h.a.budget().RequestTimeout+time.Second)
	defer cancel()
	answer, err := h.a.opt.Arbiter.Ask(ctx, k.name, lease.ResumeAsk{})
	switch {
	case err != nil:
		return "", control.Refuse(control.CodeTryAgain, "", "the arbiter does not answer: %v", err)
	case answer.Verdict != lease.OK:
		return "", control.Refuse(control.CodeRefused, "", "%s", answer.Reason)
	}
	return fmt.Sprintf("nothing has changed yet: %s, which paused lease %s, is asked to resume. %s", answer.Holder, k.name,
		answer.Reason), nil
}

// nextPaused tells what a pause means and when it ends.
func (k *keeper) nextPaused(now lease.Instant, v lease.View) string {
	const quiet = "the resources run on, the peer is denied, nothing here is stopped or reset"
	switch {
	case v.Maintenance:
		return quiet + "; it ends when Pacemaker's maintenance does"
	case v.PauseFor == 0:
		return quiet + " until leasedog resume " + k.name
	}
	end := v.PausedSince.Add(v.PauseFor).Sub(now)
	return fmt.Sprintf("%s; it resumes by itself shortly before %s (in %v). If it cannot, the resources are stopped then, "+
		"and %v later this node is reset", quiet, time.Now().Add(end).Format("15:04:05"), end.Round(time.Second), v.Budget.StopBudget)
}

// pauseAlarms is the loop's: a pause that nobody remembers, and maintenance of which the arbiter does not know.
func (k *keeper) pauseAlarms(now lease.Instant) (out []control.Alarm) {
	v, s := k.holder.View(), k.lastSurvey()
	switch {
	case v.Phase == lease.Paused && v.PauseFor == 0 && now.Sub(v.PausedSince) > longPause:
		out = append(out, control.Alarm{Text: fmt.Sprintf("lease %s has been paused for %v: nothing protects it", k.name,
			now.Sub(v.PausedSince).Round(time.Minute)), Hint: "leasedog resume " + k.name})
	case v.Phase == lease.Held && s.maintenance == lease.Yes:
		out = append(out, control.Alarm{Text: fmt.Sprintf("lease %s: maintenance is not pinned: the arbiter has not been told. "+
			"Unless a renewal is acknowledged this node stops its resources in %.1f s", k.name, max(0, v.LoseAt.Sub(now).Seconds())),
			Hint: "is the arbiter reachable? leasedog status"})
	}
	return out
}
