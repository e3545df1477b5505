package rules

const (
	acquireFile  = "lease/grantor_acquire.go"
	renewFile    = "lease/grantor_renew.go"
	requestFile  = "lease/grantor_request.go"
	grantorFile  = "lease/grantor.go"
	recordFile   = "lease/grantor_record.go"
	fenceFile    = "lease/grantor_fence.go"
	recoveryFile = "lease/grantor_recovery.go"
	knownFile    = "lease/known.go"
)

// one makes the edits of a rule that is taken away in one place.
func one(file, old, new string) []Edit { return []Edit{{file, old, new}} }

// arbiterRules are 4.3 but for recovery.
func arbiterRules() []Rule {
	return append(grantRules(), holdRules()...)
}

func grantRules() []Rule {
	return []Rule{
		{ID: "4.3", Without: "a grant is on disk before its reply", Edits: one(acquireFile, `	g.writeLease(op, "granted", cause)
`, `	for _, id := range op.ids {
		g.reply(id, op.answer)
	}
	op.ids = nil
	g.writeLease(op, "granted", cause)
`)},
		{ID: "4.3", Without: "every durable change raises the generation", Edits: one(grantorFile,
			"		g.lastGen = max(g.lastGen, cluster.Stamp.Generation) + 1\n", "		g.lastGen = max(g.lastGen, cluster.Stamp.Generation, 1)\n")},
		{ID: "4.3", Without: "an answer carries the last committed generation", Edits: one(grantorFile,
			"	a.Stamp = g.cluster.Stamp\n", "	a.Stamp = g.cluster.Stamp\n	a.Stamp.Generation = g.lastGen\n")},
		{ID: "4.3", Without: "of two instances of a boot the older is superseded", Edits: one(requestFile,
			"if n.superseded(party) && !g.isLateRelease(r) {", "if false {")},
		{ID: "4.3", Without: "a newer instance cancels the polls of an older one", Edits: one(requestFile, "		g.cancelPolls(p)\n", "")},
		{ID: "4.3.1", Without: "the epoch is above what the node has seen", Edits: []Edit{
			{acquireFile, "	epoch := max(l.rec.Epoch, l.rec.Floor, a.SeenEpoch) + 1\n", "	epoch := max(l.rec.Epoch, l.rec.Floor) + 1\n"},
			{recoveryFile, "		ahead = ahead || top > cl.rec.Epoch\n", ""}}},
		{ID: "4.3.1", Without: "an absurd epoch is refused", Edits: one(recoveryFile,
			"if top >= MaxEpoch || (top > cl.rec.Epoch && top-cl.rec.Epoch > MaxEpochLead) {", "if false {")},
		{ID: "4.3.1", Without: "a grant carries no time", Edits: one(renewFile, "		l.lapseAt = now.Add(op.rec.LossAfter)\n",
			"		l.holdEnd = now.Add(op.rec.Hold)\n")},
		{ID: "4.3.1", Without: "a grant that is not renewed within L lapses", Edits: []Edit{
			{renewFile, "		if l.lapseAt != 0 && !l.lapsed && now >= l.lapseAt {", "		if false {"},
			{acquireFile, "unused && l.rec.Holder", "false && unused && l.rec.Holder"}}},
		{ID: "4.3.1", Without: "a lapsed grant is not renewed", Edits: one(renewFile, "	case l.lapsed:\n", "	case false:\n")},
		{ID: "4.3.1", Without: "who let a grant lapse waits behind every other", Edits: one(renewFile,
			"	g.waiterOf(l, l.rec.Holder.Node).behind = true\n", "")},
		{ID: "4.3.1", Without: "who stands back is granted when nobody else waits", Edits: one(acquireFile,
			"w.req.LastResort && now < at {\n		return at\n", "w.req.LastResort && now < at {\n		return Never\n")},
		{ID: "4.3.1", Without: "who stands back waits for R", Edits: one(acquireFile, "w.req.LastResort && now < at {", "false {")},
		{ID: "4.3.1", Without: "a poll waits for 5 s at most", Edits: one(acquireFile, "min(max(a.Wait, 0), MaxWait)", "max(a.Wait, 0)")},
		{ID: "4.3.1", Without: "a poll is answered when the lease becomes free", Edits: one(acquireFile,
			"		if w := g.nextOwner(now, l); w != nil {", "		if w := g.nextOwner(now, l); w != nil && now >= w.until {")},
		{ID: "4.3.2", Without: "only the same boot adopts", Edits: one(acquireFile,
			"	case !rec.Holder.SameBoot(a.Party):\n		g.refuse(r, \"another node or boot holds this epoch\")\n	case a.Instance",
			"	case rec.Holder.Node != a.Node:\n		g.refuse(r, \"another node or boot holds this epoch\")\n	case a.Instance")},
		{ID: "4.3.2", Without: "an older instance does not adopt", Edits: []Edit{
			{acquireFile, "	case a.Instance.Older(rec.Holder.Instance):\n", "	case false:\n"},
			{requestFile, "if n.superseded(party) && !g.isLateRelease(r) {", "if false {"}}},
		{ID: "4.3.2", Without: "a lease that lapsed or ran out is not adopted", Edits: one(acquireFile,
			"	case l.lapsed || l.expired || (l.holdEnd != 0 && now >= l.holdEnd) || (l.lapseAt != 0 && now >= l.lapseAt):\n", "	case false:\n")},
		{ID: "4.3.2", Without: "an adopt does not restart the hold", Edits: one(renewFile,
			"	case opAdopt:\n		if op.rec.State == RecordPaused && !wasPaused {\n			g.restartHold", "	case opAdopt:\n		if true {\n			g.restartHold")},
		{ID: "4.3.2", Without: "seq belongs to the instance", Edits: one(renewFile, "	l.lastSeq, l.lastRenew = op.rec.Seq, false",
			"	if op.kind != opAdopt {\n		l.lastSeq = op.rec.Seq\n	}\n	l.lastSeq, l.lastRenew = max(l.lastSeq, op.rec.Seq), false")},
		{ID: "4.3.2", Without: "an acquire from standby gets a new epoch", Edits: one(acquireFile,
			"	epoch := max(l.rec.Epoch, l.rec.Floor, a.SeenEpoch) + 1\n",
			"	epoch := max(l.rec.Epoch, l.rec.Floor, a.SeenEpoch) + 1\n	if l.rec.Holder.SameBoot(a.Party) {\n		epoch--\n	}\n")},
	}
}

func holdRules() []Rule {
	return append([]Rule{
		{ID: "4.3.3", Without: "only the epoch on record is renewed", Edits: one(renewFile,
			"	case epoch < rec.Epoch, epoch == rec.Epoch && rec.State == RecordFree:\n", "	case epoch == rec.Epoch && rec.State == RecordFree:\n")},
		{ID: "4.3.3", Without: "only the instance on record renews", Edits: one(renewFile, "case rec.Holder != p && !gives:", "case false:")},
		{ID: "4.3.3", Without: "only the boot on record renews", Edits: []Edit{
			{renewFile, "	case !rec.Holder.SameBoot(p):\n", "	case false:\n"},
			{renewFile, "case rec.Holder != p && !gives:", "case false:"}}},
		{ID: "4.3.3", Without: "a renewal has a seq above the last one", Edits: one(renewFile, "	if !repeat && g.stale(l, r) {\n", "	if false {\n")},
		{ID: "4.3.3", Without: "the hold restarts at the receipt of a renewal", Edits: one(renewFile,
			"		l.holdEnd = Later(l.holdEnd, now.Add(l.rec.Hold))",
			"		if l.holdEnd == 0 {\n			l.holdEnd = now.Add(l.rec.Hold)\n		}")},
		{ID: "4.3.3", Without: "a renewal never brings the hold's end nearer", Edits: one(renewFile,
			"		l.holdEnd = Later(l.holdEnd, now.Add(l.rec.Hold))", "		l.holdEnd = now.Add(l.rec.Hold)")},
		{ID: "4.3.3", Without: "a repeat extends nothing", Edits: one(renewFile, "	if !repeat {\n", "	if true {\n")},
		{ID: "4.3.3", Without: "a repeat is answered ok", Edits: one(renewFile, "	repeat := b.Seq == l.lastSeq && l.lastRenew", "	repeat := false")},
		{ID: "4.3.4", Without: "a release has a seq above the last one", Edits: one(renewFile, `	if g.stale(l, r) {
		return
	}
	if !g.canAdd() || !g.mayWrite(now) {
		g.later(now, r)
		return
	}
	rec := l.rec
	rec.State, rec.Seq, rec.Carry`, `	if !g.canAdd() || !g.mayWrite(now) {
		g.later(now, r)
		return
	}
	rec := l.rec
	rec.State, rec.Seq, rec.Carry`)},
		{ID: "4.3.4", Without: "released is free at once", Edits: one(renewFile,
			"		l.holdEnd, l.lapseAt, l.freeSince, l.first = 0, 0, now, 0\n", "		l.lapseAt, l.freeSince, l.first = 0, now, 0\n		l.rec.State = RecordHeld\n")},
		{ID: "4.3.4", Without: "a successor releases with the recorded instance", Edits: []Edit{
			{requestFile, "if n.superseded(party) && !g.isLateRelease(r) {", "if n.superseded(party) {"},
			{renewFile, "case rec.Holder != p && !gives:", "case rec.Holder != p:"}}},
		{ID: "4.3.5", Without: "a hold that ran out is not lost before another is granted", Edits: one(renewFile,
			"	repeat := b.Seq == l.lastSeq && l.lastRenew",
			"	if l.expired {\n		g.reply(r.ID, g.lost(l, b.Seq))\n		return\n	}\n	repeat := b.Seq == l.lastSeq && l.lastRenew")},
		{ID: "4.3.5", Without: "who does not speak for the epoch is refused, and not told that it is lost", Edits: one(renewFile,
			"		g.refuse(r, \"this agent has not adopted the lease\")\n", "		g.reply(r.ID, g.lost(l, seq))\n")},
		{ID: "4.3.6", Without: "the quarantine", Edits: one(grantorFile, "			l.quarantine = true\n", "			l.expired = r.State == RecordHeld\n")},
		{ID: "4.3.6", Without: "the quarantine lasts for the recorded hold", Edits: one(grantorFile,
			"				l.holdEnd = now.Add(hold)\n", "				l.holdEnd = now.Add(hold / 2)\n")},
		{ID: "4.3.6", Without: "without a recorded hold it lasts for max_hold", Edits: one(recordFile,
			"	case r.Hold == 0:\n		return max(maxHold, r.Carry, r.PauseHold), true\n", "")},
		{ID: "4.3.6", Without: "in quarantine the recorded boot is not granted at once", Edits: one(acquireFile,
			" && l.lapseAt == 0 && !l.quarantine &&", " && l.lapseAt == 0 &&")},
		{ID: "4.3.6", Without: "after a restart the last seq is the recorded one", Edits: one(grantorFile,
			"rec: r, lastSeq: r.Seq, freeSince", "rec: r, lastSeq: 0, freeSince")},
		{ID: "4.3.6", Without: "a pause without an end stays one", Edits: one(recordFile,
			"	case r.State == RecordPaused && r.PauseHold == 0:\n		return 0, false\n", "")},
		{ID: "4.3.6", Without: "a pause with an end counts anew in full", Edits: one(recordFile,
			"	case r.State == RecordPaused:\n		return max(r.Hold, r.Carry, r.PauseHold), true\n", "")},
		{ID: "4.3.8", Without: "after a write error there is no new grant", Edits: []Edit{
			{acquireFile, `g.suspect || g.cluster.Recovery || g.broken {`, `g.suspect || g.cluster.Recovery {`},
			{grantorFile, "	if g.canAdd() && g.mayWrite(now) {\n", "	if g.canAdd() {\n"},
			{grantorFile, "return !g.broken || now >= g.retryAt", "return true"}}},
		{ID: "4.3.8", Without: "a recovery that could not be written is not forgotten", Edits: one(recoveryFile,
			"		g.suspect, g.behind = true, true\n", "")},
		{ID: "4.3.8", Without: "after a write error renewals go on", Edits: one(renewFile,
			"	repeat := b.Seq == l.lastSeq && l.lastRenew",
			"	if g.broken {\n		g.unavailable(r, \"the store is broken\")\n		return\n	}\n	repeat := b.Seq == l.lastSeq && l.lastRenew")},
		{ID: "4.3.9", Without: "a hold lies within min_hold and max_hold", Edits: one(acquireFile,
			"	if a.Hold < g.opt.MinHold || a.Hold > g.opt.MaxHold {", "	if false {")},
		{ID: "4.3.9", Without: "an unsafe budget is refused", Edits: one(acquireFile, "	if len(bad) == 0 {\n", "	if true {\n")},
		{ID: "4.3.9", Without: "the larger drift of the two counts", Edits: one(grantorFile,
			"	t.DriftPPM = max(t.DriftPPM, g.opt.DriftPPM)\n", "")},
		{ID: "4.3.9", Without: "the hold belongs to the grant, not to an adopt", Edits: one(acquireFile,
			"		rec.Holder, rec.Seq = a.Party, a.Seq\n		if c.State", "		rec.Holder, rec.Seq, rec.Hold = a.Party, a.Seq, a.Hold\n		if c.State")},
		{ID: "4.3.9", Without: "different holds are no refusal", Edits: one(acquireFile, "		g.compareHolds(l, a)\n",
			"		g.compareHolds(l, a)\n		if l.rec.State != RecordFree && l.rec.Hold != a.Hold {\n			g.refuse(r, \"different holds\")\n			return\n		}\n")},
		{ID: "4.3.9", Without: "each grant is waited out by its own hold", Edits: one(renewFile,
			"		l.holdEnd = Later(l.holdEnd, now.Add(l.rec.Hold))",
			"		h := l.rec.Hold\n		for _, w := range l.waiters {\n			if w.req.Hold != 0 {\n				h = min(h, w.req.Hold)\n			}\n		}\n		l.holdEnd = Later(l.holdEnd, now.Add(h))")},
		{ID: "4.3.9", Without: "a pause is bounded by max_pause", Edits: one(renewFile, "	if b.For < 0 || b.For > g.opt.MaxPause {", "	if b.For < 0 {")},
		{ID: "4.3.10", Without: "another boot waits like anybody else", Edits: one(acquireFile,
			"l.rec.State == RecordHeld && l.rec.Holder.SameBoot(w.req.Party)", "l.rec.State == RecordHeld && l.rec.Holder.Node == w.req.Node")},
		{ID: "4.3.10", Without: "a new boot ends its old boot's pause", Edits: one(acquireFile,
			"	case l.rec.Holder.BootID != a.BootID && g.nodes", "	case false && g.nodes")},
		{ID: "4.3.10", Without: "a boot that spoke beside another has not come after it", Edits: one(requestFile,
			"{ return o.last <= b.first.Add(RetryAfterFailure) }", "{ return true }")},
		{ID: "4.3.10", Without: "whose order is not known prove nothing", Edits: one(requestFile,
			"{ return b.mayFollow(o) && !o.mayFollow(b) }", "{ return b.mayFollow(o) }")},
		{ID: "4.3.10", Without: "a pause goes on when its holder is heard beside another", Edits: one(requestFile, "		g.takeBack(n.rec.Node)\n", "")},
		{ID: "4.3.10", Without: "what was heard by the arbiter before this one counts", Edits: one(requestFile,
			"		return n.boots[i].last > n.since.Add(RetryAfterFailure)\n", "		return true\n")},
		{ID: "4.3.13", Without: "nor does one that comes after a restart of the arbiter", Edits: one(requestFile,
			"	if n.rec.BootID != \"\" && n.rec.BootID != boot.id && boot.last", "	if false && boot.last")},
		{ID: "4.3.13", Without: "a doubt is not written", Edits: one(requestFile, "sure || r.BootID == \"\" {", "sure || r.BootID != boot.id {")},
		{ID: "4.3.13", Without: "a late word does not make its boot the one to be barred", Edits: one(requestFile, "		if o.follows(boot) {\n", "		if false {\n")},
		{ID: "4.3.13", Without: "no boot is barred while it is not known which came later", Edits: one(fenceFile, "		if _, sure := n.current(); !sure {\n", "		if false {\n")},
		{ID: "4.3.13", Without: "no bar is given up for another boot's", Edits: one(fenceFile,
			`	if r.BarredBoot != "" && r.BarredBoot != r.BootID {`, "	if false {")},
		{ID: "4.3.13", Without: "a new boot of a node is on disk at once", Edits: one(requestFile, "		must := anew || ", "		_, must := anew, ")},
		{ID: "4.3.10", Without: "boots that spoke side by side are so after a restart of the arbiter too", Edits: one(grantorFile,
			", beside: n.Beside, since", ", since")},
		{ID: "4.3.10", Without: "nothing is proven of boots that spoke side by side", Edits: one(requestFile,
			"{ return id == boot || is(id) })", "{ return false })")},
		{ID: "4.3.10", Without: "a boot that was not heard proves nothing", Edits: one(requestFile, "	return i >= 0 && n.boots", "	return i < 0 || n.boots")},
		{ID: "4.3.10", Without: "a request that waited for the disk is not heard again", Edits: one(requestFile, "	r.heard = true\n", "")},
		{ID: "4.3.10", Without: "what another machine of its name says is not the holder's", Edits: one("lease/grantor_operator.go",
			"	if last == holder.BootID || n.succeeds(last, holder.BootID) {\n", "	if last != \"\" {\n")},
		{ID: "4.3.10", Without: "a node's boots are remembered", Edits: one(requestFile, "	maxBoots   = 64\n", "	maxBoots   = 4\n")},
		{ID: "4.3.10", Without: "but only after H", Edits: one(acquireFile,
			"	l.holdEnd = Earlier(l.holdEnd, now.Add(max(hold, l.rec.Carry, speaks)))\n", "	_, _ = hold, speaks\n	l.holdEnd = now\n")},
		{ID: "4.3.10", Without: "two boots that are both alive get no new grant", Edits: one(requestFile,
			"			g.twins(n, last, p)\n", "			_ = last\n")},
		{ID: "4.3.10", Without: "more boots than a machine can have are two machines", Edits: one(requestFile,
			"i >= 0 && at.Sub(n.boots[i].last) <= n.boots[i].window {", "i >= 0 && false {")},
		{ID: "4.3.4", Without: "nobody is told the id of a boot", Packages: []string{"arbiter"}, Edits: one("lease/protocol.go",
			"	sum := sha256.Sum256([]byte(id))\n", "	if id != \"\" {\n		return id\n	}\n	sum := sha256.Sum256([]byte(id))\n")},
		{ID: "4.3.11", Without: "a tick decides no expiry", Edits: one(grantorFile, "	case GrantorTick:\n", "	case GrantorTick:\n		g.decide(now)\n")},
		{ID: "4.3.11", Without: "expiry is decided only after draining", Edits: one(grantorFile,
			"func (g *Grantor) settle(now Instant) {\n", "func (g *Grantor) settle(now Instant) {\n	g.decide(now)\n")},
	}, operatorRules()...)
}

// operatorRules are switchover and bar.
func operatorRules() []Rule {
	return []Rule{
		{ID: "4.3.12", Without: "a switchover is for one epoch", Edits: one(renewFile, "	case b.Epoch != 0 && b.Epoch != l.rec.Epoch:", "	case false:")},
		{ID: "4.3.12", Without: "its target waits, and is alive", Edits: one(renewFile,
			"	case target < 0 || !l.waiters[target].alive(now):", "	case target < 0:")},
		{ID: "4.3.12", Without: "its target reports ready", Edits: one(renewFile, "	case !l.waiters[target].req.Ready:", "	case false:")},
		{ID: "4.3.12", Without: "its reservation ends after H", Edits: []Edit{
			{acquireFile, "w.node != l.move.to && now < l.move.until {", "w.node != l.move.to {"},
			{acquireFile, "		return l.move.until\n", "		return Never\n"}}},
		{ID: "4.3.12", Without: "it counts for no later epoch", Edits: []Edit{
			{renewFile, "		l.first, l.move = 0, grantMove{}", "		l.first = 0"},
			{renewFile, "	if l.move.epoch == l.rec.Epoch && now < l.move.until {", "	if now < l.move.until.Add(time.Hour) {"},
			{acquireFile, `if l.move.to != "" && l.move.epoch == l.rec.Epoch && w`, `if l.move.to != "" && w`}}},
		{ID: "4.3.13", Without: "who holds is not barred", Edits: one(fenceFile,
			"if l.rec.State != RecordFree && l.rec.Holder.Node == node && !l.free(now) || l.writing {", "if l.writing {")},
		{ID: "4.3.13", Without: "in recovery nobody is barred", Edits: one(fenceFile, "	if g.cluster.Recovery || g.suspect {\n		refuse(", "	if false {\n		refuse(")},
		{ID: "4.3.13", Without: "in recovery nobody is fenced", Edits: one(fenceFile, "	case g.cluster.Recovery || g.suspect:\n		seen := f", "	case false:\n		seen := f")},
		{ID: "4.3.13", Without: "one open bar a cluster", Edits: one(fenceFile, `if name != node && o.record().BarredBoot != "" {`,
			`if name != node && o.record().BarredBoot != "" && false {`)},
		{ID: "4.3.13", Without: "a barred boot is refused", Edits: one(fenceFile,
			`n.rec.BarredBoot == "" || n.rec.BarredBoot != boot`, `true`)},
		{ID: "4.3.13", Without: "who waits and is barred meanwhile is not granted", Edits: []Edit{
			{acquireFile, ` || g.mayBeBarred(w.req.Party) {`, ` {`},
			{grantorFile, "	g.dismissBarred()\n", ""}}},
		{ID: "4.3.13", Without: "no renewal overtakes a bar that is being written", Edits: one(requestFile, "	if g.mayBeBarred(party) {", "	if false {")},
		{ID: "4.3.13", Without: "without a lease for everything only a new boot is a proof", Edits: one(fenceFile, "	case f.Guarded:\n", "	case true:\n")},
		{ID: "4.3.13", Without: "a new boot is no proof while the old one may hold", Edits: one(fenceFile, " && !g.heldIn(now, f.Target, f.Boot):", ":")},
		{ID: "4.3.13", Without: "a new boot ends a bar", Edits: []Edit{
			{requestFile, `		r.BarredBoot, r.BarredOff = "", false // a new`, `		// a new`},
			{fenceFile, `n.rec.BarredBoot == "" || n.rec.BarredBoot != boot`, `n.rec.BarredBoot == ""`}}},
		{ID: "4.3.13", Without: "a check names a boot only if a fencing would succeed", Edits: one(fenceFile,
			`	if l == nil && f.Guarded && g.barredBeside(f.Target) == "" && n.unsure() == "" {`, "	if true {")},
		{ID: "4.3.13", Without: "a bar that leaves nobody is an alarm", Edits: one(fenceFile, "	if alone {\n", "	if alone && false {\n")},
	}
}

// recoveryRules are 4.3.7.
func recoveryRules() []Rule {
	return []Rule{
		{ID: "4.3.7", Without: "a store behind what a node has seen goes into recovery", Edits: []Edit{
			{recoveryFile, "	behind := same && seen.Generation > own.Generation", "	behind := false && same"},
			{recoveryFile, "		ahead = ahead || top > cl.rec.Epoch\n", ""}}},
		{ID: "4.3.7", Without: "a store that was restored goes into recovery", Edits: one(grantorFile,
			"suspect: snap.Suspect, started", "suspect: false, started")},
		{ID: "4.3.7", Without: "an absurd generation is refused", Edits: one(recoveryFile,
			"if seen.Generation > own.Generation && seen.Generation-own.Generation > MaxLead {", "if false {")},
		{ID: "4.3.7", Without: "a lower generation is ignored", Edits: one(knownFile,
			"	case a.Stamp.Generation < left.Generation:\n", "	case a.Stamp.Generation < left.Generation:\n		return nil\n	case false:\n")},
		{ID: "4.3.7", Without: "another id is ignored", Edits: []Edit{
			{knownFile, "	case id != left.StoreID:\n", "	case false:\n"},
			{knownFile, "case left.StoreID != k.Stamp.StoreID && id != k.Stamp.StoreID:", "case false:"}}},
		{ID: "4.3.7", Without: "a recovery that names the request's stamp is not ignored", Edits: one(knownFile,
			"if a.Verdict == Recovery && a.Echo != nil && *a.Echo == left {", "if false {")},
		{ID: "4.3.7", Without: "the recovery must name the request's stamp", Edits: one(knownFile,
			"if a.Verdict == Recovery && a.Echo != nil && *a.Echo == left {", "if a.Verdict == Recovery {")},
		{ID: "4.3.7", Without: "dead ids stay dead", Edits: []Edit{
			{knownFile, "case slices.Contains(k.DeadStores, id):", "case false:"},
			{knownFile, "case left.StoreID != k.Stamp.StoreID && id != k.Stamp.StoreID:", "case false:"}}},
		{ID: "4.3.7", Without: "an answer is judged by what was known when the request left", Edits: one(knownFile,
			"	id := a.Stamp.StoreID\n", "	id := a.Stamp.StoreID\n	left = k.Stamp\n")},
		{ID: "4.3.7", Without: "recovery begins above every generation reported", Edits: one(recoveryFile,
			"		g.lastGen = max(g.lastGen, seen.Generation)\n", "		_ = seen\n")},
		{ID: "4.3.7", Without: "claims are taken back", Edits: one(recoveryFile, "		rec, take := g.recordOfClaim(l, r, *c.claim)",
			"		rec, take := g.recordOfClaim(l, r, *c.claim)\n		take = false")},
		{ID: "4.3.7", Without: "a paused claim stays paused", Hangs: true, Edits: []Edit{
			{recoveryFile, "	if c.State == ClaimPaused && next.State != RecordPaused {\n		next = g.pausedByClaim(next, c)\n	}\n	// The number", "	// The number"},
			{recoveryFile, "	case c.State == ClaimPaused && c.PauseFor == 0:\n		return Never\n	case c.State == ClaimPaused:\n		hold = g.claimPauseHold(c)\n", ""},
			{acquireFile, "		if c.State == ClaimPaused && rec.State != RecordPaused {", "		if false {"}}},
		{ID: "4.3.7", Without: "a claim counts in full from its receipt", Edits: one(recoveryFile,
			"	return now.Add(hold)\n}\n\n// recoveryWait", "	return now.Add(hold / 2)\n}\n\n// recoveryWait")},
		{ID: "4.3.7", Without: "new grants wait for the longest hold", Edits: one(recoveryFile, "	if now < g.recoveryWait() {\n		return\n	}\n", "")},
		{ID: "4.3.7", Without: "new grants wait for reports of both nodes", Edits: one(recoveryFile,
			"		if len(l.reported) < 2 || now", "		if now")},
		{ID: "4.3.7", Without: "a grant that was never renewed ends with its store", Edits: one("lease/holder_send.go",
			"	case h.phase == Winning && h.sent == 0 && a.Stamp.StoreID != h.granter:\n", "	case false:\n")},
		{ID: "4.3.7", Without: "a holder that was heard, and that a claim contradicts, is waited for", Edits: []Edit{
			{renewFile, "		if l.first != 0 && !was.SameBoot(op.rec.Holder) {\n", "		_ = was\n		if false {\n"}}},
		{ID: "4.3.7", Without: "an operator's recover goes beyond a record that is over", Edits: one("lease/grantor_operator.go",
			"		outdated := l.rec.State == RecordFree || l.floor > l.rec.Epoch", "		outdated := l.rec.State == RecordFree")},
		{ID: "4.3.7", Without: "and no two of them alike", Edits: one("lease/grantor_operator.go",
			"	return recoverLead + Epoch(binary.BigEndian.Uint32(sum[:]))%(1<<20)\n", "	return recoverLead + Epoch(binary.BigEndian.Uint32(sum[:]))%1\n")},
		{ID: "4.3.7", Without: "and beyond one that somebody holds", Edits: one("lease/grantor_operator.go",
			"			l.skip = l.rec.Epoch + g.lead()\n", "")},
		{ID: "4.3.7", Without: "and a grant heeds that", Edits: one(acquireFile, "max(l.rec.Epoch, l.rec.Floor, a.SeenEpoch)", "max(l.rec.Epoch, a.SeenEpoch)")},
		{ID: "4.3.7", Without: "which changes nothing else of the lease", Edits: one(renewFile, "		l.rec.Floor = op.rec.Floor\n		return\n", "")},
		{ID: "4.3.7", Without: "and keeps no holder waiting", Edits: one(grantorFile, ".writing = op.kind != opFloor\n", ".writing = true\n")},
		{ID: "4.3.7", Without: "by an operator too", Edits: one("lease/grantor_operator.go", "	case now < g.deniedUntil():\n", "	case false:\n")},
	}
}
