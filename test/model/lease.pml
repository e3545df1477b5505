/*
 * One grant of one lease against the clock: the holder's agent, its guard, the watchdog, the arbiter's hold. The other
 * node is granted as soon as the arbiter allows it, and runs its copy at once.
 *
 * Proves: no copy runs there while one runs here (I1), if the hold is at least lease.Terms.NeededHold; the runner (see
 * run.go) gets every H from that function. With one tick less there is a counterexample.
 *
 * Shape: an event happens at an instant, or a tick passes. Who is frozen, starved, dead or cut off simply has no event;
 * so these need no events of their own. Ages are ticks of this node's clock since something left (Sent).
 *
 * The arbiter's record (epochs, restarts of agents, rollback, clones) is record.pml's part; it is untimed.
 *
 * Parameters, in ticks: L S J W Q K, C (1 with the kill timer, else 2), RHO (each clock is wrong by at most one tick in
 * RHO; 0: both are right), H (the hold). With PAUSE also D (length of a pause) and HP (its hold).
 * RESTART: the arbiter restarts at any time and waits QUAR.
 * Any macro that begins with NO_ or BAD_ takes one rule away.
 */
#define NONE 255
#define F (L + S)
#define DOG (W + Q)

#ifdef PAUSE
#define FP (D + S)
#else
#define FP F
#endif
#define CAP (FP + J + 1) /* older than any deadline: all alike */

mtype = { winning, held, losing, stopped, disarmed };

/* the agent (Holder) */
mtype phase = winning;
byte age = NONE;         /* since the newest acknowledged renewal was sent: Holder.sent */
bool news = false;       /* an acknowledgement that the guard does not know yet */
bool put = false;        /* the attribute is on its way: from now on Pacemaker may start the resource */

/* the guard (Deadman) */
bool guard = true;       /* false: killed */
byte armed = NONE;       /* since the renewal that its deadline counts from was sent; NONE: not armed */
bool checked = false;    /* it found now <= until, and has not fed yet */

/* the node */
bool running = false;    /* the resource is active */
byte dog = NONE;         /* 5.3: until the watchdog fires; the guard resets by itself, too, if it runs at all */
byte reset = NONE;       /* until the last write of a node that is being reset */

/* the network: a newer request or answer replaces the older one, which is a loss; no event is a loss or a delay. What
   overtakes is refused by its seq (4.3.3), so one slot each is enough. */
byte request = NONE;     /* age of the renewal under way */
byte answer = NONE;      /* age of the renewal whose answer is under way */
bool release = false;

/* the arbiter (Grantor) */
byte hold = L;           /* 4.3.1: a grant carries no time; without a first renewal within L it lapses */
bool other = false;      /* the other node is granted, and runs */

#ifdef PAUSE
byte pauseq = NONE, pausea = NONE;  /* ages of a pause request, and of the one that is answered */
bool far = false;        /* the guard's deadline is the pause's, D+S */
bool paused = false;     /* the arbiter's record */
bool resume = false;     /* a resume is under way */
#define UNTIL (far -> FP : F)
#else
#define UNTIL F
#endif

byte slowed = 0, hurried = 0; /* ticks until this node's clock may lose one, and the arbiter's may gain one */

#define OLDER(x) if :: x < CAP -> x++ :: else fi
#define GETS_OLDER(x) if :: x != NONE && x < CAP -> x++ :: else fi

inline bite() { /* the reset begins: nothing but its latency is left */
	if :: reset == NONE -> reset = K :: else fi
}

inline tick() {
	/* drift: 4.5. The watchdog's and the kill timer's clocks are this node's; K is real time. */
	if
	:: RHO > 0 && slowed == 0 -> slowed = RHO
	:: true ->
		GETS_OLDER(age); GETS_OLDER(armed); GETS_OLDER(request); GETS_OLDER(answer);
#ifdef PAUSE
		GETS_OLDER(pauseq); GETS_OLDER(pausea);
#endif
		if :: dog != NONE && dog > 0 -> dog-- :: else fi
	fi;
	if :: hold > 0 -> hold-- :: else fi;
	if
	:: RHO > 0 && hurried == 0 && hold > 0 -> hold--; hurried = RHO
	:: true
	fi;
	if :: slowed > 0 -> slowed-- :: else fi;
	if :: hurried > 0 -> hurried-- :: else fi;

	if :: reset != NONE -> reset-- :: else fi;
	/* 5.2, the kill timer: absolute at until + J, it needs no instruction of the guard */
	if :: C == 1 && armed != NONE && armed > UNTIL + J -> guard = false; checked = false :: else fi;
	if
	:: dog == 0 && guard && checked -> dog = DOG; checked = false /* fed at the last instant, after an old check */
	:: dog == 0 -> bite()
	:: else
	fi;
	if :: reset == 0 -> break :: else fi /* this node is off: nothing can go wrong any more */
}

active proctype world() {
	do
	/* ---- the agent ---- */
	:: atomic { (phase == winning || phase == held) && request != 0 -> request = 0 } /* renew: 4.4.1, Sent is now */
	:: atomic { answer != NONE && (phase == winning || phase == held) && (age == NONE || age < L) ->
		/* Step looks at the time first: from Sent+L on nothing is taken any more (4.4.4) */
#ifdef BAD_SENT_IS_RECEIPT
		age = 0;
#else
		if :: answer < age -> age = answer :: else fi;
#endif
		answer = NONE; news = true }
#ifdef BAD_SENT_OF_COPY
	/* 4.4.1: a second copy of a renewal leaves now; the arbiter has had the first one, so this one extends nothing */
	:: atomic { answer != NONE && (phase == winning || phase == held) -> answer = 0 }
#endif
	:: atomic { news && guard && (armed == NONE || armed <= UNTIL) && age < F ->
		/* arm or extend (Deadman.arm): until never goes back; too late is refused */
		news = false;
#ifndef NO_WATCHDOG
		if :: armed == NONE -> dog = DOG :: else fi;
#endif
#ifdef PAUSE
		if :: !far || armed == NONE -> if :: age < armed -> armed = age :: else fi :: else fi;
#else
		if :: age < armed -> armed = age :: else fi;
#endif
		if :: phase == winning && age < L -> put = true :: else fi } /* 4.4.3: only now the attribute */
#ifdef BAD_PUT_BEFORE_ARM
	:: atomic { phase == winning && news && age < L -> put = true }
#endif
	:: atomic { put -> put = false; running = true; /* Pacemaker acts when it likes, whatever became of the agent */
		if :: phase == winning -> phase = held :: else fi;
		assert(!other) }
	:: atomic { phase == winning || phase == held -> phase = losing; news = false; /* at L, or planned, or never */
#ifdef BAD_LATE_PUT
		skip /* 6.3: the put that is under way is not killed and reaped first */
#else
		put = false
#endif
		}
	:: atomic { phase == losing -> running = false; phase = stopped }                    /* proven, or never */
	:: atomic { phase == stopped -> armed = NONE; dog = NONE; checked = false; phase = disarmed }
	:: atomic { phase == disarmed && !release -> release = true }                        /* 4.3.4 */
#ifdef BAD_DISARM_BEFORE_PROOF
	:: atomic { phase == losing -> armed = NONE; dog = NONE; checked = false }
#endif
#ifdef BAD_RELEASE_BEFORE_PROOF
	:: atomic { phase == losing && !release -> release = true }
#endif

	/* ---- the guard ---- */
	:: atomic { guard && armed != NONE && armed <= UNTIL && !checked && dog != NONE -> checked = true }
	:: atomic { checked -> checked = false; dog = DOG } /* perhaps long after */
#ifdef BAD_FEED_ON_LIVENESS
	:: atomic { guard && dog != NONE -> dog = DOG }
#endif
	:: atomic { guard && armed != NONE && armed > UNTIL && reset == NONE -> bite() }

	/* ---- the arbiter ---- */
	:: atomic { request != NONE && !other -> /* 4.3.3: the hold restarts at receipt, and its end never comes nearer */
#ifdef BAD_RENEWAL_SHORTENS
		hold = H;
#else
		if :: hold < H -> hold = H :: else fi;
#endif
		answer = request; request = NONE }
#ifdef BAD_LATE_RENEWAL
	:: atomic { request != NONE && other -> answer = request; request = NONE } /* 4.3.1: a lapsed grant is void */
#endif
	:: atomic { !other && (hold == 0 || release) -> other = true; assert(!running) }
#ifdef RESTART
	:: atomic { !other -> hold = QUAR } /* 4.3.6: nothing is known of renewals */
#endif

#ifdef PAUSE
	/* ---- a pause with an end: the lease with L := D; 4.4.9, longer: arbiter first, then guard ---- */
	:: atomic { phase == held && !far && !paused && !resume && pauseq != 0 && pausea == NONE -> pauseq = 0 }
	:: atomic { pauseq != NONE && !other && !resume ->
		paused = true; pausea = pauseq; pauseq = NONE;
		if :: hold < HP -> hold = HP :: else fi }
#ifdef BAD_PAUSE_GUARD_FIRST
	:: atomic { phase == held && pauseq != NONE && guard && armed <= F && !far -> armed = pauseq; far = true }
#endif
	:: atomic { pausea != NONE && phase == held && age < L && guard && armed <= F && !far && pausea < D ->
		armed = pausea; far = true; pausea = NONE }
	/* shorter: a renewal is acknowledged, the guard re-armed and acknowledged, only then resume leaves */
	:: atomic { far && phase == held && news && guard && armed <= FP && age < F ->
		armed = age; far = false; news = false; resume = true }
#ifdef BAD_RESUME_FIRST
	:: atomic { far && phase == held && !resume -> resume = true }
#endif
	:: atomic { resume && paused && !other -> resume = false; paused = false; hold = H }
#endif

	:: atomic { true -> tick() }
	od
}
