"""Role and group frames: who may open, who sealed, and under which epoch."""

import os
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import PeerError, Reason, UsageError
from schemas.limits import MAX_BODY
from schemas.messages import MemberPackage
from sealing import groups
from sealing.context import Mesh
from sealing.errors import NotAuthenticError, ReplayedError, SealingError
from sealing.frames import GROUP_HEADER, TASK_HEADER
from sealing.groups import (
    Opener,
    Sealer,
    Sender,
    epoch_token,
    frame_token,
    make_handle,
    seals_at,
    sender_key,
    sender_package,
)
from tests.sealing.world import ALICE, BOB, MESH, OTHER_MESH, SIV_MESH, flipped, package

SUBJECT = "sb.mesh.group.token"
SENDER = Sender(ALICE.instance, MESH.role_id("submitter"))
PACKAGE = package()
TASK_ID = b"a task's 16 byte"


def opener(of: MemberPackage = PACKAGE, mesh: Mesh = MESH) -> Opener:
    return Opener(mesh, of)


def outside(of: MemberPackage = PACKAGE, mesh: Mesh = MESH, sender: Sender = SENDER) -> Sealer:
    """A sealer of a permitted party that is no member."""
    return Sealer(mesh, sender_package(mesh, of, sender, os.urandom(12)))


def refuses(by: Opener, frame: bytes, subject: str | None = None) -> Reason:
    with pytest.raises(PeerError) as refusal:
        by.open_task(frame) if subject is None else by.open_group(frame, subject)
    return refusal.value.reason


@pytest.mark.parametrize("mesh", [MESH, SIV_MESH], ids=["GCM", "GCM-SIV"])
def test_every_member_opens_what_a_permitted_outsider_sealed_and_learns_who(mesh: Mesh) -> None:
    sealer = outside(mesh=mesh)
    task, group = sealer.seal_task(b"task", TASK_ID), sealer.seal_group(b"body", SUBJECT)
    for member in (opener(mesh=mesh), opener(mesh=mesh)):
        assert member.open_task(task) == (SENDER, TASK_ID, b"task")
        assert member.open_group(group, SUBJECT) == (SENDER, b"body")


def test_members_seal_to_each_other() -> None:
    one, other = opener(), opener()
    sealer = one.sealer(Sender(BOB.instance, MESH.role_id("redactor")), os.urandom(12))
    assert other.open_group(sealer.seal_group(b"body", SUBJECT), SUBJECT)[0].instance == BOB.instance


def test_an_outsider_holds_its_own_key_and_neither_the_secret_nor_anothers_key() -> None:
    mine = sender_package(MESH, PACKAGE, SENDER, os.urandom(12))
    assert PACKAGE.secret not in msgspec.to_builtins(mine, builtin_types=(bytes,))
    theirs = outside()
    frame = theirs.seal_task(b"task", TASK_ID)
    # With the key of its own handle it opens nothing that another sealed.
    forged = frame[:22] + mine.handle + frame[98:]
    assert refuses(opener(), forged) is Reason.NOT_AUTHENTIC


def test_no_two_processes_share_a_handle_or_a_key() -> None:
    made = [sender_package(MESH, PACKAGE, SENDER, os.urandom(12)) for _ in range(200)]
    assert len({each.handle for each in made}) == len({each.key for each in made}) == 200


def test_a_handle_hides_who_it_is_from_whoever_has_not_the_secret() -> None:
    handle = make_handle(MESH, PACKAGE, SENDER, os.urandom(12))
    assert len(handle) == 76
    assert SENDER.instance[:8] not in handle
    assert SENDER.role_id[:8] not in handle


def test_what_a_member_holds_is_of_one_group_epoch_mesh_and_suite() -> None:
    handle = make_handle(MESH, PACKAGE, SENDER, os.urandom(12))
    others = [
        (MESH, PACKAGE),
        (MESH, msgspec.structs.replace(PACKAGE, epoch=8)),
        (MESH, msgspec.structs.replace(PACKAGE, group="linker")),
        (MESH, msgspec.structs.replace(PACKAGE, secret=bytes(32))),
        (OTHER_MESH, PACKAGE),
        (SIV_MESH, PACKAGE),
    ]
    assert len({sender_key(*other, handle) for other in others}) == len(others)
    assert len({epoch_token(*other) for other in others}) == len(others)
    frame = outside().seal_task(b"task", TASK_ID)
    for mesh, held in others[1:]:
        refuses(opener(held, mesh), frame)


def test_the_token_in_the_clear_names_the_epoch() -> None:
    sealer = outside()
    assert frame_token(sealer.seal_task(b"", TASK_ID)) == epoch_token(MESH, PACKAGE) == opener().token
    assert frame_token(sealer.seal_group(b"", SUBJECT)) == sealer.token


@pytest.mark.parametrize("known", [False, True], ids=["of a new sender", "of a known sender"])
@pytest.mark.parametrize("field", [2, 3], ids=["token", "epoch"])
def test_another_epoch_in_the_header_refuses_even_if_the_sender_sealed_it(field: int, known: bool) -> None:
    member = opener()
    package = sender_package(MESH, PACKAGE, SENDER, os.urandom(12))
    if known:
        sealer = Sealer(MESH, package)
        member.open_group(sealer.seal_group(b"", SUBJECT), SUBJECT)
        member.open_task(sealer.seal_task(b"", TASK_ID))
    named = {"token": bytes(16)} if field == 2 else {"epoch": PACKAGE.epoch + 1}
    lying = Sealer(MESH, msgspec.structs.replace(package, **named))
    lying._counter = 100
    assert refuses(member, lying.seal_task(b"", TASK_ID)) is Reason.NOT_AUTHENTIC
    assert refuses(member, lying.seal_group(b"", SUBJECT), SUBJECT) is Reason.NOT_AUTHENTIC


def test_a_forged_handle_refuses() -> None:
    frame = outside().seal_task(b"task", TASK_ID)
    member = opener()
    for handle in (os.urandom(76), bytes(76), make_handle(MESH, package(), SENDER, os.urandom(12))):
        assert refuses(member, frame[:22] + handle + frame[98:]) is Reason.NOT_AUTHENTIC
    assert member.open_task(frame)


@settings(max_examples=100)
@given(st.data())
def test_no_bit_of_a_frame_can_change(data: st.DataObject) -> None:
    member, sealer = opener(), outside()
    task, group = sealer.seal_task(b"task", TASK_ID), sealer.seal_group(b"body", SUBJECT)
    for bit in data.draw(st.lists(st.integers(0, min(len(task), len(group)) * 8 - 1), max_size=8)):
        refuses(member, flipped(task, bit))
        refuses(member, flipped(group, bit), SUBJECT)
    assert member.open_task(task)
    assert member.open_group(group, SUBJECT)


@settings(max_examples=60)
@given(st.binary(max_size=500))
def test_any_bytes_are_no_frame(data: bytes) -> None:
    member = opener()
    for frame in (data, b"\x01\x02" + data, b"\x01\x03" + data):
        with pytest.raises(SealingError):
            member.open_task(frame)
        with pytest.raises(SealingError):
            member.open_group(frame, SUBJECT)


def test_a_group_frame_is_of_one_subject_and_delivered_once() -> None:
    member = opener()
    frame = outside().seal_group(b"body", SUBJECT)
    assert refuses(member, frame, SUBJECT + "x") is Reason.NOT_AUTHENTIC
    assert member.open_group(frame, SUBJECT)
    with pytest.raises(ReplayedError):
        member.open_group(frame, SUBJECT)


def test_task_frames_have_no_window_because_queues_reorder_and_the_seen_set_remembers() -> None:
    member, sealer = opener(), outside()
    frames = [sealer.seal_task(bytes([number]), TASK_ID) for number in range(5)]
    for _ in range(2):
        for number, frame in reversed(list(enumerate(frames))):
            assert member.open_task(frame) == (SENDER, TASK_ID, bytes([number]))


def test_a_task_is_no_group_frame_nor_the_other_way_round() -> None:
    member, sealer = opener(), outside()
    task, group = sealer.seal_task(b"x", TASK_ID), sealer.seal_group(b"x", SUBJECT)
    assert refuses(member, task, SUBJECT) is Reason.NOT_AUTHENTIC
    assert refuses(member, group) is Reason.NOT_AUTHENTIC
    # Nor with the kind byte changed.
    refuses(member, task[:1] + b"\x03" + task[2:], SUBJECT)
    refuses(member, group[:1] + b"\x02" + group[2:])


def test_a_task_id_cannot_be_changed_in_the_clear() -> None:
    frame = outside().seal_task(b"x", TASK_ID)
    end = TASK_HEADER.size
    assert refuses(opener(), frame[: end - 16] + bytes(16) + frame[end:]) is Reason.NOT_AUTHENTIC


@pytest.mark.parametrize("suite", [0, 2, 3, 255])
def test_another_suite_byte_refuses(suite: int) -> None:
    frame = outside().seal_task(b"x", TASK_ID)
    assert refuses(opener(), bytes([suite]) + frame[1:]) is Reason.UNSUPPORTED_SUITE


def test_a_mesh_of_no_suite_seals_nothing() -> None:
    mesh = replace(MESH, suite=3)
    with pytest.raises(SealingError, match="unsupported-suite"):
        outside(mesh=mesh)


def test_a_counter_is_never_taken_twice_and_counts_both_kinds() -> None:
    sealer = outside()
    frames = [sealer.seal_task(b"", TASK_ID), sealer.seal_group(b"", SUBJECT), sealer.seal_task(b"", TASK_ID)]
    assert [GROUP_HEADER.unpack_from(frame)[5] for frame in frames] == [0, 1, 2]


def test_windows_are_bounded_and_the_longest_silent_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "GROUP_SENDERS", 3)
    member, sealers = opener(), [outside() for _ in range(4)]
    frames = [sealer.seal_group(b"", SUBJECT) for sealer in sealers]
    for frame in frames[:3]:
        member.open_group(frame, SUBJECT)
    member.open_group(sealers[0].seal_group(b"", SUBJECT), SUBJECT)  # speaks again: 1 is the longest silent
    member.open_group(frames[3], SUBJECT)
    assert len(member._known) == 3
    for remembered in (0, 2, 3):
        with pytest.raises(ReplayedError):
            member.open_group(frames[remembered], SUBJECT)
    # What group frames carry is judged again by version, sequence or hash: forgetting is safe there.
    assert member.open_group(frames[1], SUBJECT)


def test_junk_pushes_no_sender_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "GROUP_SENDERS", 2)
    member, honest = opener(), outside()
    frame = honest.seal_group(b"", SUBJECT)
    member.open_group(frame, SUBJECT)
    for _ in range(5):
        # Genuine handles, frames that are not theirs
        junk = flipped(outside().seal_group(b"", SUBJECT), GROUP_HEADER.size * 8)
        assert refuses(member, junk, SUBJECT) is Reason.NOT_AUTHENTIC
    assert len(member._known) == 1
    with pytest.raises(ReplayedError):
        member.open_group(frame, SUBJECT)


def test_an_erased_epoch_opens_seals_and_tells_nothing() -> None:
    member, sealer = opener(), outside()
    first, second = sealer.seal_task(b"", TASK_ID), sealer.seal_task(b"", TASK_ID)
    member.open_task(first)
    member.erase()
    sealer.erase()
    # Neither a known sender's frame nor a new one's
    for frame in (second, outside().seal_task(b"", TASK_ID)):
        assert refuses(member, frame) is Reason.NOT_AUTHENTIC
    for attempt in (
        member.reply_secret,
        lambda: member.name_token("inbox", b"x"),
        lambda: member.sealer(SENDER, os.urandom(12)),
        lambda: sealer.seal_task(b"", TASK_ID),
        lambda: sealer.seal_group(b"", SUBJECT),
    ):
        with pytest.raises(NotAuthenticError, match="erased"):
            attempt()


def test_names_are_pseudonyms_of_one_epoch_kind_and_name() -> None:
    member = opener()
    names = {
        member.name_token("inbox", b"x"),
        member.name_token("load", b"x"),
        member.name_token("inbox", b"y"),
        opener(msgspec.structs.replace(PACKAGE, secret=bytes(32))).name_token("inbox", b"x"),
    }
    assert len(names) == 4
    assert {len(name) for name in names} == {16}
    assert opener().name_token("inbox", b"x") == member.name_token("inbox", b"x")


def test_an_epoch_is_sealed_under_from_its_opening_to_its_last_seal() -> None:
    for of in (opener(), outside()):
        assert [now for now in (99, 100, 200, 201) if seals_at(of, now)] == [100, 200]


def test_a_body_too_large_is_the_callers_to_split() -> None:
    sealer, member = outside(), opener()
    assert len(member.open_task(sealer.seal_task(bytes(MAX_BODY), TASK_ID))[2]) == MAX_BODY
    with pytest.raises(UsageError, match="split them"):
        sealer.seal_task(bytes(MAX_BODY + 1), TASK_ID)


def test_packages_and_holders_show_no_secret() -> None:
    made = sender_package(MESH, PACKAGE, SENDER, os.urandom(12))
    shown = "".join(repr(each) for each in (PACKAGE, made, opener(), outside(), opener()._known))
    for secret in (PACKAGE.secret, made.key):
        assert repr(secret)[2:-1] not in shown
        assert secret.hex() not in shown
