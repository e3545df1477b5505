package rules

const (
	guardFile  = "guard/guard.go"
	serverFile = "guard/server.go"
	deviceFile = "guard/device.go"
	runFile    = "guard/run.go"
	scribeFile = "guard/scribe.go"
)

// guardRules are 5.2.
func guardRules() []Rule {
	return []Rule{
		{ID: "5.2", Without: "another epoch is not armed over one that is", Edits: one(deadmanFile,
			"	case i >= 0 && d.armed[i].Epoch != e.Epoch:\n", "	case false:\n")},
		{ID: "5.2", Without: "another epoch does not disarm", Edits: one(deadmanFile, "		if d.armed[i].Epoch != e.Epoch {\n", "		if false {\n")},
		{ID: "5.2", Without: "an older instance is refused", Edits: one(deadmanFile, "	case d.Older(who):\n", "	case false:\n")},
		{ID: "5.2", Without: "until never goes back by an arm", Edits: one(deadmanFile,
			"		if until > d.armed[i].Until && e.Sent >= d.armed[i].Sent {\n", "		if e.Sent >= d.armed[i].Sent {\n")},
		{ID: "5.2", Without: "a late extension does not undo a shorten", Edits: one(deadmanFile,
			"		if until > d.armed[i].Until && e.Sent >= d.armed[i].Sent {\n", "		if until > d.armed[i].Until {\n")},
		{ID: "5.2", Without: "a shorten does not lengthen", Edits: one(deadmanFile, "	case until > d.armed[i].Until:\n", "	case false:\n")},
		{ID: "5.2", Without: "a passed until resets", Edits: one(deadmanFile, "		if now > d.armed[i].Until {", "		if false {")},
		{ID: "5.2", Without: "there is no way back from the reset", Edits: one(deadmanFile, "	case d.resetCause != \"\":\n		d.refuse(", "	case false:\n		d.refuse(")},
		{ID: "5.2", Without: "the nearest deadline counts for all", Edits: []Edit{
			{deadmanFile, "	for i := range d.armed {\n		nearest = Earlier(nearest, d.armed[i].Until)\n	}\n", "	for i := range d.armed {\n		nearest = d.armed[i].Until\n	}\n"}}},
		{ID: "5.2", Without: "a feed is handed out only while now ≤ until", Edits: one(deadmanFile,
			"DeadmanAction{Do: DeadmanFeed, At: d.Nearest()}", "DeadmanAction{Do: DeadmanFeed, At: Never}")},
		{ID: "5.2", Without: "the clock is read again before the feed", Edits: one(guardFile, "	if g.now() > notAfter {\n		return\n	}\n", "	_ = notAfter\n")},
		{ID: "5.2", Without: "the kill timer is set", Edits: one(deadmanFile, "		d.act(DeadmanAction{Do: DeadmanSetTimer, At: at})\n", "")},
		{ID: "5.2", Without: "the kill timer stands at until+J", Edits: one(deadmanFile, "Later(d.Nearest(), now).Add(d.cfg.TimerSlack); at != d.timer", "Later(d.Nearest(), now).Add(2 * d.cfg.TimerSlack); at != d.timer")},
		{ID: "5.2", Without: "the kill timer is moved by a shorten", Edits: one(deadmanFile,
			"		d.armed[i].Until, d.armed[i].Sent, d.armed[i].Instance = until, e.Sent, e.Instance\n		d.setTimer(now)\n",
			"		d.armed[i].Until, d.armed[i].Sent, d.armed[i].Instance = until, e.Sent, e.Instance\n")},
		{ID: "5.2", Without: "without a kill timer an arm is not acknowledged", Edits: one(guardFile, "	case g.noTimer != nil:\n", "	case false:\n")},
		{ID: "5.2", Without: "the kill timer is absolute", Hangs: true, Edits: one("guard/killtimer.go", "	timerAbsolute = 1\n", "	timerAbsolute = 0\n")},
		{ID: "5.2", Without: "a newer agent's connection drops the older one", Edits: one(guardFile, "		g.agent.drop()\n", "		_ = c\n")},
		{ID: "5.2", Without: "what a dropped connection wrote is not read", Edits: one(guardFile, "	if c.dropped {\n", "	if false {\n")},
		{ID: "5.2", Without: "status never drops the agent", Edits: one(guardFile, "	case guardapi.OpStatus:\n", "	case guardapi.OpStatus:\n		g.takeAgentsPlace(c)\n")},
		{ID: "5.2", Without: "an older instance does not take the agent's place", Edits: one(guardFile, "	if g.dead.Older(who) {\n", "	if false {\n")},
		{ID: "5.2", Without: "the guard ends only when nothing is armed", Edits: one(deadmanFile,
			"	if len(d.armed) > 0 || d.closing {\n", "	if d.closing {\n")},
		{ID: "5.2", Without: "the guard ends only without a client", Edits: one(deadmanFile,
			"!d.cfg.Stays && d.clients == 0 && now", "!d.cfg.Stays && now")},
		{ID: "5.2", Without: "not within 5 s of its start", Edits: one(deadmanFile,
			"d.clients == 0 && now >= d.cfg.Born.Add(BirthGrace)", "d.clients == 0")},
		{ID: "5.2", Without: "it ends after closing its socket", Edits: one(deadmanFile,
			"		d.act(DeadmanAction{Do: DeadmanCloseSocket})\n", "		d.act(DeadmanAction{Do: DeadmanCloseSocket})\n		d.act(DeadmanAction{Do: DeadmanExit})\n")},
		{ID: "5.2", Without: "an arm after the socket was closed is refused", Edits: one(deadmanFile, "	case d.closing:\n", "	case false:\n")},
		{ID: "5.2", Without: "with nowayout it stays", Edits: one(deadmanFile,
			"!d.cfg.Stays && d.clients == 0 && now", "d.clients == 0 && now")},
		{ID: "5.2", Without: "without magic close it is no watchdog", Edits: one(deviceFile,
			"	if options&unix.WDIOF_MAGICCLOSE == 0 && info.NoWayOut != Yes {\n", "	if false {\n")},
		{ID: "5.2", Without: "before the first arm a panic is an error", Edits: one(runFile,
			"		if p := recover(); p != nil {\n			err = fmt.Errorf(\"run the guard: panic", "		if p := any(nil); p != nil {\n			err = fmt.Errorf(\"run the guard: panic")},
		{ID: "5.2", Without: "the socket of a guard that lives is not taken", Edits: one(serverFile,
			"		return nil, fmt.Errorf(\"listen on %s: another guard does\", path)\n", "		_ = path\n")},
		{ID: "5.2", Without: "the cause is written ahead", Edits: one(guardFile,
			"			g.record(w, cause.Announced, until)\n", "			w.stage = cause.Announced\n")},
		{ID: "5.2", Without: "disarming marks it averted", Edits: one(guardFile, "			end = cause.Averted\n", "			end = cause.Closed\n")},
		{ID: "5.2", Without: "the feeding thread never waits for the disk", Hangs: true, Edits: one(scribeFile,
			"	select {\n	case s.queue <- write:\n	default:\n		s.lost.Add(1)\n	}\n", "	s.queue <- write\n")},
		{ID: "5.2", Without: "the last words", Hangs: true, Edits: one(guardFile, "		g.last.say(text)\n", "")},
		{ID: "5.3", Without: "a found pause is taken off every deadline", Edits: one(deadmanFile,
			"		d.armed[i].Until = d.armed[i].Until.Add(-e.Size)", "		_ = i")},
		{ID: "5.3", Without: "and off every arm whose renewal left before it", Edits: one(deadmanFile, "		if sent < j.S2 {", "		if false {")},
		{ID: "5.3", Without: "but not off later ones", Edits: one(deadmanFile, "		if sent < j.S2 {", "		if true {")},
	}
}
