"""Every reader of what strangers send refuses or answers, always the same, at a cost linear in its input."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.claims import Genuine
from schemas.codec import decode, encode
from schemas.errors import MalformedError
from schemas.messages import Body
from tests.fuzz import signed
from tests.fuzz.cost import TooDearError, within
from tests.fuzz.seeds import make_world, seeds
from tests.fuzz.targets import NAMES, SAMPLE, NotTheSameError, Sampled, Target, targets
from tests.fuzz.trees import Dice
from tests.fuzz.world import PLATFORMS, World
from tests.schemas.strategies import KINDS


@pytest.fixture(scope="session")
def world() -> World:
    return make_world()


@pytest.fixture(scope="session")
def all_targets(world: World) -> dict[str, Target]:
    return targets(world)


@pytest.fixture(scope="session")
def all_seeds(world: World) -> dict[str, list[bytes]]:
    return seeds(world)


def test_every_target_has_seeds(all_targets: dict[str, Target], all_seeds: dict[str, list[bytes]]) -> None:
    assert tuple(all_targets) == tuple(all_seeds) == NAMES
    assert all(all_seeds.values())


@pytest.mark.parametrize("name", NAMES)
def test_seeds_pass(name: str, all_targets: dict[str, Target], all_seeds: dict[str, list[bytes]]) -> None:
    for seed in all_seeds[name]:
        all_targets[name](seed)


@pytest.mark.parametrize("name", NAMES)
@given(st.data())
def test_any_bytes_and_any_damaged_seed_pass(
    name: str, all_targets: dict[str, Target], all_seeds: dict[str, list[bytes]], data: st.DataObject
) -> None:
    target = all_targets[name]
    target(data.draw(st.binary(max_size=512)))
    seed = data.draw(st.sampled_from(all_seeds[name]))
    at, size = data.draw(st.integers(0, len(seed))), data.draw(st.integers(0, 16))
    damaged = seed[:at] + data.draw(st.binary(max_size=16)) + seed[at + size :]
    target(damaged)
    if target.mutate is not None:
        target(target.mutate(seed, 1 << 14, Dice(data.draw(st.integers(0, 2**32))), flip))


@pytest.mark.parametrize("name", ["cbor", "message", "nitro-document", "signed-nitro"])
def test_a_tree_that_is_remembered_is_not_the_one_that_was_changed(
    name: str, all_targets: dict[str, Target], all_seeds: dict[str, list[bytes]]
) -> None:
    mutate = all_targets[name].mutate
    assert mutate is not None
    drawn = [
        mutate(seed, 1 << 14, Dice(number), flip) for seed in all_seeds[name][:3] for number in range(99)
    ]
    assert drawn == [
        mutate(seed, 1 << 14, Dice(number), flip) for seed in all_seeds[name][:3] for number in range(99)
    ]


def flip(data: bytes, max_size: int) -> bytes:
    changed = bytearray(data[:max_size])
    random = Random(bytes(changed))
    for _ in range(min(3, len(changed))):
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def test_what_is_dearest_by_the_byte_is_linear_too(all_targets: dict[str, Target]) -> None:
    full = b"\x98\x40" + bytes(64)
    all_targets["nitro-document"](b"\x98\x40" + 64 * full)
    all_targets["cbor"](b"\x99\x10\x00" + bytes(0x1000))
    all_targets["cbor"](b"\x99\x10\x00" + b"\x80" * 0x1000)
    all_targets["nats"](bytes(2) + b"+OK\r\n" * 1000)


@pytest.mark.parametrize("platform", PLATFORMS)
def test_what_a_machine_signed_is_genuine_and_reaches_what_stands_behind_the_signature(
    platform: str, all_seeds: dict[str, list[bytes]]
) -> None:
    assert isinstance(signed.reader(platform)(all_seeds[f"signed-{platform}"][0]), Genuine)


def test_a_maps_keys_of_two_kinds_are_refused(all_targets: dict[str, Target]) -> None:
    body = next(number for number, kind in enumerate(KINDS) if kind is Body)
    mixed = Body("p", bytes(16), None)
    data = encode(mixed)[:-1] + bytes.fromhex("a2 00 00 61 61 00")
    with pytest.raises(MalformedError):
        decode(data, Body)
    all_targets["message"](bytes((body,)) + data)


# The oracle sees what it is there for.


def test_an_error_that_is_no_refusal_gets_out() -> None:
    with pytest.raises(ZeroDivisionError):
        Target("divides", lambda data: 1 // len(data), 10, 0)(b"")


def test_two_answers_to_one_input_are_found() -> None:
    answers = iter(range(9))
    with pytest.raises(NotTheSameError):
        Target("counts", lambda _: next(answers), 10, 0)(b"")


def test_a_quadratic_cost_is_found_and_a_linear_one_is_none() -> None:
    def quadratic(data: bytes) -> int:
        return sum(data.count(byte) for _ in data for byte in data)

    Target("linear", lambda data: sum(data.count(byte) for byte in data), 10, 4)(bytes(100))
    with pytest.raises(TooDearError):
        Target("quadratic", quadratic, 10, 4)(bytes(100))


def test_a_sampled_target_reads_most_inputs_once_and_lets_errors_out_of_each() -> None:
    readings: list[bytes] = []
    sampled = Sampled(Target("notes", readings.append, 10, 0))
    for _ in range(SAMPLE + 1):
        sampled(b"ab")
    assert len(readings) == SAMPLE + 1 + 2  # the first and the last of them twice
    dividing = Sampled(Target("divides", lambda data: 1 // (2 - len(data)), 10, 0))
    dividing(b"abc")
    with pytest.raises(ZeroDivisionError):
        dividing(b"ab")


def test_a_sampled_target_reads_each_input_with_instruments_and_a_share_without_them_too() -> None:
    readings: list[bytes] = []
    traced: list[bytes] = []
    sampled = Sampled(Target("notes", readings.append, 10, 0), traced.append)
    for _ in range(SAMPLE + 1):
        sampled(b"ab")
    assert len(traced) == SAMPLE + 1
    assert len(readings) == 2 + 2  # the first and the last of them twice


def test_a_sampled_target_counts_the_first_input_each_larger_one_and_each_so_many() -> None:
    def dear(data: bytes) -> int:
        return sum(data.count(byte) for _ in data for byte in data)

    with pytest.raises(TooDearError):
        Sampled(Target("first", dear, 10, 4))(bytes(100))
    growing = Sampled(Target("larger", dear, 10, 4))
    growing(b"a")
    with pytest.raises(TooDearError):
        growing(bytes(100))
    later = Sampled(Target("later", lambda data: dear(data) if data[0] else 0, 10, 4))
    for _ in range(SAMPLE - 1):
        later(bytes(100))
    later(b"\1" + bytes(98))  # neither larger nor of the sample: goes by
    with pytest.raises(TooDearError):
        later(b"\1" + bytes(98))


def test_counting_stops_where_it_was_started() -> None:
    assert within(10, lambda: 7) == 7
    with pytest.raises(TooDearError):
        within(10, lambda: [abs(each) for each in range(100)])
    assert [abs(each) for each in range(100)]
