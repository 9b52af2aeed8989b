"""Rules and actions: each does what its name says to what it matches, and a seed makes it happen again."""

import random
from collections.abc import Callable

import anyio
import pytest

from lab.tap import (
    Alter,
    Delay,
    Drop,
    Duplicate,
    Flip,
    Frame,
    Match,
    Redirect,
    Reorder,
    Replay,
    Rule,
    Script,
    Splice,
    Towards,
    Truncate,
)
from lab.tap.script import Action, Passing
from schemas.subjects import Kind, subject

MESH = bytes(32)


def message(body: bytes = b"body", kind: Kind = Kind.ASSIGN, party: str = "redactor-1") -> Passing:
    return Passing(party, Towards.PARTY, Frame("MSG", subject=subject(MESH, kind), sid="1", body=body))


def bodies(action: Action, *sent: bytes) -> list[list[bytes]]:
    """Return what goes on for each message that comes."""
    script = Script()
    script.add("rule", Match(), action)
    out = []
    for body in sent:
        going = script.judge(message(body))
        assert going is not None
        out.append([frame.body for frame in going.frames])
    return out


def test_without_a_rule_everything_goes_on_as_it_is() -> None:
    assert Script().judge(message()) is None


def test_drop() -> None:
    assert bodies(Drop(), b"a") == [[]]


def test_duplicate() -> None:
    assert bodies(Duplicate(3), b"a") == [[b"a", b"a", b"a"]]


def test_reorder_holds_and_turns_around() -> None:
    assert bodies(Reorder(3), b"a", b"b", b"c", b"d") == [[], [], [b"c", b"b", b"a"], []]


def test_replay_says_again_what_came_before() -> None:
    assert bodies(Replay(2), b"a", b"b", b"c", b"d") == [[b"a"], [b"b"], [b"c", b"a"], [b"d", b"b"]]


def test_truncate() -> None:
    assert bodies(Truncate(2), b"abcd") == [[b"ab"]]
    ((cut,),) = bodies(Truncate(), b"abcd")
    assert b"abcd".startswith(cut)
    assert len(cut) < 4


def test_flip_changes_one_bit() -> None:
    ((changed,),) = bodies(Flip(), b"abcd")
    assert (int.from_bytes(changed, "big") ^ int.from_bytes(b"abcd", "big")).bit_count() == 1
    ((changed,),) = bodies(Flip(middle=True), b"abcd")
    assert (changed[:2], changed[3:]) == (b"ab", b"d")
    assert changed != b"abcd"
    assert bodies(Flip(middle=True), b"") == [[b""]]
    assert bodies(Flip(), b"") == [[b""]]


def test_splice() -> None:
    assert bodies(Splice(b"one", b"two"), b"one by one") == [[b"two by two"]]


def test_delay_says_how_much_later() -> None:
    script = Script()
    script.add("late", Match(), Delay(0.5))
    going = script.judge(message())
    assert going is not None
    assert going.after == 0.5


def test_redirect_moves_and_changes_on_the_way() -> None:
    script = Script()
    script.add("elsewhere", Match(), Redirect(["sb.other"], Splice(b"a", b"b")))
    going = script.judge(message(b"a"))
    assert going is not None
    assert [(frame.subject, frame.body) for frame in going.frames] == [("sb.other", b"b")]


def test_two_rules_fork_what_two_parties_see() -> None:
    script = Script()
    for party in ("one", "two"):

        def change(frame: Frame, party: str = party) -> tuple[Frame, ...]:
            return (frame.with_body(party.encode()),)

        script.add(party, Match(party), Alter(change))
    views = [script.judge(message(party=party)) for party in ("one", "two", "three")]
    assert [view.frames[0].body if view else None for view in views] == [b"one", b"two", None]


@pytest.mark.parametrize(
    ("match", "fits"),
    [
        (Match(), True),
        (Match("redactor-*"), True),
        (Match("planner"), False),
        (Match(towards=Towards.PARTY), True),
        (Match(towards=Towards.BROKER), False),
        (Match(kind=Kind.ASSIGN), True),
        (Match(kind=Kind.BEACON), False),
        (Match(subject=subject(MESH, Kind.ASSIGN)), True),
        (Match(subject="sb.x"), False),
        (Match(where=lambda passing: passing.frame.body == b"body"), True),
        (Match(where=lambda passing: passing.frame.body == b"other"), False),
        (Match(chance=0.0), False),
        (Match(most=0), False),
    ],
)
def test_a_rule_is_for_what_it_names(match: Match, fits: bool) -> None:
    assert Rule("rule", match, Drop()).takes(message(), random.Random(1)) is fits


def test_every_nth_and_no_more_than_so_many() -> None:
    script = Script()
    rule = script.add("third", Match(every=3, most=2), Drop())
    assert [script.judge(message()) is not None for _ in range(12)] == [False, False, True] * 2 + [False] * 6
    assert rule.fired == 2


def test_the_first_rule_that_takes_a_message_decides_until_it_is_removed() -> None:
    script = Script()
    first = script.add("first", Match(), Drop())
    script.add("second", Match(), Duplicate())
    assert [len(script.judge(message()).frames)] == [0]  # type: ignore[union-attr]
    script.remove(first)
    assert [len(script.judge(message()).frames)] == [2]  # type: ignore[union-attr]


@pytest.mark.parametrize("make", [Flip, Truncate, lambda: Redirect(["a", "b", "c"])])
def test_a_seed_makes_the_same_decisions_again(make: Callable[[], Action]) -> None:
    def play(seed: int) -> list[object]:
        script = Script(seed)
        script.add("some", Match(chance=0.5), make())
        said = [script.judge(message(bytes(range(50)))) for _ in range(100)]
        return [said, list(script.decisions)]

    assert play(1) == play(1)
    assert play(1) != play(2)


def test_decisions_name_sizes_and_never_contents() -> None:
    script = Script()
    script.add("flip", Match(), Flip())
    script.judge(message(b"secret"))
    (decision,) = script.decisions
    assert (decision.rule, decision.size, decision.sizes) == ("flip", 6, (6,))
    assert "secret" not in repr(decision)


@pytest.mark.anyio
async def test_a_rule_can_be_waited_for() -> None:
    script = Script()
    rule = script.add("drop", Match(), Drop())
    done: list[int] = []

    async def wait() -> None:
        await rule.wait_fired(3)
        done.append(rule.fired)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        for _ in range(3):
            await anyio.wait_all_tasks_blocked()
            assert done == []
            script.judge(message())
    assert done == [3]
