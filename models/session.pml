/* Sessions between two admitted parties (docs/protocol.md section 5).
 *
 * A and B are honest, and each may be initiator and responder. E is the intruder as an insider: an admitted
 * instance whose memory he read, with both of its keys and the mesh key (so the mesh frame around an init is
 * no obstacle to him and is left out). His enclave with a disallowed image has no admission: it can do less.
 * One signing or KEM key of A or B may leak at any moment, and in the end every long-term key leaks.
 *
 * One process, every step atomic: what is interleaved are the steps of honest parties, and in each of them
 * the intruder chooses what they receive.
 */

#ifndef NO_INIT_SIGNATURE /* an init needs no signature */
#define NO_INIT_SIGNATURE 0
#endif
#ifndef NO_ACCEPT_SIGNATURE /* an accept needs no signature */
#define NO_ACCEPT_SIGNATURE 0
#endif
#ifndef NO_CREDENTIAL_KEY /* the signature may be by another key than the admission's (`cnf`) */
#define NO_CREDENTIAL_KEY 0
#endif
#ifndef NO_ROLE /* the role claimed need not be in the admission */
#define NO_ROLE 0
#endif
#ifndef NO_RECEIVER_ID /* the init does not say for whom it is */
#define NO_RECEIVER_ID 0
#endif
#ifndef NO_INITIATOR_ID /* the accept does not say for whom it is */
#define NO_INITIATOR_ID 0
#endif
#ifndef NO_RESPONDER_ID /* the accept does not say by whom it is */
#define NO_RESPONDER_ID 0
#endif
#ifndef NO_ACCEPT_HASH /* the accept does not name the init that it answers, neither signed nor in its seal */
#define NO_ACCEPT_HASH 0
#endif
#ifndef NO_SEAL_CONTEXT /* the accept's seal does not name the init (its signature does) */
#define NO_SEAL_CONTEXT 0
#endif
#ifndef NO_SELF_CHECK /* a party answers an init by itself */
#define NO_SELF_CHECK 0
#endif
#ifndef NO_SEEN_INITS /* the same init is answered again */
#define NO_SEEN_INITS 0
#endif
/* the responder delivers and sends before the initiator's first frame; 2: and nothing is claimed of its
 * delivering but that the init was meant for it and is answered once */
#ifndef NO_KEY_CONFIRMATION
#define NO_KEY_CONFIRMATION 0
#endif
#ifndef NO_TRANSCRIPT /* the keys come from the secrets alone */
#define NO_TRANSCRIPT 0
#endif
#ifndef NO_EPHEMERAL /* the accept is sealed to the initiator's long-term KEM key */
#define NO_EPHEMERAL 0
#endif
#ifndef NO_RESPONDER_SECRET /* the keys come from the initiator's secret alone */
#define NO_RESPONDER_SECRET 0
#endif
#ifndef NO_INITIATOR_SECRET /* the keys come from the responder's secret alone */
#define NO_INITIATOR_SECRET 0
#endif
#ifndef NO_WINDOW /* a frame may be opened again */
#define NO_WINDOW 0
#endif
#ifndef NO_DIRECTIONS /* one key for both directions */
#define NO_DIRECTIONS 0
#endif
#ifndef NO_REVOCATION_CHECK /* who is known to be revoked is served */
#define NO_REVOCATION_CHECK 0
#endif
#ifndef LEAKS /* 0: no key leaks before the end */
#define LEAKS 1
#endif
#ifndef REVOKES /* 1: E is revoked at some moment */
#define REVOKES 0
#endif
#ifndef SHOW /* 1: stop at an honest run that goes through, to show that there is one */
#define SHOW 0
#endif
#ifndef NI /* sessions that honest parties open */
#define NI 2
#endif
#ifndef NR /* inits that honest parties answer */
#define NR 2
#endif
#ifndef NF /* different inits that the intruder seals */
#define NF 2
#endif
#ifndef NG /* different accepts that the intruder seals */
#define NG 1
#endif

#define BOXES (NI + NR)
#include "intruder.pml"

#define A 0
#define B 1
#define E 2
#define NOBODY 3

#define SIG(p) (1 + (p))      /* signing keys */
#define KEM(p) (4 + (p))      /* KEM keys */
#define OWN_KEY 7             /* the intruder's ephemeral key */
#define OWN_SECRET 8          /* the intruder's secret */
#define EPH(i) (9 + (i))      /* ephemeral keys of initiators */
#define SI(i) (12 + (i))      /* secrets of initiators */
#define SR(j) (15 + (j))      /* secrets of responders */
#define SAID_I(i) (18 + (i))  /* signed inits, as the intruder can seal them again */
#define SAID_R(j) (21 + (j))  /* signed accepts */
#define FIRST_SECRET OWN_SECRET
#define LAST_SECRET (SR(NR) - 1)
#define is_secret(x) ((x) == OWN_SECRET || ((x) >= SI(0) && (x) < SI(NI)) || ((x) >= SR(0) && (x) < SR(NR)))

/* A and B hold the roles 1 and 2, E holds 3. The responder's role goes where the initiator's goes, and stands
 * for it here. */
#define holds(p, r) ((p) == E -> (r) == 3 : ((r) == 1 || (r) == 2))

/* inits as sent: 0..NI-1 by honest initiators, then the intruder's. An index is the hash `th1`. */
typedef Init { byte by; byte to; byte named; byte eph; byte secret; byte role; byte said };
Init wire1[NI + NF];
/* accepts as sent: 0..NR-1 by honest responders, then the intruder's. */
typedef Accept { byte by; byte to; byte answers; byte sealed_for; byte initiator; byte responder; byte secret };
Accept wire2[NR + NG];

typedef Initiator { byte who; byte peer; byte role; bit done; byte wire; byte secret; bit good };
Initiator ini[NI];
typedef Responder { byte who; byte peer; byte role; byte wire; byte phase; bit good; byte got };
Responder res[NR];
#define FREE 0
#define HALF_OPEN 1
#define CONFIRMED 2

byte opened, answered, forged1, forged2; /* how many so far */
bit e_revoked; /* A and B hold a revoked set that names E */

int before;
byte w, p, i, j, x, y, z, r, s, n; /* zero between steps */

#define tidy() w = 0; p = 0; i = 0; j = 0; x = 0; y = 0; z = 0; r = 0; s = 0; n = 0

#define clean(q) ((q) != E && !knows(SIG(q)))
#define peer_revoked(q) ((q) == E && e_revoked && !NO_REVOCATION_CHECK)
#define ephemeral(k) (NO_EPHEMERAL -> KEM(ini[k].who) : EPH(k))

/* Initiator k and responder m hold one key: one transcript and the same secrets. */
#define one_transcript(k, m) (NO_TRANSCRIPT || (ini[k].wire == (m) && res[m].wire == (k)))
#define one_first(k, m) (NO_INITIATOR_SECRET || wire1[res[m].wire].secret == SI(k))
#define one_second(k, m) (NO_RESPONDER_SECRET || ini[k].secret == SR(m))
#define same_key(k, m) (ini[k].done && res[m].phase && one_transcript(k, m) && one_first(k, m) && one_second(k, m))
/* Both ends mean each other and the same role. */
#define agree(k, m) (same_key(k, m) && ini[k].who == res[m].peer && ini[k].peer == res[m].who && ini[k].role == res[m].role)
#define key_known_i(k) ((NO_INITIATOR_SECRET || knows(SI(k))) && (NO_RESPONDER_SECRET || knows(ini[k].secret)))
#define key_known_r(m) ((NO_INITIATOR_SECRET || knows(wire1[res[m].wire].secret)) && (NO_RESPONDER_SECRET || knows(SR(m))))

#define EVERY_KEY (atom(SIG(A)) | atom(SIG(B)) | atom(KEM(A)) | atom(KEM(B)))

/* Checked after every step: even if now everything leaks that outlives a handshake, the keys of sessions whose
 * peer was clean when they were completed stay secret. */
inline check_secrecy() {
	before = know;
	learn(EVERY_KEY);
	n = 0;
	do
	:: n < NI ->
		assert(!(ini[n].done && ini[n].good && key_known_i(n))); /* secrecy of the initiator's keys */
		n++
	:: else -> break
	od;
	n = 0;
	do
	:: n < NR ->
		assert(!(res[n].phase == CONFIRMED && res[n].good && key_known_r(n))); /* secrecy of the responder's keys */
		n++
	:: else -> break
	od;
	n = 0;
	know = before;
	before = 0
}

/* I -> R: an init to anybody, with one of its roles. */
inline open_session() {
	atomic {
		opened < NI ->
		/* A and B are alike until one opens a session: that one is called A. */
		if :: p = A :: opened > 0 -> p = B fi;
		if :: x = A :: x = B :: x = E fi;
		x != p && !peer_revoked(x);
		if :: r = 1 :: r = 2 fi;
		d_step {
			i = opened;
			ini[i].who = p; ini[i].peer = x; ini[i].role = r;
			wire1[i].by = p; wire1[i].to = x; wire1[i].named = x;
			wire1[i].eph = ephemeral(i); wire1[i].secret = SI(i); wire1[i].role = r; wire1[i].said = SAID_I(i);
			opened++;
			post(i, KEM(x), PUBLIC, atom(SI(i)) | atom(SAID_I(i)));
			check_secrecy();
			tidy()
		}
	}
}

/* The intruder's choice of an init for p: one that was sent, by anybody, as it was; or one that he seals. */
inline choose_init() {
	if
	:: w = 0
	:: w = 1
	:: NI + NF > 2 -> w = 2
	:: NI + NF > 3 -> w = 3
	:: NI + NF > 4 -> w = 4
	fi;
	if
	:: w < NI -> w < opened
	:: w >= NI && w < NI + forged1
	:: w == NI + forged1 && w < NI + NF ->
		if
		:: if :: x = 0 :: NI > 1 -> x = 1 fi; /* what an honest initiator signed, sealed again */
			x < opened && knows(SAID_I(x));
			d_step {
				wire1[w].by = wire1[x].by; wire1[w].named = wire1[x].named; wire1[w].eph = wire1[x].eph;
				wire1[w].secret = wire1[x].secret; wire1[w].role = wire1[x].role; wire1[w].said = SAID_I(x)
			}
		:: if :: x = A :: x = B :: x = E fi; /* his own, under the admission of x */
			NO_INIT_SIGNATURE || knows(SIG(x)) || (NO_CREDENTIAL_KEY && knows(SIG(E)));
			/* With an ephemeral key of his own, or one that he saw. */
			if
			:: y = OWN_KEY
			:: y = ephemeral(0); opened > 0 && knows(SAID_I(0))
			:: NI > 1 -> y = ephemeral(1); opened > 1 && knows(SAID_I(1))
			fi;
			z = FIRST_SECRET;
			do
			:: z < LAST_SECRET -> z++
			:: is_secret(z) && knows(z) -> break
			od;
			if :: r = 1 :: r = 2 :: r = 3 fi;
			d_step {
				wire1[w].by = x; wire1[w].named = p; wire1[w].eph = y; wire1[w].secret = z;
				wire1[w].role = r; wire1[w].said = PUBLIC
			}
		fi;
		wire1[w].to = p;
		forged1++
	fi
}

/* R: an init arrives; it is answered, or nothing happens. */
inline answer() {
	atomic {
		answered < NR ->
		if :: p = A :: p = B fi;
		choose_init();
		/* 1. The same bytes were not here before. */
		n = 0;
		do
		:: n < answered && (NO_SEEN_INITS || res[n].who != p || res[n].wire != w) -> n++
		:: n >= answered -> break
		od;
		/* 2. Sealed to this instance, for this instance. */
		wire1[w].to == p && (NO_RECEIVER_ID || wire1[w].named == p);
		/* 3. From somebody else who is admitted, not revoked, and holds the role. */
		NO_SELF_CHECK || wire1[w].by != p;
		!peer_revoked(wire1[w].by) && (NO_ROLE || holds(wire1[w].by, wire1[w].role));
		d_step {
			j = answered;
			assert(!(e_revoked && wire1[w].by == E)); /* no session with the revoked */
			assert(holds(wire1[w].by, wire1[w].role)); /* the role is of the admission */
			assert(wire1[w].by != p); /* no session with oneself */
			/* Already what is half-open was opened for us, by whom it names: it counts against his limit. */
			n = 0; s = 0;
			do
			:: n < NI -> s = s + (n < opened && ini[n].who == wire1[w].by && ini[n].peer == p && ini[n].role == wire1[w].role -> 1 : 0); n++
			:: else -> break
			od;
			assert(!clean(wire1[w].by) || s > 0); /* the init was meant for its responder */
			res[j].who = p; res[j].peer = wire1[w].by; res[j].role = wire1[w].role; res[j].wire = w;
			res[j].phase = HALF_OPEN;
			wire2[j].by = p; wire2[j].to = wire1[w].eph; wire2[j].answers = w; wire2[j].sealed_for = w;
			wire2[j].initiator = wire1[w].by; wire2[j].responder = p; wire2[j].secret = SR(j);
			answered++;
			post(NI + j, wire1[w].eph, PUBLIC, atom(SR(j)) | atom(SAID_R(j)));
			check_secrecy();
			tidy()
		}
	}
}

/* The intruder's choice of an accept for initiator i. */
inline choose_accept() {
	if
	:: j = 0
	:: NR + NG > 1 -> j = 1
	:: NR + NG > 2 -> j = 2
	:: NR + NG > 3 -> j = 3
	fi;
	if
	:: j < NR -> j < answered
	:: j >= NR && j < NR + forged2
	:: j == NR + forged2 && j < NR + NG ->
		/* He can seal to the ephemeral key if he read the init that carries it. */
		NO_EPHEMERAL || knows(SAID_I(i));
		if
		:: if :: x = 0 :: NR > 1 -> x = 1 fi; /* what an honest responder signed, sealed again */
			x < answered && knows(SAID_R(x));
			d_step {
				wire2[j].by = wire2[x].by; wire2[j].answers = wire2[x].answers;
				wire2[j].initiator = wire2[x].initiator; wire2[j].responder = wire2[x].responder;
				wire2[j].secret = wire2[x].secret
			}
		:: if :: x = A :: x = B :: x = E fi; /* his own, in the name of the key of x */
			NO_ACCEPT_SIGNATURE || knows(SIG(x));
			z = FIRST_SECRET;
			do
			:: z < LAST_SECRET -> z++
			:: is_secret(z) && knows(z) -> break
			od;
			true;
			d_step {
				wire2[j].by = x; wire2[j].answers = i; wire2[j].initiator = ini[i].who;
				wire2[j].responder = ini[i].peer; wire2[j].secret = z
			}
		fi;
		wire2[j].to = wire1[i].eph; wire2[j].sealed_for = i;
		forged2++
	fi
}

/* I: an accept arrives. */
inline complete() {
	atomic {
		true ->
		if :: i = 0 :: NI > 1 -> i = 1 fi;
		i < opened && !ini[i].done && !peer_revoked(ini[i].peer);
		choose_accept();
		/* 1. Sealed to the ephemeral key, for this very init. */
		wire2[j].to == wire1[i].eph && (NO_ACCEPT_HASH || NO_SEAL_CONTEXT || wire2[j].sealed_for == i);
		/* 2. Signed by the key that was asked for, over this init and both instances. */
		wire2[j].by == ini[i].peer && (NO_ACCEPT_HASH || wire2[j].answers == i);
		NO_INITIATOR_ID || wire2[j].initiator == ini[i].who;
		NO_RESPONDER_ID || wire2[j].responder == ini[i].peer;
		d_step {
			ini[i].done = 1; ini[i].wire = j; ini[i].secret = wire2[j].secret;
			ini[i].good = clean(ini[i].peer);
			/* Agreement: the peer runs the same session, as its responder, with us. */
			n = 0; s = 0;
			do
			:: n < NR -> s = s + (agree(i, n) -> 1 : 0); n++
			:: else -> break
			od;
			assert(!ini[i].good || s == 1); /* agreement of the initiator */
			/* Injective: no other of ours has it. */
			n = 0;
			do
			:: n < NI ->
				assert(!(n != i && ini[n].done && ini[n].good && ini[i].good && ini[n].wire == j)); /* one session of the initiator */
				n++
			:: else -> break
			od;
			check_secrecy();
			tidy()
		}
	}
}

/* The first frame to responder j confirms, the next is delivered; the intruder makes it if he has the key. */
inline deliver_to_responder() {
	atomic {
		true ->
		if :: j = 0 :: NR > 1 -> j = 1 fi;
		j < answered && !peer_revoked(res[j].peer);
		if
		:: res[j].got == 0
		:: res[j].got == 1 && NO_WINDOW
		fi;
		/* Whose frame: an initiator's, the intruder's, its own come back, or none. */
		if
		:: NO_KEY_CONFIRMATION -> r = 4
		:: key_known_r(j) -> r = 3
		:: NO_DIRECTIONS && res[j].phase == CONFIRMED -> r = 2
		:: same_key(0, j) -> r = 0
		:: NI > 1 -> same_key(1, j); r = 1
		fi;
		d_step {
			res[j].got++;
			if
			:: res[j].phase == HALF_OPEN -> res[j].good = clean(res[j].peer); res[j].phase = CONFIRMED
			:: else
			fi;
			assert(!(e_revoked && res[j].peer == E)); /* nothing from the revoked */
			assert(res[j].got == 1); /* no frame twice */
			assert(r != 2); /* nothing of our own is believed to be the peer's */
			n = 0; s = 0;
			do
			:: n < NI -> s = s + (agree(n, j) -> 1 : 0); n++
			:: else -> break
			od;
			assert(NO_KEY_CONFIRMATION == 2 || !res[j].good || s == 1); /* agreement of the responder */
			n = 0;
			do
			:: n < NR ->
				assert(!(n != j && res[n].phase == CONFIRMED && res[n].good && res[j].good && res[n].wire == res[j].wire)); /* one session of the responder */
				n++
			:: else -> break
			od;
			check_secrecy();
			tidy()
		}
	}
}

/* A frame to initiator i, from a responder that is confirmed. It changes nothing that matters, so it is only
 * looked at whose it may be. */
inline deliver_to_initiator() {
	atomic {
		if :: i = 0 :: NI > 1 -> i = 1 fi;
		ini[i].done && !peer_revoked(ini[i].peer);
		if
		:: key_known_i(i) -> r = 3
		:: NO_DIRECTIONS -> r = 2
		:: same_key(i, 0) && res[0].phase == CONFIRMED -> r = 0
		:: NR > 1 -> same_key(i, 1) && res[1].phase == CONFIRMED; r = 1
		fi;
		d_step {
			assert(!(e_revoked && ini[i].peer == E)); /* nothing from the revoked */
			assert(r != 2); /* nothing of our own is believed to be the peer's */
			assert(!(ini[i].good && r == 3)); /* integrity */
			assert(!SHOW || !ini[i].good); /* an honest run */
			tidy()
		}
	}
}

/* One long-term key of A or B. A signing key leaks at any moment, because what was completed before stays good.
 * A KEM key leaks at the start: whatever a later leak allows, an earlier one does. */
inline leak_one() {
	atomic {
		LEAKS && leaked == NOTHING ->
		if
		:: x = SIG(A)
		:: x = SIG(B)
		:: opened == 0 && answered == 0 -> x = KEM(A)
		:: opened == 0 && answered == 0 -> x = KEM(B)
		fi;
		d_step { leaked = x; learn(atom(x)); check_secrecy(); tidy() }
	}
}

inline revoke() {
	atomic { REVOKES && !e_revoked -> d_step { e_revoked = 1 } }
}

init {
	d_step { know = atom(PUBLIC) | atom(SIG(E)) | atom(KEM(E)) | atom(OWN_KEY) | atom(OWN_SECRET) };
	do
	:: open_session()
	:: answer()
	:: complete()
	:: deliver_to_responder()
	:: deliver_to_initiator()
	:: leak_one()
	:: revoke()
	od
}
