/* The intruder (Dolev-Yao) that every model shares: he owns the broker.
 *
 * What he knows is a set of atoms (keys, secrets, signed statements), one bit each in `know`. What is sealed
 * and crosses the broker is a box: two keys that open it, and the atoms inside. He keeps every box for ever, so
 * a key that leaks later opens what was recorded earlier. He drops by never delivering, delays and reorders by
 * delivering late, replays by delivering again, and forges what he knows all the parts of.
 *
 * A model defines BOXES, gives every box a slot of its own, and lets each step of an honest party choose among
 * all messages that the intruder could hand it. A message that is refused changes nothing, so only accepted ones
 * are steps.
 */

#define PUBLIC 0 /* the atom that everybody knows */
#define NOTHING 255

#define atom(x) (1 << (x))
#define knows(x) ((know >> (x)) & 1)

int know = 1;
int box_in[BOXES];
byte box_key[BOXES];
byte box_key2[BOXES];
byte leaked = NOTHING; /* the one long-term key that leaked, if one did */

byte z_box, z_more; /* zero between steps */

/* Open every box whose keys are known, until nothing new comes out. Inside d_step. */
inline saturate() {
	z_more = 1;
	do
	:: z_more ->
		z_more = 0;
		z_box = 0;
		do
		:: z_box < BOXES ->
			if
			:: box_in[z_box] && knows(box_key[z_box]) && knows(box_key2[z_box]) &&
			   (know | box_in[z_box]) != know ->
				know = know | box_in[z_box];
				z_more = 1
			:: else
			fi;
			z_box++
		:: else -> break
		od
	:: else -> break
	od;
	z_box = 0
}

/* A sealed message crosses the broker: it opens with both keys. Inside d_step. */
inline post(slot, key, key2, inside) {
	box_key[slot] = key;
	box_key2[slot] = key2;
	box_in[slot] = inside;
	saturate()
}

/* The intruder learns atoms: said in the clear, or leaked. Inside d_step. */
inline learn(atoms) {
	know = know | (atoms);
	saturate()
}
