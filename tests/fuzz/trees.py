"""Mutation of encoded data as a tree: most changes to its bytes die at the first length that no longer fits.

What can be read is taken apart, something in it is changed, and it is written again: CBOR, and what msgspec
reads, into which a fuzzer by coverage does not see.
"""

import marshal
from collections.abc import Callable, Sequence
from functools import lru_cache
from random import Random
from typing import Any, TypeVar

import cbor2
import msgspec

from attestation.nitro import cbor as nitro_cbor
from schemas import cbor
from schemas.errors import PeerError

T = TypeVar("T")


class Dice:
    """Numbers that a seed determines; quicker than `Random` and uneven by less than a billionth."""

    def __init__(self, seed: int) -> None:
        self._next = Random(seed).random

    def below(self, most: int) -> int:
        """Return a number from 0 and below `most`."""
        return int(self._next() * most)

    def choice(self, among: Sequence[T]) -> T:
        """Return one of these."""
        return among[int(self._next() * len(among))]


# A Mutate takes data, a size limit, dice, and a Havoc for bytes that have no tree.
Havoc = Callable[[bytes, int], bytes]
Mutate = Callable[[bytes, int, Dice, Havoc], bytes]

NUMBERS = (0, 1, 23, 24, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**63, 2**64 - 1, 253_402_300_800_000)
SIZES = (0, 1, 47, 48, 49, 96, 1024, 1025, 4096, 4097)
NAMES = ("module_id", "digest", "pcrs", "certificate", "cabundle", "user_data", "nonce", "nitrotpm_pcrs")
CHANGES = (1, 1, 2)  # how many at once; after many a document is refused at the first
MOST_NESTED = 26  # one reader takes 24 levels
MOST_MEMBERS = 260  # one reader takes 256, one 64
REMEMBERED = 4096  # trees: more than a corpus has
FOREIGN = (1.5, cbor2.CBORTag(1, 0), cbor2.CBORSimpleValue(99), cbor2.undefined, -(2**64), 2**64)

Slot = tuple[Any, Any]  # a list or map, and an index or key of it


def mutate_document(data: bytes, max_size: int, random: Dice, havoc: Havoc) -> bytes:
    """Change a COSE_Sign1, at most times in the map that is its payload."""
    tree = _tree(nitro_cbor.read_first, data.removeprefix(b"\xd2"))
    if tree is None or random.below(4) == 0:
        return havoc(data, max_size)
    rest: bytes
    frame, rest = tree[0]
    match frame:
        case [protected, unprotected, bytes() as body, signature] if random.below(8):
            inner = _tree(nitro_cbor.read, body)
            payload = _changed(inner[0], random, havoc) if inner else None
            frame = [protected, unprotected, _written(payload, random), signature]
        case _:
            frame = _changed(frame, random, havoc)
    prefix = random.choice((b"", b"\xd2"))
    return (prefix + _written(frame, random) + rest)[:max_size]


def mutate_payload(data: bytes, max_size: int, random: Dice, havoc: Havoc) -> bytes:
    """Change the map that is the payload of a document."""
    tree = _tree(nitro_cbor.read, data)
    if tree is None or random.below(4) == 0:
        return havoc(data, max_size)
    return _written(_changed(tree[0], random, havoc), random)[:max_size]


def mutate_message(data: bytes, max_size: int, random: Dice, havoc: Havoc) -> bytes:
    """Change an item of deterministic CBOR that stands behind one byte."""
    return data[:1] + mutate_canonical(data[1:], max_size - 1, random, havoc)


def mutate_canonical(data: bytes, max_size: int, random: Dice, havoc: Havoc) -> bytes:
    """Change an item of deterministic CBOR."""
    tree = _tree(cbor.read, data)
    if tree is None or random.below(4) == 0:
        return havoc(data, max_size)
    return cbor2.dumps(_changed(tree[0], random, havoc), canonical=True)[:max_size]


def mutate_msgpack(data: bytes, max_size: int, random: Dice, havoc: Havoc) -> bytes:
    """Change a MessagePack item."""
    return _mutate_by(msgspec.msgpack.decode, msgspec.msgpack.encode, data, max_size, random, havoc)


def mutate_json(data: bytes, max_size: int, random: Dice, havoc: Havoc) -> bytes:
    """Change a JSON value that stands behind one byte."""
    changed = _mutate_by(msgspec.json.decode, msgspec.json.encode, data[1:], max_size - 1, random, havoc)
    return data[:1] + changed


def _mutate_by(
    read: Callable[[bytes], Any],
    write: Callable[[Any], bytes],
    data: bytes,
    max_size: int,
    random: Dice,
    havoc: Havoc,
) -> bytes:
    if random.below(4):
        try:
            return write(_changed(read(data), random, havoc))[:max_size]
        # Not to be read, or changed into what only CBOR has.
        except (ValueError, TypeError, OverflowError, RecursionError):
            pass
    return havoc(data, max_size)


def _tree(read: Callable[[bytes], Any], data: bytes) -> tuple[Any] | None:
    """Return what `data` is read as, for the caller to change; None if it is refused."""
    kept = _kept(read, data)
    return None if kept is None else (marshal.loads(kept),)  # noqa: S302 - what `_kept` wrote


@lru_cache(REMEMBERED)
def _kept(read: Callable[[bytes], Any], data: bytes) -> bytes | None:
    # A corpus is changed over and over, and to copy a tree so is much cheaper than to read it again.
    try:
        return marshal.dumps(read(data))
    except PeerError:
        return None


def _written(item: Any, random: Dice) -> bytes:
    """Write an item as modules do, maps with a length and maps without one; at times with a key twice."""
    if isinstance(item, dict) and random.below(2):
        pairs = [cbor2.dumps(key) + cbor2.dumps(value) for key, value in item.items()]
        if pairs and random.below(8) == 0:
            pairs.append(random.choice(pairs))
        return b"\xbf" + b"".join(pairs) + b"\xff"
    return cbor2.dumps(item)


def _changed(item: Any, random: Dice, havoc: Havoc) -> Any:
    root = [item]
    for _ in range(random.choice(CHANGES)):
        if root:
            _change(_somewhere(root, random), random, havoc)
    return root[0] if root else None


def _somewhere(holder: Any, random: Dice) -> Slot:
    """Walk down from a list or map that is not empty: what is wide costs no more than what is narrow."""
    while True:
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        # What is required comes first in most lists and maps.
        key = random.choice(keys if random.below(3) else keys[:3])
        value = holder[key]
        if not isinstance(value, list | dict) or not value or random.below(4) == 0:
            return holder, key
        holder = value


def _change(slot: Slot, random: Dice, havoc: Havoc) -> None:
    holder, key = slot
    value = holder[key]
    match random.below(8):
        case 0:
            holder[key] = _anything(random)
        case 1 if isinstance(holder, dict):
            holder[random.choice((*NAMES, *NUMBERS, -1))] = holder.pop(key)
        case 1:
            holder.insert(key, value)
        case 2 | 3 if isinstance(holder, dict) or len(holder) > 1:
            del holder[key]
        case 4 if isinstance(value, list):
            holder[key] = (value * random.choice((2, 9, 70)))[:MOST_MEMBERS]
        case _:
            holder[key] = _near(value, random, havoc)


def _near(value: Any, random: Dice, havoc: Havoc) -> Any:
    match value:
        case bool() | None:
            return random.choice((False, True, None, 0, ""))
        case int():
            near = value + random.choice((-1, 1, 8, -256))
            far = random.choice(NUMBERS)
            return random.choice((near, far, far, -1 - far))
        case bytes() if random.below(2):
            return bytes(random.choice(SIZES))
        case bytes():
            return havoc(value, len(value) + 64)
        case str():
            return havoc(value.encode(), len(value) + 64).decode("utf-8", "replace")
        case _:
            return _anything(random)


def _anything(random: Dice) -> Any:
    match random.below(7 + len(FOREIGN)):
        case 0:
            nested: Any = 0
            for _ in range(1 + random.below(MOST_NESTED)):
                nested = random.choice(([nested], {0: nested}))
            return nested
        case 1:
            return {number: bytes(48) for number in range(random.choice((3, 16, 33, 65)))}
        case 2:
            return random.choice(NUMBERS)
        case 3:
            return random.choice(NAMES)
        case 4:
            return b""
        case 5:
            return {}
        case 6:
            return []
        case _:
            return random.choice(FOREIGN)
