/* Admission: hello, offer, init, accept, Evidence, admitted (docs/protocol.md section 4).
 *
 * A is an honest enclave with the image that the policy names, C the coordinator that the operators ordered, D
 * another genuine coordinator that they did not (a clone, or one that was started elsewhere): honest code, admits
 * nobody. X is the intruder's genuine enclave with a disallowed image: he has its keys and lets it attest whatever
 * he likes. Evidence is public, because hosts see it. One of the keys of A and C may leak.
 */

#ifndef NO_HELLO_NONCE /* the coordinator's Evidence need not cover our hello */
#define NO_HELLO_NONCE 0
#endif
#ifndef NO_COORDINATOR_EVIDENCE /* nobody asks for the coordinator's Evidence */
#define NO_COORDINATOR_EVIDENCE 0
#endif
#ifndef NO_COORDINATOR_KEYS /* the coordinator's Evidence does not bind its keys */
#define NO_COORDINATOR_KEYS 0
#endif
#ifndef NO_ORDER /* the operators need not have ordered this instance */
#define NO_ORDER 0
#endif
#ifndef NO_INIT_SIGNATURE /* an init needs no signature */
#define NO_INIT_SIGNATURE 0
#endif
#ifndef NO_EVIDENCE /* the coordinator does not look at Evidence */
#define NO_EVIDENCE 0
#endif
#ifndef NO_MEASUREMENT /* any genuine enclave will do */
#define NO_MEASUREMENT 0
#endif
#ifndef NO_CHALLENGE /* Evidence does not bind the coordinator's challenge */
#define NO_CHALLENGE 0
#endif
#ifndef NO_TRANSCRIPT /* Evidence does not bind the session */
#define NO_TRANSCRIPT 0
#endif
#ifndef NO_KEYS /* Evidence does not bind the party's keys */
#define NO_KEYS 0
#endif
#ifndef NO_BURN /* a challenge is good for more than one appraisal */
#define NO_BURN 0
#endif
#ifndef NO_REVOCATION_CHECK /* who is revoked is admitted again */
#define NO_REVOCATION_CHECK 0
#endif
#ifndef OFFER_CLAIMS /* 0: only what comes after the offer is claimed */
#define OFFER_CLAIMS 1
#endif
#ifndef LEAKS /* 0: no key leaks */
#define LEAKS 1
#endif
#ifndef REVOKES /* 1: A is revoked at some moment */
#define REVOKES 0
#endif
#ifndef SHOW /* 1: stop when A is admitted */
#define SHOW 0
#endif
#ifndef NI /* times that A says hello */
#define NI 2
#endif
#ifndef NR /* inits that C answers */
#define NR 2
#endif
#ifndef NF /* inits that the intruder makes */
#define NF 2
#endif

/* accepts, then what C says to whom it admits; the rest is in the clear or opened by X */
#define BOXES (NI + NR + NR)
#include "intruder.pml"

#define A 0
#define C 1
#define D 2
#define X 3

#define SIG_A 1
#define KEM_A 2
#define SIG_C 3
#define KEM_C 4
#define OWN_KEY 5
#define OWN_SECRET 6
#define GROUP 7            /* the secrets that an admission brings */
#define EPH(i) (8 + (i))
#define SI(i) (10 + (i))
#define SR(j) (12 + (j))
#define CHALLENGE(j) (14 + (j)) /* 16 and 17: the intruder's accepts */
#define SAID_I(i) (18 + (i))
#define OWN_CHALLENGE 20

#define GOOD 1 /* the image that the policy names for parties */
#define BAD 2

bit said_hello[NI];
bit attested_c[NI + 1], attested_d[NI + 1]; /* C's and D's Evidence covers this hello; the last is the intruder's */

typedef Init { byte cred; byte eph; byte secret };
Init wire1[NI + NF];
byte opened, answered, forged;

/* A's sessions. `accept` is the accept's index, NR + i for one that the intruder made. */
typedef Joining { byte peer; bit asked; bit done; byte accept; byte secret; byte challenge; bit evidence; bit admitted };
Joining ini[NI];
typedef Answer { byte peer; byte wire; bit open; byte appraised; bit admitted; bit sincere };
Answer res[NR];
bit a_revoked;

byte w, i, j, h, k, x, y, z, m, n, s; /* zero between steps */
#define tidy() w = 0; i = 0; j = 0; h = 0; k = 0; x = 0; y = 0; z = 0; m = 0; n = 0; s = 0

#define same_session(k, m) (ini[k].done && res[m].open && ini[k].accept == (m) && res[m].wire == (k) && ini[k].secret == SR(m))

inline check_secrecy() {
	assert(!knows(GROUP)) /* secrecy of what an admission brings */
}

inline pick_i() { if :: i = 0 :: NI > 1 -> i = 1 fi }
inline pick_j() { if :: j = 0 :: NR > 1 -> j = 1 fi }

inline hello() {
	atomic { pick_i(); !said_hello[i]; d_step { said_hello[i] = 1; tidy() } }
}

/* C or D attests over a hello that was said: A's, or the intruder's. */
inline attest() {
	atomic {
		if :: h = 0 :: NI > 1 -> h = 1 :: h = NI fi;
		h == NI || said_hello[h];
		if
		:: !attested_c[h] -> d_step { attested_c[h] = 1; tidy() }
		:: !attested_d[h] -> d_step { attested_d[h] = 1; tidy() }
		fi
	}
}

#define attested(k, h) ((k) == C -> attested_c[h] : attested_d[h])

/* A: an offer of the keys of k, with the Evidence of y over hello h; then the init. */
inline take_offer() {
	atomic {
		pick_i();
		said_hello[i] && !ini[i].asked;
		if :: k = C :: k = D :: k = X fi;
		/* Only C was ordered. */
		NO_ORDER || k == C;
		/* Evidence of a coordinator's image, over our hello, for the offered keys. X has none: an image is an image. */
		if
		:: NO_COORDINATOR_EVIDENCE
		:: !NO_COORDINATOR_EVIDENCE ->
			if :: y = C :: y = D fi;
			if :: h = 0 :: NI > 1 -> h = 1 :: h = NI fi;
			attested(y, h) && (NO_HELLO_NONCE || h == i) && (NO_COORDINATOR_KEYS || y == k)
		fi;
		d_step {
			assert(!OFFER_CLAIMS || k == C); /* the coordinator is the one that was ordered */
			assert(!OFFER_CLAIMS || attested(k, i)); /* its Evidence is fresh and its own */
			ini[i].asked = 1; ini[i].peer = k;
			wire1[i].cred = A; wire1[i].eph = EPH(i); wire1[i].secret = SI(i);
			opened++;
			s = (k == C -> KEM_C : (k == X -> PUBLIC : NOTHING));
			if
			:: s != NOTHING -> post(i, s, PUBLIC, atom(SI(i)) | atom(SAID_I(i)))
			:: else
			fi;
			tidy()
		}
	}
}

/* C: an init arrives: A's as it was sent to C, or one that the intruder makes. */
inline answer() {
	atomic {
		answered < NR;
		if
		:: pick_i(); ini[i].asked && ini[i].peer == C; w = i
		:: forged < NF ->
			w = NI + forged;
			if
			:: x = X
			:: x = A; NO_INIT_SIGNATURE || knows(SIG_A)
			fi;
			if
			:: y = OWN_KEY
			:: y = EPH(0); knows(SAID_I(0))
			:: NI > 1 -> y = EPH(1); knows(SAID_I(1))
			fi;
			if
			:: z = OWN_SECRET
			:: z = SI(0); knows(SI(0))
			:: NI > 1 -> z = SI(1); knows(SI(1))
			fi;
			d_step { wire1[w].cred = x; wire1[w].eph = y; wire1[w].secret = z; forged++ }
		fi;
		/* The same bytes were not here before. */
		n = 0;
		do
		:: n < answered && res[n].wire != w -> n++
		:: n >= answered -> break
		od;
		true;
		d_step {
			j = answered;
			res[j].peer = wire1[w].cred; res[j].wire = w; res[j].open = 1;
			res[j].sincere = !knows(SIG_A);
			answered++;
			post(NI + j, wire1[w].eph, PUBLIC, atom(SR(j)) | atom(CHALLENGE(j)));
			tidy()
		}
	}
}

/* A: an accept arrives: C's to this init, or one that the intruder makes as who was offered. */
inline complete() {
	atomic {
		pick_i();
		ini[i].asked && !ini[i].done;
		if
		:: pick_j(); res[j].open && res[j].wire == i && ini[i].peer == C;
			d_step { ini[i].accept = j; ini[i].secret = SR(j); ini[i].challenge = CHALLENGE(j) }
		:: knows(SAID_I(i)) && (ini[i].peer == X || (ini[i].peer == C && knows(SIG_C)));
			if
			:: y = OWN_CHALLENGE
			:: y = CHALLENGE(0); knows(CHALLENGE(0))
			:: NR > 1 -> y = CHALLENGE(1); knows(CHALLENGE(1))
			fi;
			d_step { ini[i].accept = NR + i; ini[i].secret = OWN_SECRET; ini[i].challenge = y }
		fi;
		d_step {
			ini[i].done = 1;
			n = 0; s = 0;
			do
			:: n < NR -> s = s + (same_session(i, n) -> 1 : 0); n++
			:: else -> break
			od;
			assert(!OFFER_CLAIMS || s == 1); /* agreement of the party with the coordinator */
			tidy()
		}
	}
}

/* A attests: the challenge that it was told, its session, its keys. From here on its host has the Evidence. */
inline make_evidence() {
	atomic {
		pick_i();
		ini[i].done && !ini[i].evidence;
		d_step { ini[i].evidence = 1; tidy() }
	}
}

/* C: Evidence arrives in a session, from who has its keys. */
inline appraise() {
	atomic {
		pick_j();
		res[j].open && (!res[j].appraised || (NO_BURN && res[j].appraised < 2));
		if
		:: knows(wire1[res[j].wire].secret) && knows(SR(j)) && (!res[j].appraised || NO_BURN)
		:: pick_i(); same_session(i, j) && ini[i].evidence
		fi;
		/* Which Evidence: A's of session k, or X's over whatever he likes. */
		if
		:: k = 0; ini[0].evidence; m = GOOD
		:: NI > 1 -> k = 1; ini[1].evidence; m = GOOD
		:: m = BAD
		fi;
		if
		:: NO_EVIDENCE
		:: !NO_EVIDENCE ->
			m == GOOD || NO_MEASUREMENT;
			if
			:: m == BAD /* it binds whatever has to be bound: X says what its report carries */
			:: m == GOOD ->
				NO_CHALLENGE || ini[k].challenge == CHALLENGE(j);
				NO_TRANSCRIPT || same_session(k, j);
				NO_KEYS || res[j].peer == A
			fi
		fi;
		d_step { res[j].appraised++; assert(res[j].appraised == 1) } /* one appraisal for a challenge */
		NO_REVOCATION_CHECK || !a_revoked || res[j].peer != A;
		d_step {
			res[j].admitted = 1;
			assert(!(a_revoked && res[j].peer == A)); /* nobody revoked is admitted */
			assert(res[j].peer == A); /* nobody is admitted without the image that the policy names */
			n = 0; s = 0;
			do
			:: n < NI -> s = s + (same_session(n, j) && ini[n].evidence && ini[n].peer == C -> 1 : 0); n++
			:: else -> break
			od;
			assert(s == 1); /* who is admitted is at the other end, and attested for this session */
			post(NI + NR + j, wire1[res[j].wire].secret, SR(j), atom(GROUP));
			check_secrecy();
			assert(!SHOW); /* A is admitted */
			tidy()
		}
	}
}

inline leak_one() {
	atomic {
		LEAKS && leaked == NOTHING;
		if :: x = SIG_A :: x = KEM_A :: x = SIG_C :: x = KEM_C fi;
		d_step { leaked = x; learn(atom(x)); check_secrecy(); tidy() }
	}
}

inline revoke() {
	atomic { REVOKES && !a_revoked; d_step { a_revoked = 1 } }
}

init {
	d_step { know = atom(PUBLIC) | atom(OWN_KEY) | atom(OWN_SECRET) | atom(OWN_CHALLENGE) };
	do
	:: hello()
	:: attest()
	:: take_offer()
	:: answer()
	:: complete()
	:: make_evidence()
	:: appraise()
	:: leak_one()
	:: revoke()
	od
}
