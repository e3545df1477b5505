package sim

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// mistake is a named list of replacements, each of which must match exactly once.
type mistake struct {
	name   string
	preset string
	edits  []edit
}

type edit struct{ file, old, new string }

// TestMistakesMatch: a mistake whose text is no longer in lease/ is none. TestMutation plays them.
func TestMistakesMatch(t *testing.T) {
	all := append(nodeMistakes(), arbiterMistakes()...)
	if len(all) < 24 {
		t.Errorf("%d known mistakes, want 24", len(all))
	}
	names := map[string]bool{}
	for _, m := range all {
		if _, ok := presets()[m.preset]; !ok || names[m.name] || len(m.edits) == 0 {
			t.Errorf("%q: preset %q, %d edits, or the name is used twice", m.name, m.preset, len(m.edits))
		}
		names[m.name] = true
		texts := map[string]string{}
		for _, e := range m.edits {
			if texts[e.file] == "" {
				b, err := os.ReadFile(filepath.Join("../lease", e.file))
				if err != nil {
					t.Fatal(err)
				}
				texts[e.file] = string(b)
			}
			if n := strings.Count(texts[e.file], e.old); n != 1 {
				t.Errorf("%s: %d matches of %q in %s: the code has changed, and the mistake has to follow it", m.name, n, e.old, e.file)
			}
			texts[e.file] = strings.Replace(texts[e.file], e.old, e.new, 1)
		}
	}
}

// nodeMistakes are those of Holder, Deadman and Budget.
func nodeMistakes() []mistake {
	return append(holderMistakes(), append(guardMistakes(), pauseMistakes()...)...)
}

func holderMistakes() []mistake {
	return []mistake{
		{"the lease counts from the answer", "hang", []edit{
			{"holder_send.go", "		h.sent = p.sent\n		if h.armed", "		h.sent = now\n		if h.armed"}}},
		{"a grant counts from the Sent of its long poll", "hang", []edit{
			{"holder_send.go", "		h.becomeWinning(now, a)\n", "		h.becomeWinning(now, a)\n		h.sent = p.sent\n"}}},
		{"the lease is held for twice L", "hang", []edit{
			{"holder.go", "	case Held, Leaving:\n		at := h.sent.Add(h.budget.LossAfter)\n", "	case Held, Leaving:\n		at := h.sent.Add(2 * h.budget.LossAfter)\n"},
			{"holder.go", "			at = Earlier(at, h.armed.Add(-h.budget.StopBudget))\n", "			_ = at\n"},
			{"holder_become.go", "	until := h.sent.Add(h.budget.HardDeadline())\n", "	until := h.sent.Add(h.budget.HardDeadline() + h.budget.LossAfter)\n"}}},
		{"the lease is released before the proof", "any", []edit{
			{"holder_become.go", "	h.do(Stop{Ladder: h.ladder, From: now, Until: h.resetAt()})\n}\n\n// becomeStopped",
				"	h.do(Stop{Ladder: h.ladder, From: now, Until: h.resetAt()})\n	h.send(now, kindRelease, h.budget.RequestTimeout, func(seq uint64) any {\n		return Release{Party: h.party, Epoch: h.epoch, Seq: seq, Seen: h.known.Stamp}\n	})\n}\n\n// becomeStopped"}}},
		{"the guard is disarmed before the proof", "any", []edit{
			{"holder_become.go", "	h.do(Stop{Ladder: h.ladder, From: now, Until: h.resetAt()})\n}\n\n// becomeStopped",
				"	h.do(Stop{Ladder: h.ladder, From: now, Until: h.resetAt()})\n	h.do(Disarm{Epoch: h.epoch})\n}\n\n// becomeStopped"}}},
		{"the attribute is set before the guard is armed", "hang", []edit{
			{"holder_become.go", "		h.step = stepGuard\n		h.do(StartGuard{Epoch: h.epoch})\n	case h.phase == Resuming && h.step == stepRun",
				"		h.step = stepGate\n		h.do(OpenGate{Epoch: h.epoch})\n	case h.phase == Resuming && h.step == stepRun"}}},
		{"the attribute is set although the guard did not arm", "any", []edit{
			{"holder_become.go", "			h.lose(now, \"the guard does not arm: \"+ev.Err)\n", "			h.step = stepGate\n			h.do(OpenGate{Epoch: h.epoch})\n"}}},
		{"a longer watchdog is not noticed", "hang", []edit{
			{"holder_become.go", "		if ev.Watchdog > h.budget.Watchdog {\n", "		if false {\n"}}},
		{"an acknowledgement in losing brings the lease back", "agents", []edit{
			{"holder_send.go", "	switch h.phase {\n	case Winning, Held, Leaving, Resuming, Paused:\n	default:\n		return\n	}\n",
				"	if h.phase == Losing && a.Verdict == OK {\n		h.becomeHeld(now, \"revived\")\n	}\n"},
			{"holder_become.go", "	h.out, h.adopting, h.pausing, h.startBy, h.step = nil, false, false, 0, stepNone\n",
				"	h.adopting, h.pausing, h.startBy, h.step = false, false, 0, stepNone\n"}}},
		{"a leaving is taken up as held", "agents", []edit{
			{"holder_step.go", "case r.State == RunHeld && inTime:", "case (r.State == RunHeld || r.State == RunLeaving) && inTime:"}}},
		{"held is taken up without an armed guard", "agents", []edit{
			{"holder_step.go", "	inTime := guarded && now", "	inTime := now"}}},
		{"nothing is renewed while leaving", "moves", []edit{
			{"holder_step.go", "	case Winning, Held, Leaving, Resuming:\n		h.sendRenew(now)", "	case Winning, Held, Resuming:\n		h.sendRenew(now)"}}},
		{"the new store's id is never taken", "stores", []edit{
			{"known.go", "if a.Verdict == Recovery && a.Echo != nil && *a.Echo == left {", "if false {"}}},
		{"drift is ignored", "drift", []edit{
			{"budget.go", "big.NewInt(int64(million-t.DriftPPM))", "big.NewInt(million)"},
			{"budget.go", "big.NewRat(int64(million+t.DriftPPM), million)", "big.NewRat(1, 1)"}}},
	}
}

func guardMistakes() []mistake {
	return []mistake{
		{"the watchdog is fed as long as the guard lives", "hang", []edit{
			{"deadman.go", "		if now > d.armed[i].Until {", "		if false {"},
			{"deadman.go", "DeadmanAction{Do: DeadmanFeed, At: d.Nearest()}", "DeadmanAction{Do: DeadmanFeed, At: Never}"},
			{"deadman.go", "		d.act(DeadmanAction{Do: DeadmanSetTimer, At: at})\n", ""}}},
		{"no kill timer around the feed", "guards", []edit{
			{"deadman.go", "		d.act(DeadmanAction{Do: DeadmanSetTimer, At: at})\n", ""}}},
		{"the kill timer is not moved with a shorter deadline", "pauses", []edit{
			{"deadman.go", "		d.armed[i].Until, d.armed[i].Sent, d.armed[i].Instance = until, e.Sent, e.Instance\n		d.setTimer(now)\n",
				"		d.act(DeadmanAction{Do: DeadmanAccept, Lease: e.Lease, At: until})\n		return\n"}}},
		{"a pause of the machine is taken off nothing", "machines", []edit{
			{"deadman.go", "		d.armed[i].Until = d.armed[i].Until.Add(-e.Size)", "		_ = i"}}},
		{"the guard counts one lease only", "leases", []edit{
			{"deadman.go", "	for i := range d.armed {\n		nearest = Earlier(nearest, d.armed[i].Until)\n	}\n", "	for i := range d.armed {\n		nearest = d.armed[i].Until\n	}\n"},
			{"deadman.go", "	for i := range d.armed {\n		if now > d.armed[i].Until {", "	for i := len(d.armed) - 1; i >= 0 && i == len(d.armed)-1; i-- {\n		if now > d.armed[i].Until {"}}},
	}
}

func pauseMistakes() []mistake {
	return []mistake{
		{"a pause is entered before it is answered", "pauses", []edit{
			{"holder_pause.go", "For: length, Terms: h.budget.Terms}\n	})\n", "For: length, Terms: h.budget.Terms}\n	})\n	h.becomePaused(now, now)\n"}}},
		{"resume leaves before the guard is armed", "pauses", []edit{
			{"holder_send.go", "	tell := h.phase == Resuming && h.step == stepTell", "	tell := h.phase == Resuming"}}},
		{"resume leaves before /run says held", "pauses", []edit{
			{"holder_become.go", "		h.step, h.rearmed = stepRun, true\n		h.writeRun(RunHeld)", "		h.step, h.rearmed = stepTell, true\n		h.nextSend = now"}}},
		{"a pause with an end is not longer by its stop", "pauses", []edit{
			{"grantor_renew.go", "	return t.NeededHold() + g.opt.Grace, \"\"", "	return b.For + g.opt.Grace, \"\""},
			{"holder_pause.go", "	case h.pauseFor > 0 && a.Hold < need:", "	case false && a.Hold < need:"}}},
		{"after a restart a pause ends with the ordinary hold", "pauses", []edit{
			{"grantor_record.go", "	case r.State == RecordPaused && r.PauseHold == 0:\n		return 0, false\n", ""}}},
		{"resume asked elsewhere ends the pause", "resumes", []edit{
			{"grantor_operator.go", "	l.resumeAsk = true\n", "	l.resumeAsk = true\n	l.holdEnd = g.at.Add(l.rec.Hold)\n"}}},
	}
}

// arbiterMistakes are those of Grantor and Observer.
func arbiterMistakes() []mistake {
	out := append(grantMistakes(), recoveryMistakes()...)
	return append(out, []mistake{
		{"several arbiters: a renewal is no new observation", "several", []edit{
			{"observer.go", "		o.revision, o.hold, o.since = revision, hold, received\n",
				"		if o.since == 0 {\n			o.since = received\n		}\n		o.revision, o.hold = revision, hold\n"}}},
		{"several arbiters: half the hold is enough", "several", []edit{
			{"observer.go", "sent.Sub(o.since) > o.hold", "sent.Sub(o.since) > o.hold/2"}}},
		{"several arbiters: one look is enough", "several", []edit{
			{"observer.go", "	return o.since != 0 && revision == o.revision && sent != Never && sent.Sub(o.since) > o.hold", "	return o.since != 0 && revision == o.revision"}}},
	}...)
}

func grantMistakes() []mistake {
	return []mistake{
		{"no quarantine", "restarts", []edit{
			{"grantor.go", "			l.quarantine = true\n", "			l.expired = r.State == RecordHeld\n"}}},
		{"half a quarantine", "restarts", []edit{
			{"grantor.go", "				l.holdEnd = now.Add(hold)\n", "				l.holdEnd = now.Add(hold / 2)\n"}}},
		{"in quarantine the boot on record is granted at once", "stores", []edit{
			{"grantor_acquire.go", " && l.lapseAt == 0 && !l.quarantine &&", " && l.lapseAt == 0 &&"}}},
		{"a grant is answered before it is on disk", "any", []edit{
			{"grantor_acquire.go", "	g.writeLease(op, \"granted\", cause)\n", "	for _, id := range op.ids {\n		g.reply(id, op.answer)\n	}\n	op.ids = nil\n	g.writeLease(op, \"granted\", cause)\n"}}},
		{"a renewal with an old number extends", "slow", []edit{
			{"grantor_renew.go", "	if !repeat && g.stale(l, r) {\n", "	if false {\n"}}},
		{"a repeat of a renewal extends", "slow", []edit{
			{"grantor_renew.go", "	if !repeat {\n", "	if true {\n"}}},
		{"the hold is 2 s too short", "hang", []edit{
			{"grantor_renew.go", "		l.holdEnd = Later(l.holdEnd, now.Add(l.rec.Hold))", "		l.holdEnd = Later(l.holdEnd, now.Add(l.rec.Hold-2*time.Second))"}}},
		{"the hold of whoever waits is waited out", "mixed", []edit{
			{"grantor_renew.go", "		l.holdEnd = Later(l.holdEnd, now.Add(l.rec.Hold))", "		h := l.rec.Hold\n		for _, w := range l.waiters {\n			if w.req.Hold != 0 {\n				h = min(h, w.req.Hold)\n			}\n		}\n		l.holdEnd = Later(l.holdEnd, now.Add(h))"}}},
		{"the hold begins with the grant and not with renewals", "hang", []edit{
			{"grantor_renew.go", "		l.holdEnd = Later(l.holdEnd, now.Add(l.rec.Hold))", "		if l.holdEnd == 0 {\n			l.holdEnd = now.Add(l.rec.Hold)\n		}"}}},
		{"an unrenewed grant does not lapse", "slow", []edit{
			{"grantor_renew.go", "		if l.lapseAt != 0 && !l.lapsed && now >= l.lapseAt {", "		if false {"},
			{"grantor_acquire.go", "unused && l.rec.Holder", "false && unused && l.rec.Holder"}}},
		{"an epoch is granted twice to one boot", "moves", []edit{
			{"grantor_acquire.go", "	epoch := max(l.rec.Epoch, l.rec.Floor, a.SeenEpoch) + 1\n", "	epoch := max(l.rec.Epoch, l.rec.Floor, a.SeenEpoch) + 1\n	if l.rec.Holder.SameBoot(a.Party) {\n		epoch--\n	}\n"}}},
		{"another boot of the holder's name is the holder", "clones", []edit{
			{"grantor_acquire.go", "l.rec.State == RecordHeld && l.rec.Holder.SameBoot(w.req.Party)", "l.rec.State == RecordHeld && l.rec.Holder.Node == w.req.Node"}}},
		{"a claim of another boot is adopted", "clones", []edit{
			{"grantor_acquire.go", "	case !rec.Holder.SameBoot(a.Party):\n		g.refuse(r, \"another node or boot holds this epoch\")\n	case a.Instance", "	case rec.Holder.Node != a.Node:\n		g.refuse(r, \"another node or boot holds this epoch\")\n	case a.Instance"},
			{"holder_step.go", "r.Party.Node != h.opt.Self.Node || r.Party.BootID != h.opt.Self.BootID ||", "r.Party.Node != h.opt.Self.Node ||"}}},
		{"two machines of one name are not noticed", "clones", []edit{
			{"grantor_request.go", "			g.twins(n, last, p)\n", "			_ = last\n"},
			{"grantor_request.go", "{ return o.last <= b.first.Add(RetryAfterFailure) }", "{ return true }"}}},
		{"a human's word is taken against what is heard", "free", []edit{
			{"grantor_operator.go", "	case heard && ago <= g.renewWindow(l):\n", "	case false:\n"},
			{"grantor_operator.go", "	case heard && ago < must:\n", "	case false:\n"},
			{"grantor_operator.go", "	case ago < must:\n", "	case false:\n"}}},
		{"an unknown epoch is answered lost", "stores", []edit{
			{"grantor_recovery.go", "		rec, take := g.recordOfClaim(l, r, *c.claim)", "		rec, take := g.recordOfClaim(l, r, *c.claim)\n		take = false"},
			{"grantor_renew.go", "		g.unavailable(r, why)", "		g.reply(r.ID, g.lost(l, seq))"}}},
	}
}

func recoveryMistakes() []mistake {
	return []mistake{
		{"a recovery does not wait for max_hold", "stores", []edit{
			{"grantor_recovery.go", "	if now < g.recoveryWait() {\n		return\n	}\n", ""}}},
		{"a recovery does not wait for both nodes", "lost", []edit{
			{"grantor_recovery.go", "		if len(l.reported) < 2 || now", "		if now"}}},
		{"a recovery takes no claims", "stores", []edit{
			{"grantor_recovery.go", "		rec, take := g.recordOfClaim(l, r, *c.claim)", "		rec, take := g.recordOfClaim(l, r, *c.claim)\n		take = false"}}},
		{"a recovery takes a pause for an ordinary hold", "stores", []edit{
			{"grantor_recovery.go", "	if c.State == ClaimPaused && next.State != RecordPaused {\n		next = g.pausedByClaim(next, c)\n	}\n	// The number", "	// The number"},
			{"grantor_recovery.go", "	case c.State == ClaimPaused && c.PauseFor == 0:\n		return Never\n	case c.State == ClaimPaused:\n		hold = g.claimPauseHold(c)\n", ""},
			{"grantor_acquire.go", "		if c.State == ClaimPaused && rec.State != RecordPaused {", "		if false {"}}},
		{"a pause on record outlives the claim of a later epoch", "paused", []edit{
			{"grantor_renew.go", "		if wasPaused && op.rec.State != RecordPaused {", "		if false {"}}},
		{"a store that went back is not noticed", "stores", []edit{
			{"grantor_recovery.go", "	behind := same && seen.Generation > own.Generation", "	behind := false && same"},
			{"grantor_recovery.go", "		ahead = ahead || top > cl.rec.Epoch\n", ""}}},
		{"an operator's recover goes on with the epochs that are known", "recover", []edit{
			{"grantor_operator.go", "		g.skipEpochs()\n", ""}}},
		{"a barred boot's report does not count", "bars", []edit{
			{"grantor_request.go", "	if !g.judgeSeen(now, r, l) {\n		return\n	}\n	if a := n.barred", "	if a := n.barred"},
			{"grantor_request.go", "	g.verb(now, r, l)\n}\n\nfunc (g *Grantor) verb", "	if g.judgeSeen(now, r, l) {\n		g.verb(now, r, l)\n	}\n}\n\nfunc (g *Grantor) verb"}}},
	}
}
