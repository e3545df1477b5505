package rules

const (
	holderFile  = "lease/holder.go"
	becomeFile  = "lease/holder_become.go"
	sendFile    = "lease/holder_send.go"
	stepFile    = "lease/holder_step.go"
	pauseFile   = "lease/holder_pause.go"
	deadmanFile = "lease/deadman.go"
	clientFile  = "arbiterclient/client.go"
)

// client are the packages that know how a request travels.
func client() []string { return []string{"arbiterclient"} }

// nodeRules are 4.4.
func nodeRules() []Rule {
	return append(append(lossRules(), requestRules()...), handoverRules()...)
}

func lossRules() []Rule {
	return []Rule{
		{ID: "4.4.1", Without: "the lease counts from Sent", Edits: one(sendFile, "		h.sent = p.sent\n		if h.armed", "		h.sent = now\n		if h.armed")},
		{ID: "4.4.1", Without: "a reply after its request's deadline is dropped", Edits: one(stepFile,
			"		if now <= p.deadline {\n			return false\n		}\n", "		if true {\n			return false\n		}\n")},
		{ID: "4.4.2", Without: "an acknowledgement in losing changes nothing", Edits: []Edit{
			{sendFile, "	switch h.phase {\n	case Winning, Held, Leaving, Resuming, Paused:\n	default:\n		return\n	}\n",
				"	if h.phase == Losing && a.Verdict == OK {\n		h.becomeHeld(now, \"revived\")\n	}\n"},
			{becomeFile, "	h.out, h.adopting, h.pausing, h.startBy, h.step = nil, false, false, 0, stepNone\n",
				"	h.adopting, h.pausing, h.startBy, h.step = false, false, 0, stepNone\n"}}},
		{ID: "4.4.2", Without: "in losing nothing is renewed", Edits: one(stepFile,
			"	case Winning, Held, Leaving, Resuming:\n		h.sendRenew(now)", "	case Winning, Held, Leaving, Resuming, Losing:\n		h.sendRenew(now)")},
		{ID: "4.4.2", Without: "in leaving renewals go on", Edits: one(stepFile,
			"	case Winning, Held, Leaving, Resuming:\n		h.sendRenew(now)", "	case Winning, Held, Resuming:\n		h.sendRenew(now)")},
		{ID: "4.4.2", Without: "/run says leaving", Edits: one(becomeFile, "	h.writeRun(RunLeaving)\n", "")},
		{ID: "4.4.2", Without: "without renewals leaving becomes losing", Edits: one(holderFile, "	case Held, Leaving:\n		at :=", "	case Held:\n		at :=")},
		{ID: "4.4.2", Without: "leaving takes the attribute away", Edits: one(becomeFile,
			"	h.writeRun(RunLeaving)\n	h.do(CloseGate{})\n", "	h.writeRun(RunLeaving)\n")},
		{ID: "4.4.3", Without: "the epoch is durable before the win", Edits: one(becomeFile,
			"	if h.step == stepSave && h.saved && h.sent != 0 {", "	if h.step == stepSave && h.sent != 0 {")},
		{ID: "4.4.3", Without: "/run says held before the guard is armed", Edits: one(becomeFile,
			"		h.step = stepRun\n		h.writeRun(RunHeld)\n	}\n}", "		h.step = stepGuard\n		h.do(StartGuard{Epoch: h.epoch})\n	}\n}")},
		{ID: "4.4.3", Without: "the guard is armed before the attribute is set", Edits: one(becomeFile,
			"		h.step = stepGuard\n		h.do(StartGuard{Epoch: h.epoch})\n	case h.phase == Resuming && h.step == stepRun",
			"		h.step = stepGate\n		h.do(OpenGate{Epoch: h.epoch})\n	case h.phase == Resuming && h.step == stepRun")},
		{ID: "4.4.3", Without: "an arm that failed is no arm", Edits: one(becomeFile,
			"			h.lose(now, \"the guard does not arm: \"+ev.Err)\n", "			h.step = stepGate\n			h.do(OpenGate{Epoch: h.epoch})\n")},
		{ID: "4.4.3", Without: "/run says losing", Edits: one(becomeFile, "	h.writeRun(RunLosing)\n", "")},
		{ID: "4.4.3", Without: "losing takes the attribute away", Edits: one(becomeFile,
			"	h.writeRun(RunLosing)\n	h.do(CloseGate{})\n", "	h.writeRun(RunLosing)\n")},
		{ID: "4.4.3", Without: "/run says released before the guard is disarmed", Edits: one(becomeFile,
			"	h.step, h.nextSend = stepRun, now\n	h.enter(now, Stopped", "	h.step, h.nextSend = stepDisarm, now\n	h.enter(now, Stopped")},
		{ID: "4.4.3", Without: "the guard is disarmed after the proof", Edits: one(becomeFile,
			"	h.do(Stop{Ladder: h.ladder, From: now, Until: h.resetAt()})\n}\n\n// becomeStopped",
			"	h.do(Stop{Ladder: h.ladder, From: now, Until: h.resetAt()})\n	h.do(Disarm{Epoch: h.epoch})\n}\n\n// becomeStopped")},
		{ID: "4.4.3", Without: "the release leaves after the disarm", Edits: one(becomeFile,
			"		h.step, h.nextSend = stepDisarm, now\n		if h.epoch == 0 {", "		h.step, h.nextSend = stepRelease, now\n		if h.epoch == 0 {")},
		{ID: "4.4.3", Without: "only the newest ladder's proof counts", Edits: one(stepFile,
			"(h.phase == Leaving || h.phase == Losing) && ev.Ladder == h.ladder", "h.phase == Leaving || h.phase == Losing")},
		// The deadline of an acknowledged arm says the same, from the other end.
		{ID: "4.4.4", Without: "the lease is lost at Sent+L", Edits: []Edit{
			{holderFile, "	case Held, Leaving:\n		at := h.sent.Add(h.budget.LossAfter)\n", "	case Held, Leaving:\n		at := h.sent.Add(h.budget.HardDeadline())\n"},
			{holderFile, "			at = Earlier(at, h.armed.Add(-h.budget.StopBudget))\n", "			_ = at\n"}}},
		{ID: "4.4.4", Without: "the guard resets at Sent+F", Edits: one(becomeFile,
			"	until := h.sent.Add(h.budget.HardDeadline())\n", "	until := h.sent.Add(2 * h.budget.HardDeadline())\n")},
		{ID: "4.4.4", Without: "a guard that takes no extension is heeded", Edits: one(holderFile,
			"			at = Earlier(at, h.armed.Add(-h.budget.StopBudget))\n", "			_ = at\n")},
		{ID: "4.4.4", Without: "time is looked at before the event", Edits: one(stepFile, "	h.expire(now)\n	h.take(now, ev)\n", "	h.take(now, ev)\n	h.expire(now)\n")},
		{ID: "4.4.5", Without: "no error shortens a held lease", Edits: one(sendFile, "	k := h.out[i].kind\n",
			"	k := h.out[i].kind\n	if k == kindRenew && h.phase == Held {\n		h.becomeLosing(now, ev.Err)\n	}\n")},
		{ID: "4.4.5", Without: "no refusal shortens a held lease", Edits: one(sendFile,
			"	case a.Verdict != OK || a.Epoch != h.epoch:\n		return\n	case h.phase == Paused:",
			"	case a.Verdict != OK || a.Epoch != h.epoch:\n		h.becomeLosing(now, a.Reason)\n		return\n	case h.phase == Paused:")},
		{ID: "4.4.5", Without: "an authenticated lost does", Edits: one(sendFile, "	case a.Verdict == Lost:\n		h.becomeLosing(now, \"the arbiter says lost: \"+a.Reason)\n		return\n	case h.phase == Winning",
			"	case a.Verdict == Lost:\n		return\n	case h.phase == Winning")},
	}
}

func requestRules() []Rule {
	return []Rule{
		{ID: "4.4.6", Without: "every request has a deadline", Packages: client(), Edits: one(clientFile,
			"	if _, ok := ctx.Deadline(); !ok {\n",
			"	ctx, stop := context.WithTimeout(ctx, time.Second)\n	defer stop()\n	if _, ok := ctx.Deadline(); !ok {\n")},
		{ID: "4.4.6", Without: "the deadline is over the body, too", Hangs: true, Packages: client(), Edits: one(clientFile,
			"	req, err := http.NewRequestWithContext(ctx, method, t.base+path, bytes.NewReader(text))\n",
			"	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))\n	defer cancel()\n"+
				"	req, err := http.NewRequestWithContext(ctx, method, t.base+path, bytes.NewReader(text))\n")},
		{ID: "4.4.6", Without: "TCP_USER_TIMEOUT", Packages: client(), Edits: one(clientFile,
			"			err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(timeout.Milliseconds()))\n", "			_ = fd\n")},
		{ID: "4.4.6", Without: "after an error a new connection", Packages: client(), Edits: one(clientFile, "		client.CloseIdleConnections()\n", "")},
		{ID: "4.4.6", Without: "several addresses side by side", Packages: client(), Edits: one(clientFile,
			"		go func() {\n			a, err := t.post(ctx, path, text, seq)\n			results <- result{a, err}\n		}()\n",
			"		a, err := t.post(ctx, path, text, seq)\n		results <- result{a, err}\n")},
		{ID: "4.4.6", Without: "the answer belongs to this seq", Packages: client(), Edits: one(clientFile,
			"w.Proto != api.Proto || w.Seq != seq ||", "w.Proto != api.Proto ||")},
		{ID: "4.4.6", Without: "names are resolved in the background", Packages: client(), Edits: one(clientFile,
			"	if len(known) == 0 {\n", "	if true {\n")},
		{ID: "4.4.6", Without: "no proxies", Packages: client(), Edits: one(clientFile, "			Proxy:       nil,", "			Proxy:       http.ProxyFromEnvironment,")},
		{ID: "4.4.6", Without: "no redirects", Packages: client(), Edits: one(clientFile,
			"			return errors.New(\"the arbiter never redirects: something else answers at this address\")\n", "			return nil\n")},
		{ID: "4.4.8", Without: "who is not proven stopped does not compete", Edits: one(stepFile,
			"len(r.WhyNot) == 0 && r.Proven == Yes", "len(r.WhyNot) == 0")},
		{ID: "4.4.8", Without: "what speaks against competing counts", Edits: one(stepFile, "len(r.WhyNot) == 0 && r.Proven == Yes", "r.Proven == Yes")},
		{ID: "4.4.8", Without: "an old reading does not count", Edits: one(stepFile,
			"	return now < r.FreshUntil && len(r.WhyNot)", "	return len(r.WhyNot)")},
		{ID: "4.4.8", Without: "what changed while the acquire was under way counts", Edits: one(becomeFile, "	if !mayRun {\n", "	if false && !mayRun {\n")},
	}
}

// handoverRules are a restarted agent and every change of a length.
func handoverRules() []Rule {
	return []Rule{
		{ID: "4.4.7", Without: "held is taken up only while the guard shows it armed", Edits: one(stepFile, "	inTime := guarded && now", "	inTime := now")},
		{ID: "4.4.7", Without: "held is taken up only with the watchdog that its grant counts on", Edits: one(stepFile,
			" && f.Guard.Watchdog <= r.Budget.Watchdog\n", "\n")},
		{ID: "4.4.9", Without: "a pause is resumed only with the watchdog that its grant counts on", Edits: one(becomeFile,
			"		if ev.Watchdog > h.budget.Watchdog { // another", "		if false { // another")},
		{ID: "4.4.7", Without: "held is taken up only before its deadline", Edits: one(stepFile,
			"	inTime := guarded && now < h.sent.Add(h.budget.LossAfter)\n", "	inTime := guarded\n")},
		{ID: "4.4.7", Without: "only the same boot takes it up", Edits: one(stepFile,
			"r.Party.Node != h.opt.Self.Node || r.Party.BootID != h.opt.Self.BootID ||", "r.Party.Node != h.opt.Self.Node ||")},
		{ID: "4.4.7", Without: "what /run calls losing goes through losing", Edits: one(stepFile,
			"case r.State == RunHeld && inTime:", "case (r.State == RunHeld || r.State == RunLosing || r.State == RunReleased) && inTime:")},
		{ID: "4.4.7", Without: "leaving is taken up as leaving", Edits: one(stepFile,
			"case r.State == RunHeld && inTime:", "case (r.State == RunHeld || r.State == RunLeaving) && inTime:")},
		{ID: "4.4.7", Without: "leaving is taken up", Edits: one(stepFile, "case r.State == RunLeaving && inTime:", "case false:")},
		{ID: "4.4.7", Without: "the epoch that /run tells of counts as seen", Edits: one(stepFile,
			"	if h.known.see(h.opt.Lease, r.Epoch) {", "	if false {")},
		{ID: "4.4.7", Without: "paused is taken up as it is", Edits: one(stepFile,
			"	case r.State == RunPaused && (r.PauseFor == 0 || guarded):\n", "	case false:\n")},
		{ID: "4.4.7", Without: "the grant's budget goes on", Edits: one(stepFile,
			"r.Epoch, r.Hold, r.Party, r.Budget, r.Sent\n", "r.Epoch, r.Hold, r.Party, h.opt.Budget, r.Sent\n")},
		{ID: "4.4.7", Without: "a successor's seq is above its predecessor's", Edits: one(sendFile,
			"	h.seq = max(h.seq+1, uint64(now))", "	h.seq = h.seq + 1")},
		{ID: "4.4.9", Without: "a pause is entered only when it is answered", Edits: one(pauseFile,
			"For: length, Terms: h.budget.Terms}\n	})\n", "For: length, Terms: h.budget.Terms}\n	})\n	h.becomePaused(now, now)\n")},
		{ID: "4.4.9", Without: "a pause's hold is computed by Budget", Edits: one(renewFile, "	return t.NeededHold() + g.opt.Grace, \"\"",
			"	return b.For + b.Terms.StopBudget + b.Terms.TimerSlack + b.Terms.Watchdog + b.Terms.Quantum + b.Terms.ResetLatency + g.opt.Grace, \"\"")},
		{ID: "4.4.9", Without: "a pause that the arbiter holds too short is none", Edits: one(pauseFile,
			"	case h.pauseFor > 0 && a.Hold < need:", "	case false && a.Hold < need:")},
		{ID: "4.4.9", Without: "/run says paused before the guard is disarmed", Edits: one(pauseFile,
			"	h.pauseSent, h.step, h.nextSend, h.out = sent, stepRun, now, nil\n",
			"	h.pauseSent, h.step, h.nextSend, h.out = sent, stepDisarm, now, nil\n")},
		{ID: "4.4.9", Without: "armed and acknowledged, then resume", Edits: one(sendFile,
			"	tell := h.phase == Resuming && h.step == stepTell", "	tell := h.phase == Resuming")},
		{ID: "4.4.9", Without: "/run says held, then resume", Edits: one(becomeFile,
			"		h.step, h.rearmed = stepRun, true\n		h.writeRun(RunHeld)", "		h.step, h.rearmed = stepTell, true\n		h.nextSend = now")},
		{ID: "4.4.9", Without: "resume is repeated until it is answered", Edits: []Edit{
			{sendFile, "	undo := (h.phase == Held || h.phase == Leaving) && h.pausing && !h.waitsFor(kindPause)", "	undo := false"},
			{sendFile, "		h.pausing, h.owed = true, true // an", "		_ = p // an"}}},
		// The pause's answer is not waited for any more when a resume leaves: the same rule from the other end.
		{ID: "4.4.9", Without: "no pause after a resume with a higher seq", Edits: []Edit{
			{pauseFile, "	if h.phase != Held || h.resumeSeq > p.seq {", "	if h.phase != Held {"},
			{sendFile, "h.pausing && !h.waitsFor(kindPause)\n", "h.pausing\n"}}},
		{ID: "4.4.9", Without: "a resume may shorten the guard's deadline", Edits: one(becomeFile,
			"		Shorten: shorten && h.phase == Resuming && h.armed != 0 && until < h.armed})", "		Shorten: false && shorten})")},
	}
}
