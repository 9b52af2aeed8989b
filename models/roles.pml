/* Role keys, results, and the eviction of a member (docs/protocol.md sections 6 to 8).
 *
 * S submits tasks to a role, W is an honest member that runs them. K is a client of the intruder's: it may submit
 * to the role under handles of its own, and holds the mesh key. With EVICT=1 the intruder has read the memory of V,
 * another member, in epoch 1, too; the coordinator evicts V at some moment, which turns the epoch hard, and each
 * party learns of it at some moment after. That who is live a grace later has learnt of it is beacon.pml's claim
 * and assumed here.
 */

#ifndef NO_HARD_TURN /* an eviction turns no epoch: the old one goes on */
#define NO_HARD_TURN 0
#endif
#ifndef NO_EPOCH_CLOSED /* W still opens what is sealed under the closed epoch */
#define NO_EPOCH_CLOSED 0
#endif
#ifndef NO_LIVENESS /* who has not heard of the eviction goes on */
#define NO_LIVENESS 0
#endif
#ifndef NO_RESULT_CLOSED /* S still takes results under the reply key of the closed epoch */
#define NO_RESULT_CLOSED 0
#endif
#ifndef NO_NEW_REPLY_KEY /* a task that is sealed again keeps its reply key */
#define NO_NEW_REPLY_KEY 0
#endif
#ifndef NO_REVOCATION_CHECK /* the sender that a handle names may be revoked */
#define NO_REVOCATION_CHECK 0
#endif
#ifndef NO_SEEN_TASKS /* a task that was here runs again */
#define NO_SEEN_TASKS 0
#endif
#ifndef NO_OWNER /* a task id is anybody's */
#define NO_OWNER 0
#endif
#ifndef NO_EXPIRY /* a task that has expired still runs */
#define NO_EXPIRY 0
#endif
#ifndef FORGET_EARLY /* a seen task may be forgotten before it has expired */
#define FORGET_EARLY 0
#endif
#ifndef NO_GROUP /* a task may come under the mesh key */
#define NO_GROUP 0
#endif
#ifndef NO_HANDLE /* the sender is who the body says, not who the handle says */
#define NO_HANDLE 0
#endif
#ifndef OWN_RESULTS /* 1: with EVICT, claim that a result is of S's own task: a limit, see docs/model.md */
#define OWN_RESULTS 0
#endif
#ifndef DIGEST /* 1: a kept result goes only to a copy with the same class and payload; 0: to any copy */
#define DIGEST 1
#endif
#ifndef EVICT
#define EVICT 0
#endif
#ifndef SHOW /* 1: stop when S has the result of a task that it sealed again after the eviction; 2: any result */
#define SHOW 0
#endif
#ifndef TASKS
#define TASKS 2
#endif

#define BOXES 8 /* S's copies, then W's results: by task and epoch */
#include "intruder.pml"

#define SECRET(e) (1 + (e))            /* of the role's epochs, 0 and 1 */
#define PAYLOAD(x) (3 + (x))
#define VALUE(x) (5 + (x))             /* what W made of the task */
#define REPLY(x, e) (7 + 2 * (x) + (NO_NEW_REPLY_KEY -> 0 : (e)))

byte phase;            /* 1: the coordinator has evicted V; 2: and a grace period has passed */
bit s_heard, w_heard;  /* holds the new view, revoked set and epoch */
bit k_heard;           /* W holds a revoked set that names K */
typedef Task {
	bit sealed[2];     /* S's copy under this epoch is with the broker */
	bit after;         /* S sealed it first when V was out for it, or everywhere */
	bit expired;       /* and a grace period more: W has forgotten it */
	bit done;          /* S has its result */
	bit answered[2];   /* W's result for the copy of this epoch is with the broker */
	byte runs;
	bit seen;          /* as S's */
	bit seen_k;        /* as K's */
	bit genuine        /* the kept result is of S's own */
};
Task task[TASKS];

byte x, e, r; /* zero between steps */
#define tidy() x = 0; e = 0; r = 0

#define may_act(heard) (phase < 2 || (heard) || NO_LIVENESS || !EVICT)
#define turned(heard) ((heard) && !NO_HARD_TURN)

inline check_secrecy() {
	x = 0;
	do
	:: x < TASKS ->
		if
		:: EVICT && !task[x].after
		:: else ->
			assert(!knows(PAYLOAD(x))); /* secrecy of tasks */
			assert(!knows(VALUE(x))) /* secrecy of results */
		fi;
		x++
	:: else -> break
	od
}

inline pick_x() { if :: x = 0 :: TASKS > 1 -> x = 1 fi }

/* S seals a task, or seals it again under the new epoch. */
inline submit() {
	atomic {
		pick_x();
		may_act(s_heard) && !task[x].expired && !task[x].done;
		e = (turned(s_heard) -> 1 : 0);
		!task[x].sealed[e];
		d_step {
			task[x].after = (task[x].sealed[0] -> task[x].after : (s_heard || phase == 2));
			task[x].sealed[e] = 1;
			post(2 * x + e, SECRET(e), PUBLIC, atom(PAYLOAD(x)) | atom(REPLY(x, e)));
			check_secrecy();
			tidy()
		}
	}
}

/* What W keeps of a task is sent under the reply key of the copy that asks. Inside d_step. */
inline reply() {
	if
	:: r == 0 && (task[x].genuine || !DIGEST) ->
		task[x].answered[e] = 1;
		if
		:: task[x].genuine -> post(4 + 2 * x + e, REPLY(x, e), PUBLIC, atom(VALUE(x)))
		:: else
		fi
	:: r > 0 && task[x].genuine && (r == 1 || NO_OWNER) -> learn(atom(VALUE(x)))
	:: else
	fi
}

#define was_here ((r == 2 && !NO_OWNER) -> task[x].seen_k : (task[x].seen || (NO_OWNER && task[x].seen_k)))

/* W: a task arrives. Whose: 0 S's own copy, 1 one that says S, 2 K's, 3 V's. The id of S's stands in the clear. */
inline gate() {
	atomic {
		pick_x();
		if :: e = 0 :: e = 1 fi;
		task[x].sealed[0] || task[x].sealed[1];
		if
		:: task[x].sealed[e] -> r = 0
		:: knows(SECRET(e)) || NO_GROUP || NO_HANDLE -> r = 1
		:: r = 2
		:: knows(SECRET(e)) -> r = 3
		fi;
		/* Live; the epoch is open here. */
		may_act(w_heard);
		e == 0 || turned(w_heard);
		e == 1 || !turned(w_heard) || NO_EPOCH_CLOSED;
		/* The sender is not revoked, the task has not expired. */
		NO_REVOCATION_CHECK || !((r == 2 && k_heard) || (r == 3 && w_heard));
		NO_EXPIRY || !task[x].expired;
		d_step {
			if
			:: r < 3 && was_here && !NO_SEEN_TASKS -> reply()
			:: r < 3 && (!was_here || NO_SEEN_TASKS) ->
				/* The handler runs. */
				assert(r != 1 || (EVICT && !w_heard && phase < 2)); /* nothing runs as S's that S did not submit, but by a member not yet evicted */
				assert(r != 2 || !k_heard); /* nothing of a revoked client runs */
				if
				:: r == 2 -> task[x].seen_k = 1
				:: else ->
					task[x].seen = 1;
					task[x].runs++;
					task[x].genuine = (r == 0);
					assert(task[x].runs < 2) /* a task runs once */
				fi;
				reply()
			:: else ->
				assert(!w_heard && phase < 2) /* nothing of the evicted runs */
			fi;
			check_secrecy();
			tidy()
		}
	}
}

/* S: a result arrives, under the reply key of the copy of some epoch. */
inline take_result() {
	atomic {
		pick_x();
		if :: e = 0 :: e = 1 fi;
		!task[x].done && task[x].sealed[e] && may_act(s_heard);
		e == 1 || !turned(s_heard) || NO_RESULT_CLOSED;
		if
		:: task[x].answered[e] -> r = 0
		:: knows(REPLY(x, e)) -> r = 1
		fi;
		d_step {
			assert(r == 0 || (EVICT && !s_heard && phase < 2)); /* a result is of a member that is not evicted */
			assert(r == 1 || task[x].genuine || (EVICT && !OWN_RESULTS)); /* a result is of S's own task */
			task[x].done = 1;
			assert(!(SHOW == 1 && e == 1 && r == 0 && task[x].sealed[0])); /* a task outlives an eviction */
			assert(SHOW != 2); /* a task is done */
			tidy()
		}
	}
}

inline hear() {
	atomic {
		if
		:: EVICT && phase < 2 -> d_step { phase++; check_secrecy(); tidy() }
		:: phase && !s_heard -> d_step { s_heard = 1 }
		:: phase && !w_heard -> d_step { w_heard = 1 }
		:: !k_heard -> d_step { k_heard = 1 }
		fi
	}
}

/* A task's expiry and a grace period have passed: W forgets it, as it forgets K's of that id. */
inline forget() {
	atomic {
		pick_x();
		!task[x].expired && (task[x].seen || task[x].seen_k);
		d_step { task[x].expired = !FORGET_EARLY; task[x].seen = 0; task[x].seen_k = 0; tidy() }
	}
}

init {
	d_step { know = atom(PUBLIC) | (EVICT -> atom(SECRET(0)) : 0) };
	do
	:: submit()
	:: gate()
	:: take_result()
	:: hear()
	:: forget()
	od
}
