package model

import "slices"

// recordTable is that of record.pml. Each counterexample has a positive configuration with the same faults or more.
func recordTable() []Config {
	positive := func(name, rule string, defines ...string) Config {
		return Config{Name: name, Model: recordModel, Defines: defines, Rule: rule}
	}
	without := func(c Config, rule, what string, macros ...string) Config {
		name := c.Name + ": " + macros[len(macros)-1]
		return Config{Name: name, Model: recordModel, Large: c.Large, Defines: append(slices.Clone(c.Defines), macros...), Rule: rule, Without: what}
	}
	plain := positive("record", "4.3.1", "SEQS=4")
	restarts := positive("arbiter restarts, record", "4.3.6", "SEQS=4", "RESTARTS=1")
	agents := positive("agent restarts", "4.4.7", "SEQS=3", "AGENTS=1")
	boots := positive("reboots", "4.3.10", "SEQS=3", "BOOTS=1")
	clone := positive("clone", "4.3.10", "SEQS=3", "CLONE")
	pauses := positive("pause", "4.4.9", "SEQS=5", "PAUSE")
	pauseRestart := positive("pause, arbiter restarts", "4.3.6", "SEQS=5", "PAUSE", "RESTARTS=1")
	pauseAgents := positive("pause, agent restarts", "4.4.9", "SEQS=5", "PAUSE", "AGENTS=1")
	restored := positive("store restored", "4.3.7", "SEQS=3", "ROLLBACK", "DECLARED")
	behind := positive("store behind", "4.3.7", "SEQS=3", "ROLLBACK")
	lost := positive("store lost", "4.3.7", "SEQS=2", "PEERSEQS=3", "ROLLBACK", "DECLARED", "EMPTY")
	restoredPause := positive("store restored, pause", "4.3.7", "SEQS=5", "PEERSEQS=3", "ROLLBACK", "DECLARED", "PAUSE", "BEGINS_HELD")
	restored.Large, restoredPause.Large = true, true
	return []Config{
		plain,
		without(plain, "4.3.1", "a lapsed grant is not renewed", "BAD_LAPSED_RENEWED"),
		without(plain, "4.3.4", "a release needs a higher seq, and an acquire a new epoch", "BAD_OLD_EPOCH_BACK",
			"BAD_RELEASE_WITHOUT_SEQ"),
		without(plain, "4.4.3", "proof, then disarm", "BAD_DISARM_BEFORE_PROOF"),
		restarts,
		without(restarts, "4.3.6", "the quarantine", "BAD_NO_QUARANTINE"),
		without(restarts, "4.3", "durable before its reply", "BAD_REPLY_BEFORE_DURABLE"),
		agents,
		without(agents, "4.4.7", "adopts only what the guard shows armed", "BAD_ADOPT_WITHOUT_GUARD"),
		without(agents, "4.4.2", "losing and stopped never go back to held", "BAD_ADOPT_ANYTHING"),
		boots,
		clone,
		without(clone, "4.3.2", "the boot counts, not the name", "BAD_NAME_IS_ENOUGH"),
		pauses,
		without(pauses, "4.4.9", "a pause is entered only if no later resume has left", "BAD_PAUSE_AFTER_RESUME"),
		without(pauses, "4.4.7", "paused is entered after the durable answer", "BAD_PAUSE_WITHOUT_ANSWER"),
		without(pauses, "4.4.9", "armed and acknowledged, then resume", "BAD_RESUME_BEFORE_ARM"),
		pauseRestart,
		without(pauseRestart, "4.3.6", "the last seq is durable", "BAD_SEQ_FORGOTTEN"),
		pauseAgents,
		without(pauseAgents, "4.4.9", "/run says held, then resume", "BAD_RESUME_BEFORE_RUN"),
		restored,
		without(restored, "4.3.7", "a restored store goes into recovery", "BAD_RESTORE_NOT_SUSPECT"),
		without(restored, "4.3.1", "a grant that was never renewed ends with its store", "BAD_UNRENEWED_CLAIM"),
		behind,
		without(behind, "4.3.7", "a store that is behind goes into recovery", "BAD_BEHIND_NOT_NOTICED"),
		lost,
		without(lost, "4.3.7", "new grants wait for the longest hold and for both nodes", "BAD_RECOVERY_WITHOUT_WAIT",
			"BAD_RECOVERY_WITHOUT_REPORTS"),
		restoredPause,
		without(restoredPause, "4.3.7", "new grants wait for both nodes: one may be paused", "BAD_RECOVERY_WITHOUT_REPORTS"),
	}
}
