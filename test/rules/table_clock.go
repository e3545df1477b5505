package rules

const (
	rateFile    = "ntpaudit/rate.go"
	verdictFile = "ntpaudit/verdict.go"
	auditFile   = "ntpaudit/audit.go"
	queryFile   = "ntpaudit/query.go"
	surveyFile  = "agent/survey.go"
)

func audit() []string { return []string{"ntpaudit"} }

// clockRules are 4.6: what a verdict about the clock needs, and what it may do.
func clockRules() []Rule {
	clock := func(without, file, old, text string) Rule {
		return Rule{ID: "4.6", Without: without, Packages: audit(), Edits: one(file, old, text)}
	}
	return []Rule{
		clock("the way of a question is nobody's time", rateFile, "ppm(b.Sent.Sub(a.Received), most)", "ppm(b.Sent.Sub(a.Sent), most)"),
		clock("the way of an answer is nobody's time", rateFile, "ppm(b.Received.Sub(a.Sent), least)", "ppm(b.Received.Sub(a.Received), least)"),
		clock("a server's own doubt counts", rateFile, "doubt := a.Bound + b.Bound", "doubt := time.Duration(0)"),
		clock("an exchange that cannot be is refused", rateFile, "	case kept > 2*took+time.Millisecond:", "	case false:"),
		clock("a verdict needs three windows", rateFile, "keepWindows = 3", "keepWindows = 1"),
		clock("the whole interval lies beyond the bound", rateFile, "	return r.Low > bound\n", "	return r.High > bound\n"),
		clock("a window across a pause does not count", auditFile, "		a.servers[i].cut(p.Until)\n", "		_ = i\n"),
		clock("another clock of the arbiter begins a new window", auditFile, "	if id != a.clock {\n", "	if false && id != a.clock {\n"),
		clock("a majority of those that are configured", verdictFile, "	return 2*n > len(servers)\n", "	return n > 0\n"),
		clock("a single server is overruled by the arbiter's clock", verdictFile,
			"len(servers) == 1 && arbiter.clears(rho)", "len(servers) == 1 && false && arbiter.clears(rho)"),
		clock("the arbiter's clock is enough", verdictFile, "	case arbiter.says(rho, 1), arbiter.says(rho, -1):\n", "	case false:\n"),
		clock("who is not fit to be asked for the time says nothing", queryFile, "	if err := r.Validate(); err != nil {\n",
			"	if err := r.Validate(); false {\n"),
		clock("an answer that the library cannot bear ends nothing", queryFile, "		if p := recover(); p != nil {\n",
			"		if p := any(nil); p != nil {\n"),
		{ID: "4.6", Without: "who is off does not compete", Packages: []string{"agent"}, Edits: one(surveyFile, "	why = a.clockGate()\n", "")},
		{ID: "4.6", Without: "what is held is asked nothing", Packages: []string{"agent"}, Edits: one(surveyFile,
			"	if slices.ContainsFunc(phases, mayWin) {\n		c.nodeWhy = a.nodeGates(ctx, c)\n	}\n", "	c.nodeWhy = a.clockGate()\n")},
	}
}
