/*
 * The arbiter's record of one lease between two nodes, without a clock: epochs, copies and delays of requests, restarts
 * of the arbiter and of an agent, resets and reboots, a database that is rolled back, a clone, pause, release, recovery.
 *
 * Proves: never two copies (I1); epochs only rise (I3).
 *
 * Time stands in two ghosts only, which lease.pml justifies:
 *   - who has an acknowledged renewal and no reset yet "has time" (TIME). The guard takes it away by a reset at any moment;
 *   - a hold that was counted from a later receipt ends after that: expire waits until its holder has no time left.
 *     A rule that lets a hold end too early clears counted, or lets time run that nobody counts (older).
 * In return an acknowledgement that is under way when a hold ends is void: its request's deadline has passed (4.4.1).
 *
 * For the same reason a request that left before an old store came back may still arrive, but is not answered in time.
 *
 * Which faults may happen: PAUSE, AGENTS (restarts of node 0's agent), BOOTS (reboots of each node), RESTARTS (of the
 * arbiter), CLONE (node 1 is a machine with node 0's name), ROLLBACK (an old store comes back: DECLARED, so that the
 * arbiter knows it, EMPTY if there is nothing in it; else every node has heard of every change, 4.3.7). SEQS and PEERSEQS
 * bound the requests of a boot of node 0 and of node 1, EPOCHS the grants; BEGINS_HELD leaves the first win out.
 * Any macro that begins with NO_ or BAD_ takes one rule away.
 */
#ifndef BOOTS
#define BOOTS 0
#endif
#ifndef AGENTS
#define AGENTS 0
#endif
#ifndef RESTARTS
#define RESTARTS 0
#endif
#ifndef SEQS
#define SEQS 4
#endif
#ifndef PEERSEQS
#define PEERSEQS 2
#endif
#ifndef EPOCHS
#define EPOCHS 2
#endif

mtype = { standby, acquiring, winning, held, losing, stopped, paused, resuming };       /* Phase */
mtype = { none, run_held, run_losing, run_released, run_paused };                        /* RunState */
mtype = { acquire, adopt, renew, give, pause, resume };                                  /* requests */
mtype = { nothing, granted, adopted, renewed, renewed_old, pause_ok, resume_ok, recovering }; /* answers */
mtype = { is_free, is_held, is_paused };                                                    /* RecordState */

typedef Node {
	mtype phase = standby;
	bool on = true;
	byte boot;           /* of this machine; BOOT() is unique over both */
	byte inst;           /* start of the agent in this boot */
	byte party;          /* the instance that the arbiter has on record, as far as is known here */
	byte seq;
	byte seen;           /* highest epoch, durable (Known) */
	byte ep;
	bool adopting;
	bool acked;          /* a renewal is acknowledged, the guard not armed yet */
	bool armed;
	bool older;          /* ghost: its time comes from before the arbiter's last restart or recovery */
	bool running;
	mtype says = none;    /* /run about this lease */
	mtype ans = nothing; /* the answer under way; a newer one replaces it */
	byte aep; byte aseq; bool apaused; byte aid;
	byte kid;            /* the store id that it knows */
	byte kgen;
	bool pausing;        /* a pause was sent and is not settled */
	byte told;           /* seq of its newest resume */
};
Node node[2];

/* the record, durable */
byte r_ep, r_seq, r_boot = 255, r_inst;
mtype r_state = is_free;
byte id, gen;
bool recovery = false, suspect = false;
/* what the arbiter knows since it started */
byte lastseq;
bool fresh, lapsed, expired, quarantine;
bool counted;           /* ghost: the hold was counted from the last renewal at the earliest */
bool reported[2]; bool waited; byte recfloor;
byte restarts;

byte top;               /* ghost: highest epoch ever granted */

#ifdef ROLLBACK
byte b_ep, b_seq, b_boot, b_inst, b_id, b_gen; mtype b_state; byte backup; /* 0 none, 1 taken, 2 restored */
#endif
#ifdef BAD_REPLY_BEFORE_DURABLE
byte d_ep, d_seq, d_boot = 255, d_inst; mtype d_state = is_free; /* the record before the last change */
#endif

/* type, boot, inst, epoch (claimed, or seen), seq, claims a pause, store id and generation that the node knew, left
   after an old store came back */
chan req = [2] of { mtype, byte, byte, byte, byte, bool, byte, byte, bool };

#ifdef ROLLBACK
#define CAMEBACK (backup == 2)
#else
#define CAMEBACK 0
#endif
#define BOOT(n) (2*node[n].boot + n)
#define TIME(n) (node[n].armed || node[n].acked)
#define ALIVE(n) (node[n].on)
#ifdef CLONE
#define NAME(b) 0
#else
#define NAME(b) ((b) % 2)
#endif
/* 4.3.2, 4.3.10: the boot counts, not the name */
#ifdef BAD_NAME_IS_ENOUGH
#define SAMEBOOT(b) (r_boot != 255 && NAME(r_boot) == NAME(b))
#else
#define SAMEBOOT(b) (r_boot == (b))
#endif
#define OLDTIME ((TIME(0) && node[0].older) || (TIME(1) && node[1].older))
#define HOLDERTIME ((r_boot == BOOT(0) && TIME(0)) || (r_boot == BOOT(1) && TIME(1)))
/* the hold is over: its holder has been reset or has stopped, if the hold was counted as it must be */
#define OVER (!(counted && HOLDERTIME) && !(quarantine && OLDTIME))

hidden byte n;
inline send(kind_, epoch_, claim_, name_) {
	node[n].seq++;
	req!!kind_(BOOT(n), name_, epoch_, node[n].seq, claim_, node[n].kid, node[n].kgen, CAMEBACK)
}
inline reply(kind_, epoch_, seq_) { /* only a machine of that boot takes it, and only the agent that asked (reset by restart) */
	if
	:: ALIVE(m) && BOOT(m) == q_boot && node[m].inst == q_inst && q_late == CAMEBACK ->
		node[m].ans = kind_; node[m].aep = epoch_; node[m].aseq = seq_; node[m].apaused = (r_state == is_paused); node[m].aid = id
	:: else
	fi
}
inline before_change() {
#ifdef BAD_REPLY_BEFORE_DURABLE
	d_ep = r_ep; d_seq = r_seq; d_boot = r_boot; d_inst = r_inst; d_state = r_state;
#endif
	skip
}
inline changed() { /* 4.3: every durable change raises the generation */
#if defined(ROLLBACK) && !defined(DECLARED)
	gen++;
	if :: node[0].kid == id -> node[0].kgen = gen :: else fi;
	if :: node[1].kid == id -> node[1].kgen = gen :: else fi;
#endif
	skip
}
inline forget_acks() {
	if :: node[0].ans == renewed || node[0].ans == renewed_old -> node[0].ans = nothing :: else fi;
	if :: node[1].ans == renewed || node[1].ans == renewed_old -> node[1].ans = nothing :: else fi
}
inline age_time() { /* what was acknowledged until now counts from before */
	if :: TIME(0) -> node[0].older = true :: else fi;
	if :: TIME(1) -> node[1].older = true :: else fi;
	if :: node[0].ans == renewed -> node[0].ans = renewed_old :: else fi;
	if :: node[1].ans == renewed -> node[1].ans = renewed_old :: else fi
}
inline wipe() { /* a machine loses its power or is reset */
	node[n].running = false; node[n].armed = false; node[n].acked = false; node[n].older = false;
	node[n].says = none; node[n].ans = nothing; node[n].phase = standby; node[n].ep = 0; node[n].seq = 0;
	node[n].inst = 0; node[n].party = 0; node[n].adopting = false; node[n].pausing = false; node[n].told = 0;
	node[n].aep = 0; node[n].aseq = 0; node[n].apaused = false; node[n].aid = 0;
	if :: node[n].boot < BOOTS -> node[n].boot++ :: else -> node[n].on = false fi
}
inline start_volatile() { /* 4.3.6 */
#ifdef BAD_SEQ_FORGOTTEN
	lastseq = 0;
#else
	lastseq = r_seq;
#endif
	fresh = false; lapsed = false; expired = false; quarantine = (r_state != is_free); counted = (r_state != is_free);
	reported[0] = false; reported[1] = false; waited = false; recfloor = 0;
	age_time();
#ifdef BAD_NO_QUARANTINE
	quarantine = false; counted = false;
#endif
}
inline enter_recovery() { /* 4.3.7: always a new id */
	id++; recovery = true; suspect = false; reported[0] = false; reported[1] = false; waited = false; recfloor = 0;
	if :: q_gen > gen -> gen = q_gen :: else fi;
	changed();
	age_time()
}

/* the request that is served, and one that it overtakes; all 0 between two events */
hidden byte q_boot, q_inst, q_ep, q_seq, q_id, q_gen, p_boot, p_inst, p_ep, p_seq, p_id, p_gen, m;
hidden mtype q, p;
hidden byte q_paused, p_paused, q_late, p_late;

inline take_claim() {
	if :: q_ep > recfloor -> recfloor = q_ep :: else fi;
	if
	:: (q == renew || q == adopt || q == pause || q == resume) && q_ep >= recfloor &&
	   (q_ep > r_ep || q_ep == r_ep && (r_state == is_free || SAMEBOOT(q_boot) && q_inst >= r_inst)) ->
		if
		:: q_ep > r_ep || r_state == is_free || r_inst != q_inst || q_paused && r_state == is_held ->
			r_seq = (q_ep == r_ep && r_boot == q_boot && r_inst == q_inst && r_seq > q_seq - 1 -> r_seq : q_seq - 1);
			if
			:: q_paused -> r_state = is_paused
			:: !q_paused && !(q_ep == r_ep && r_state == is_paused) -> r_state = is_held
			:: else
			fi;
			r_ep = q_ep; r_boot = q_boot; r_inst = q_inst;
			lastseq = r_seq; fresh = false; lapsed = false; expired = false; quarantine = false; counted = true;
			changed()
		:: else
		fi
	:: else
	fi
}

/* the newest of what a node has seen is in acquire; the others name the epoch that they are about */
inline grant() {
	before_change();
#ifdef BAD_OLD_EPOCH_BACK
	if :: SAMEBOOT(q_boot) && q_ep == r_ep && r_ep > 0 -> skip :: else -> r_ep = (q_ep > r_ep -> q_ep : r_ep) + 1 fi;
#else
	r_ep = (q_ep > r_ep -> q_ep : r_ep) + 1; /* 4.3.1 */
#ifndef ROLLBACK
	assert(r_ep > top);
#endif
#endif
	top = r_ep;
	if :: r_state == is_free || expired || lapsed -> counted = false :: else fi; /* else: what its own boot left still counts (Carry) */
	r_state = is_held; r_boot = q_boot; r_inst = q_inst; r_seq = q_seq; lastseq = q_seq;
	fresh = true; lapsed = false; expired = false; quarantine = false;
	changed();
	reply(granted, r_ep, q_seq)
}

#ifdef BAD_RELEASE_WITHOUT_SEQ
#define RELEASE_IS_NEW true
#else
#define RELEASE_IS_NEW (q_seq > lastseq)
#endif
#ifdef BAD_LAPSED_RENEWED
#define MAYRENEW (SAMEBOOT(q_boot) || q_ep < r_ep)
#else
#define MAYRENEW (q_ep == r_ep && r_state != is_free && SAMEBOOT(q_boot) && q_inst == r_inst && !lapsed && q_seq > lastseq)
#endif
#define OWNAGAIN (r_state == is_held && SAMEBOOT(q_boot) && !fresh && !quarantine)

inline serve() {
	m = q_boot % 2;
	if
	:: recovery -> take_claim()
	:: else
	fi;
	if
	:: q_id != id -> reply(recovering, 0, q_seq) /* the node may take the new id (Echo) */
	:: else ->
		if
		:: recovery && (q == acquire || q == adopt || q == renew) -> reported[m] = true
		:: else
		fi;
		if
		:: q == acquire && !recovery && (r_state == is_free || expired || lapsed || OWNAGAIN) &&
		   !(r_boot == q_boot && q_seq <= lastseq) && r_ep < EPOCHS && q_ep < EPOCHS -> grant()
		/* 4.3.10: the holder's node has booted anew, and says so: what was paused is dead */
		:: q == acquire && !recovery && r_state == is_paused && !SAMEBOOT(q_boot) && NAME(r_boot) == NAME(q_boot) && !expired ->
			expired = OVER
		:: q == adopt && q_ep == r_ep && r_state != is_free && SAMEBOOT(q_boot) && q_inst >= r_inst && !lapsed && !expired &&
		   !(q_inst == r_inst && q_seq <= lastseq) -> /* 4.3.2 */
			before_change();
			r_boot = q_boot; r_inst = q_inst; r_seq = q_seq; lastseq = q_seq;
			if :: q_paused -> r_state = is_paused :: else fi;
			changed();
			reply(adopted, r_ep, q_seq)
		:: q == renew && MAYRENEW -> /* 4.3.3: not written */
			if :: q_ep == r_ep && SAMEBOOT(q_boot) ->
				lastseq = q_seq; fresh = false; expired = false; quarantine = false; counted = true
			:: else
			fi;
			reply(renewed, q_ep, q_seq)
		:: q == give && q_ep == r_ep && r_state != is_free && SAMEBOOT(q_boot) && q_inst >= r_inst && RELEASE_IS_NEW -> /* 4.3.4 */
			before_change();
			r_state = is_free; r_seq = q_seq; lastseq = q_seq; fresh = false; lapsed = false; expired = false; quarantine = false;
			changed() /* nobody waits for the answer: who has stopped may become standby when it likes */
		:: q == pause && q_ep == r_ep && r_state != is_free && SAMEBOOT(q_boot) && q_inst == r_inst && !lapsed && q_seq > lastseq &&
		   !expired && !fresh ->
			before_change();
			r_state = is_paused; r_seq = q_seq; lastseq = q_seq;
			changed();
			reply(pause_ok, r_ep, q_seq)
		:: q == resume && q_ep == r_ep && r_state != is_free && SAMEBOOT(q_boot) && q_inst == r_inst && !lapsed && q_seq > lastseq ->
			before_change();
			if :: r_state == is_paused -> counted = true; expired = false; quarantine = false :: else fi;
			r_state = is_held; r_seq = q_seq; lastseq = q_seq;
			changed();
			reply(resume_ok, r_ep, q_seq)
		:: else
		fi
	fi
}

inline receive() {
	if
	:: suspect || !recovery && q_id == id && (q_gen > gen || q_ep > r_ep) ->
#ifdef BAD_BEHIND_NOT_NOTICED
		suspect = false
#else
		enter_recovery()
#endif
	:: else
	fi;
	serve()
}

inline lose() { /* 4.4.2, 4.4.3 */
	node[n].phase = losing; node[n].acked = false; node[n].pausing = false; node[n].adopting = false;
	node[n].ans = nothing; node[n].aep = 0; node[n].aseq = 0; node[n].apaused = false; node[n].aid = 0;
	node[n].says = run_losing
}

#ifdef BAD_PAUSE_AFTER_RESUME
#define RESUME_IS_OLDER true
#else
#define RESUME_IS_OLDER (node[n].told < node[n].aseq)
#endif
#ifdef BAD_UNRENEWED_CLAIM
#define UNRENEWED false
#else
#define UNRENEWED (!node[n].acked && !node[n].armed)
#endif
inline take_answer() { /* 4.3.7, Known.Judge: an answer of another store counts only if it says recovery */
	if
	:: node[n].ans == recovering -> node[n].kid = node[n].aid; node[n].kgen = gen;
		if /* a grant that was never renewed: the store that gave it is gone, and another may have followed (4.3.1) */
		:: node[n].phase == winning && UNRENEWED -> lose()
		:: else
		fi
	:: node[n].aid != node[n].kid -> skip
	:: else ->
		if
		:: node[n].ans == granted && node[n].phase == acquiring && node[n].aep > node[n].seen -> /* 4.4.3: seen is durable */
			node[n].phase = winning; node[n].ep = node[n].aep; node[n].seen = node[n].aep; node[n].party = node[n].inst
#ifdef BAD_OLD_EPOCH_BACK
		:: node[n].ans == granted && node[n].phase == acquiring && node[n].aep == node[n].seen ->
			node[n].phase = winning; node[n].ep = node[n].aep; node[n].party = node[n].inst
#endif
		:: node[n].ans == adopted && node[n].adopting && node[n].aep == node[n].ep ->
			node[n].adopting = false; node[n].party = node[n].inst;
			if :: node[n].phase == held && node[n].apaused -> node[n].pausing = true :: else fi
		:: (node[n].ans == renewed || node[n].ans == renewed_old) && node[n].aep == node[n].ep &&
		   (node[n].phase == winning || node[n].phase == held || node[n].phase == resuming) ->
			if
			:: !node[n].armed -> node[n].acked = true; node[n].older = (node[n].ans == renewed_old)
			:: node[n].armed && node[n].ans == renewed -> node[n].older = false
			:: else
			fi;
			if :: node[n].phase == held && node[n].apaused -> node[n].pausing = true :: else fi
		:: node[n].ans == pause_ok && node[n].phase == held && node[n].pausing &&  node[n].aep == node[n].ep &&
		   RESUME_IS_OLDER -> /* 4.4.9 */
			node[n].phase = paused; node[n].pausing = false; node[n].says = run_paused
		:: node[n].ans == resume_ok && node[n].aep == node[n].ep && node[n].aseq == node[n].told ->
			node[n].pausing = false;
			if :: node[n].phase == resuming && node[n].armed && node[n].says == run_held -> node[n].phase = held :: else fi
		:: else
		fi
	fi;
	node[n].ans = nothing; node[n].aep = 0; node[n].aseq = 0; node[n].apaused = false; node[n].aid = 0
}

inline restart_agent() { /* 4.4.7 */
	node[n].inst++; node[n].ans = nothing; node[n].aep = 0; node[n].aseq = 0; node[n].apaused = false; node[n].aid = 0;
	node[n].pausing = false; node[n].adopting = false; node[n].acked = false; node[n].told = 0;
	if
#ifdef BAD_ADOPT_WITHOUT_GUARD
	:: node[n].says == run_held -> node[n].phase = held; node[n].adopting = true
#elif defined(BAD_ADOPT_ANYTHING)
	:: node[n].says == run_held || node[n].says == run_losing || node[n].says == run_released ->
		node[n].phase = held; node[n].adopting = true; node[n].says = run_held
#else
	:: node[n].says == run_held && node[n].armed -> node[n].phase = held; node[n].adopting = true
#endif
	:: node[n].says == run_paused -> node[n].phase = paused; node[n].adopting = true
	:: node[n].says == none && !node[n].armed && !node[n].running -> node[n].phase = standby; node[n].ep = 0
	:: else -> lose()
	fi
}

#define MAYSEND (len(req) < 2 && node[n].seq < (n == 0 -> SEQS : PEERSEQS))

#ifdef BAD_RESUME_BEFORE_RUN
#define SAYS_HELD true
#else
#define SAYS_HELD (node[n].says == run_held)
#endif
/* Node 1 is simpler: its agent never dies without its machine, so nobody sees its steps and it takes several at once; and
   what it has won it loses by a reset only. Node 0 does all. */
#define PEER(steps) if :: n == 1 -> steps :: else fi
inline node_events() {
	if
	/* ---- the agent ---- */
	:: (node[n].phase == standby || node[n].phase == acquiring && len(req) == 0) && MAYSEND ->
		node[n].phase = acquiring; send(acquire, node[n].seen, false, node[n].inst)
	:: node[n].ans != nothing -> take_answer()
	:: !node[n].adopting && (node[n].phase == winning && !node[n].acked && !node[n].armed || node[n].phase == held ||
	   node[n].phase == resuming) && MAYSEND ->
		send(renew, node[n].ep, node[n].phase == resuming, node[n].inst)
	:: node[n].adopting && MAYSEND -> send(adopt, node[n].ep, node[n].phase == paused, node[n].inst)
	:: node[n].phase == paused && !node[n].adopting && MAYSEND -> send(renew, node[n].ep, true, node[n].inst)
	/* 4.4.3: /run, arm, attribute. Held is what asserts the attribute, also in a successor */
	:: node[n].phase == winning && node[n].acked && node[n].says == none -> node[n].says = run_held;
		PEER(node[n].armed = true; node[n].acked = false; node[n].running = true; node[n].phase = held)
	:: node[n].phase == winning && node[n].acked && node[n].says == run_held -> node[n].armed = true; node[n].acked = false
	:: (node[n].phase == winning && node[n].armed || node[n].phase == held) && !node[n].running ->
		node[n].running = true; node[n].phase = held
	:: n == 0 && (node[n].phase == winning || node[n].phase == held || node[n].phase == resuming && node[n].armed) -> lose()
	:: n == 1 && node[n].phase == winning && !node[n].armed -> lose()
	:: node[n].phase == losing -> node[n].running = false; node[n].phase = stopped; node[n].says = run_released
	:: node[n].phase == stopped && node[n].armed -> node[n].armed = false; node[n].older = false
#ifdef BAD_DISARM_BEFORE_PROOF
	:: node[n].phase == losing && node[n].armed -> node[n].armed = false; node[n].older = false
#endif
	:: node[n].phase == stopped && !node[n].armed && MAYSEND -> /* in the recorded name, or in its own */
		if :: send(give, node[n].ep, false, node[n].party) :: node[n].party != node[n].inst -> send(give, node[n].ep, false, node[n].inst) fi
	:: node[n].phase == stopped && !node[n].armed -> node[n].phase = standby; node[n].says = none; node[n].ep = 0; node[n].party = 0
#ifdef PAUSE
	:: n == 0 && node[n].phase == held && node[n].running && !node[n].pausing && !node[n].adopting && MAYSEND ->
		node[n].pausing = true; send(pause, node[n].ep, false, node[n].inst)
#ifdef BAD_PAUSE_WITHOUT_ANSWER
	:: n == 0 && node[n].phase == held && node[n].pausing -> node[n].phase = paused; node[n].pausing = false; node[n].says = run_paused
#endif
	:: node[n].phase == held && node[n].pausing && !node[n].adopting && MAYSEND -> /* an unanswered pause counts as none */
		send(resume, node[n].ep, true, node[n].inst); node[n].told = node[n].seq
	:: node[n].phase == paused && node[n].armed -> node[n].armed = false; node[n].older = false
	:: node[n].phase == paused && !node[n].armed && !node[n].adopting -> node[n].phase = resuming
#ifdef BAD_RESUME_BEFORE_ARM
	:: node[n].phase == resuming && MAYSEND -> send(resume, node[n].ep, true, node[n].inst); node[n].told = node[n].seq
#endif
	:: node[n].phase == resuming && node[n].acked -> node[n].armed = true; node[n].acked = false
	:: node[n].phase == resuming && node[n].armed && node[n].says == run_paused -> node[n].says = run_held
	:: node[n].phase == resuming && node[n].armed && SAYS_HELD && MAYSEND ->
		send(resume, node[n].ep, true, node[n].inst); node[n].told = node[n].seq
#endif
	:: n == 0 && node[n].inst < AGENTS -> restart_agent()
	/* ---- the guard, or the power ---- */
	:: node[n].armed || node[n].running -> wipe()
	:: else
	fi
}

active proctype world() {
#ifdef BEGINS_HELD
	d_step { /* node 0 has been granted epoch 1 (seq 1), has renewed it (seq 2), and runs */
		node[0].phase = held; node[0].seq = 2; node[0].seen = 1; node[0].ep = 1; node[0].armed = true; node[0].running = true;
		node[0].says = run_held; r_ep = 1; r_state = is_held; r_boot = 0; r_seq = 1; lastseq = 2; counted = true; top = 1
	}
#endif
end:	do /* a valid end: every request is used up; a state that is stuck elsewhere is an error of the model */
	:: atomic { ALIVE(0) || ALIVE(1) ->
		if :: ALIVE(0) -> n = 0 :: ALIVE(1) -> n = 1 fi;
		node_events(); n = 0;
		assert(!(node[0].running && node[1].running)) }
	/* ---- the network: in order, overtaken, doubled, lost ---- */
	:: atomic { nempty(req) -> req?q(q_boot, q_inst, q_ep, q_seq, q_paused, q_id, q_gen, q_late);
		if /* the channel is sorted, which halves the states; the second message overtakes the first */
		:: len(req) == 1 -> req?p(p_boot, p_inst, p_ep, p_seq, p_paused, p_id, p_gen, p_late);
			req!q(q_boot, q_inst, q_ep, q_seq, q_paused, q_id, q_gen, q_late);
			q = p; q_boot = p_boot; q_inst = p_inst; q_ep = p_ep; q_seq = p_seq; q_paused = p_paused; q_id = p_id; q_gen = p_gen; q_late = p_late;
			p = acquire; p_boot = 0; p_inst = 0; p_ep = 0; p_seq = 0; p_paused = false; p_id = 0; p_gen = 0; p_late = 0
		:: true
		fi;
		if
		:: true -> receive();
			if
			:: q != acquire -> req!!q(q_boot, q_inst, q_ep, q_seq, q_paused, q_id, q_gen, q_late)
			:: true
			fi
		:: true
		fi;
		q = acquire; q_boot = 0; q_inst = 0; q_ep = 0; q_seq = 0; q_paused = false; q_id = 0; q_gen = 0; q_late = 0; m = 0 }
	/* ---- the arbiter's clock ---- */
	:: atomic { r_state == is_held && !expired && !fresh && !lapsed && OVER -> expired = true; quarantine = false; forget_acks() }
	:: atomic { r_state == is_held && fresh && OVER -> fresh = false; lapsed = true; forget_acks() } /* 4.3.1 */
	/* ---- the arbiter's process and store ---- */
	:: atomic { restarts < RESTARTS -> restarts++;
#ifdef BAD_REPLY_BEFORE_DURABLE
		if :: r_ep = d_ep; r_seq = d_seq; r_boot = d_boot; r_inst = d_inst; r_state = d_state :: true fi;
#endif
		start_volatile() }
#ifdef ROLLBACK
#ifdef EMPTY
	:: atomic { backup == 0 && r_ep == 0 -> backup = 1;
#else
	:: atomic { backup == 0 && r_ep > 0 -> backup = 1;
#endif
		b_ep = r_ep; b_seq = r_seq; b_boot = r_boot; b_inst = r_inst; b_state = r_state; b_id = id; b_gen = gen }
	:: atomic { backup == 1 -> backup = 2;
		r_ep = b_ep; r_seq = b_seq; r_boot = b_boot; r_inst = b_inst; r_state = b_state; id = b_id; gen = b_gen;
		b_ep = 0; b_seq = 0; b_boot = 0; b_inst = 0; b_state = is_free; b_id = 0; b_gen = 0;
#if defined(DECLARED) && !defined(BAD_RESTORE_NOT_SUSPECT)
		suspect = true;
#endif
		recovery = false;
		start_volatile() }
	/* max_hold since the recovery began: what anybody had from before is over */
#ifdef BAD_RECOVERY_WITHOUT_WAIT
	:: atomic { recovery && !waited -> waited = true }
#else
	:: atomic { recovery && !waited && !OLDTIME -> waited = true; forget_acks() }
#endif
#ifdef BAD_RECOVERY_WITHOUT_REPORTS
#define BOTH_REPORTED true
#else
#define BOTH_REPORTED (reported[0] && reported[1])
#endif
	:: atomic { recovery && waited && BOTH_REPORTED &&
		(recfloor <= r_ep || r_state == is_free || r_state == is_held && OVER) ->
		recovery = false; changed();
		if :: recfloor > r_ep -> r_ep = recfloor; r_state = is_free; fresh = false; lapsed = false; expired = false; quarantine = false :: else fi;
		recfloor = 0; reported[0] = false; reported[1] = false; waited = false }
#endif
	od
}
