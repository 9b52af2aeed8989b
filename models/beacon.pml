/* Time, beacon and terms (docs/protocol.md section 9).
 *
 * FORKS=0: one agent and its clock. The coordinator signs a beacon every tick and revokes E at some moment; the
 * broker delays, drops and repeats answers with the time, beacons and pushed holdings as it likes, within what
 * request ids and signatures leave it.
 * FORKS=1: two agents and the coordinators that a broker may show them: one that was cloned with its key, and
 * successors that the operators ordered, one of them restored from an old state.
 */

#ifndef CLOCK_FROM_BEACONS /* a beacon sets the clock */
#define CLOCK_FROM_BEACONS 0
#endif
#ifndef NO_SENT_TIME /* the time told counts from when the answer came */
#define NO_SENT_TIME 0
#endif
#ifndef NO_ROUND_TRIP /* an answer with the time may take as long as it likes */
#define NO_ROUND_TRIP 0
#endif
#ifndef NO_CLOCK_RATE /* the host stops the guest's clock: what we assume it cannot */
#define NO_CLOCK_RATE 0
#endif
#ifndef LIVE_BY_ARRIVAL /* live is who received a beacon lately, whatever its own time */
#define LIVE_BY_ARRIVAL 0
#endif
#ifndef NO_BEACON_TIME /* a beacon's time is not looked at when it is taken */
#define NO_BEACON_TIME 0
#endif
#ifndef NO_SEQUENCE /* an older beacon may follow a newer one */
#define NO_SEQUENCE 0
#endif
#ifndef NO_BEACON_SIGNATURE /* an insider's word is a beacon: the mesh key is enough */
#define NO_BEACON_SIGNATURE 0
#endif
#ifndef NO_HELD_SET /* a beacon counts whether or not the revoked set that it names is held */
#define NO_HELD_SET 0
#endif
#ifndef NO_LATE_HOLDINGS /* holdings from before the last beacon may still change the revoked set */
#define NO_LATE_HOLDINGS 0
#endif
#ifndef NO_COMPARE /* peers do not compare their beacons */
#define NO_COMPARE 0
#endif
#ifndef NO_STOP /* who holds proof of a fork goes on */
#define NO_STOP 0
#endif
#ifndef NO_TERM_ORDER /* an older term may follow a newer one */
#define NO_TERM_ORDER 0
#endif
#ifndef NO_TERM_KEY /* a second key of a term is taken too */
#define NO_TERM_KEY 0
#endif
#ifndef NO_STATE /* a coordinator's state may be older than what was witnessed */
#define NO_STATE 0
#endif
#ifndef FORKS
#define FORKS 0
#endif
#ifndef CLONED /* 1: there are two instances with the term's key, or it leaked */
#define CLONED 0
#endif
#ifndef SHOW /* 1: stop where E is known to be revoked, live; or two agents have met */
#define SHOW 0
#endif
#ifndef GRACE /* ticks */
#define GRACE 4
#endif
#ifndef END /* the last tick */
#define END 12
#endif
#ifndef SEQUENCES /* beacons, where they fork */
#define SEQUENCES 3
#endif
#define AHEAD 1
#define NONE 99

/* FORKS=0 */

byte t;                 /* true time, and the coordinator's */
byte lag;               /* ticks that the agent's clock lost */
byte revoked_at = NONE; /* when the coordinator signed that E is revoked */
byte sent = NONE;       /* when the agent asked for the time, by its clock */
byte told = NONE;       /* the answer, once the coordinator has made it */
bit is_set;
short offset;
byte last = NONE;       /* the own time of the last beacon that counted, which is its sequence too */
byte came;              /* when it came, by the agent's clock */
bit e_known;            /* the revoked set that the agent holds names E */

byte b;      /* zero between steps */
bit says; /* zero between steps */

#define local (t - lag)
#define now (local + offset)
#define names_e(made) (revoked_at != NONE && (made) > revoked_at)
#define live (is_set && last != NONE && (LIVE_BY_ARRIVAL -> local - came <= GRACE : now - last <= GRACE))

inline check_closed() {
	assert(!(live && revoked_at != NONE && t > revoked_at + GRACE && !e_known)); /* who is live a grace after a revocation knows it */
	assert(!SHOW || !(live && e_known && t > revoked_at + GRACE)) /* a revocation is known */
}

inline tick() {
	atomic {
		t < END;
		if
		:: true
		:: NO_CLOCK_RATE -> lag++
		fi;
		d_step { t++; check_closed() }
	}
}

inline revoke() {
	atomic { revoked_at == NONE; d_step { revoked_at = t; check_closed() } }
}

/* Asks anew whenever it likes: only the answer to the last question is taken. */
inline ask() {
	atomic { sent != local || told != NONE; d_step { sent = local; told = NONE } }
}

inline answer_time() {
	atomic { sent != NONE && told == NONE; d_step { told = t } }
}

inline take_time() {
	atomic {
		told != NONE && (NO_ROUND_TRIP || local - sent < GRACE / 2);
		d_step {
			offset = told - (NO_SENT_TIME -> local : sent);
			is_set = 1;
			sent = NONE; told = NONE;
			check_closed()
		}
	}
}

inline any_made() {
	b = 0;
	do
	:: b < t -> b++
	:: break
	od
}

inline take_beacon() {
	atomic {
		any_made();
		if
		:: says = names_e(b)
		:: NO_BEACON_SIGNATURE -> says = 0
		fi;
		is_set || CLOCK_FROM_BEACONS;
		NO_SEQUENCE || last == NONE || b > last;
		NO_BEACON_TIME || CLOCK_FROM_BEACONS || (now - GRACE <= b && b <= now + AHEAD);
		NO_HELD_SET || says == e_known;
		d_step {
			assert(last == NONE || b > last); /* beacons only rise */
			last = b;
			came = local;
			if
			:: CLOCK_FROM_BEACONS -> offset = b - local; is_set = 1
			:: else
			fi;
			b = 0; says = 0;
			check_closed()
		}
	}
}

/* Holdings that the coordinator made at some time arrive now. */
inline take_holdings() {
	atomic {
		any_made();
		says = names_e(b);
		says != e_known;
		NO_LATE_HOLDINGS || last == NONE || b >= last;
		d_step { e_known = says; b = 0; says = 0; check_closed() }
	}
}

/* FORKS=1 */

#define AGENTS 2
#define ABSENT 0
typedef Agent { byte held[SEQUENCES + 1]; byte last; bit proof; byte term; byte policy; byte key[4] };
Agent ag[AGENTS];
byte p, q, s, c, k; /* zero between steps */
#define untidy() p = 0; q = 0; s = 0; c = 0; k = 0

/* A beacon's text: 1 is the coordinator's, 2 another under the same sequence, signed only if the key was cloned. */
inline pick_text() {
	if
	:: c = 1
	:: CLONED || NO_BEACON_SIGNATURE -> c = 2
	fi
}

#define stopped(x) (ag[x].proof && !NO_STOP)

inline compare(x, y, z) {
	if
	:: !NO_COMPARE && ag[x].held[y] != ABSENT && (z) != ABSENT && ag[x].held[y] != (z) -> ag[x].proof = 1
	:: else
	fi
}

inline take_text() {
	atomic {
		if :: p = 0 :: p = 1 fi;
		s = 1;
		do :: s < SEQUENCES -> s++ :: break od;
		pick_text();
		!stopped(p) && ag[p].term;
		d_step {
			compare(p, s, c);
			if
			:: !ag[p].proof && s > ag[p].last -> ag[p].held[s] = c; ag[p].last = s
			:: else
			fi;
			assert(CLONED || !ag[p].proof); /* nobody cries wolf */
			untidy()
		}
	}
}

/* p opens a session with q: each shows its last beacon, as signed. */
inline meet() {
	atomic {
		if :: p = 0; q = 1 :: p = 1; q = 0 fi;
		ag[p].last && ag[q].last && !stopped(p) && !stopped(q);
		d_step {
			compare(q, ag[p].last, ag[p].held[ag[p].last]);
			if
			:: !ag[q].proof || NO_STOP -> compare(p, ag[q].last, ag[q].held[ag[q].last])
			:: else
			fi;
			s = ag[p].last; c = ag[q].last;
			if
			:: (!ag[p].proof && !ag[q].proof) || NO_STOP ->
				assert(!(ag[q].held[s] && ag[q].held[s] != ag[p].held[s])); /* no session across a fork that one of them has seen */
				assert(!(ag[p].held[c] && ag[p].held[c] != ag[q].held[c])); /* no session across a fork that the other has seen */
				assert(!SHOW) /* two agents have met */
			:: else
			fi;
			assert(CLONED || (!ag[p].proof && !ag[q].proof)); /* nobody cries wolf, met */
			untidy()
		}
	}
}

/* Coordinators that the operators ordered: 1 is of term 1; 2 and 3 are both of term 2, by mistake; 4 is of term 3
 * and was restored from the state of 1. */
#define term_of(k) ((k) == 1 -> 1 : ((k) == 4 -> 3 : 2))
#define policy_of(k) ((k) == 1 || (k) == 4 -> 1 : 2)

inline join() {
	atomic {
		if :: p = 0 :: p = 1 fi;
		if :: k = 1 :: k = 2 :: k = 3 :: k = 4 fi;
		!stopped(p);
		NO_TERM_ORDER || term_of(k) >= ag[p].term;
		NO_TERM_KEY || !ag[p].key[term_of(k)] || ag[p].key[term_of(k)] == k;
		NO_STATE || policy_of(k) >= ag[p].policy;
		d_step {
			assert(term_of(k) >= ag[p].term); /* terms only rise */
			assert(policy_of(k) >= ag[p].policy); /* policies only rise: no coordinator that was rolled back */
			assert(!ag[p].key[term_of(k)] || ag[p].key[term_of(k)] == k); /* one key for a term */
			ag[p].term = term_of(k); ag[p].policy = policy_of(k); ag[p].key[term_of(k)] = k;
			untidy()
		}
	}
}

init {
	if
	:: !FORKS ->
		do
		:: tick()
		:: revoke()
		:: ask()
		:: answer_time()
		:: take_time()
		:: take_beacon()
		:: take_holdings()
		od
	:: FORKS ->
		do
		:: join()
		:: take_text()
		:: meet()
		od
	fi
}
