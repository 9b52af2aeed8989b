"""Which TEE a machine is, by what exists; and services that use it in place of a launcher's device."""

import argparse
import os
import socket
from pathlib import Path

import pytest

from attestation import Attester, AttesterError, DescriptorAttester, Machine
from attestation.attesters.detect import Interface, detect
from attestation.attesters.nsm import NsmAttester
from attestation.attesters.own_machine import (
    OwnMachine,
    add_machine_arguments,
    open_machine,
    read_endorsements,
)
from attestation.attesters.sev_guest import SevGuestAttester
from attestation.attesters.tsm import TsmAttester
from coordinator import __main__ as coordinator
from schemas.codec import convert
from schemas.errors import Reason, UsageError
from schemas.evidence import MAX_ENDORSEMENT_NAME, MAX_ENDORSEMENTS, Endorsements, Evidence

KEY_BINDING, CHALLENGE = bytes(64), bytes(32)
TSM, SEV, TDX, NSM = "sys/kernel/config/tsm/report/", "dev/sev-guest", "dev/tdx_guest", "dev/nsm"


def machine(root: Path, *paths: str) -> Path:
    """Make a machine on which these exist."""
    for name in paths:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if name.endswith("/") else path.touch()
    return root


def interface(root: Path, name: str) -> Interface:
    return next(each for each in detect(root).interfaces if each.name == name)


@pytest.mark.parametrize(
    ("paths", "platform", "kind"),
    [
        ((TSM, SEV), "sev-snp", TsmAttester),
        ((TSM, TDX), "tdx", TsmAttester),
        ((SEV,), "sev-snp", SevGuestAttester),
        ((NSM,), "nitro", NsmAttester),
        ((TSM, NSM), "nitro", NsmAttester),
        ((SEV, NSM), "sev-snp", SevGuestAttester),
    ],
)
def test_the_first_interface_that_can_be_used_is_chosen(
    paths: tuple[str, ...], platform: str, kind: type[Attester], tmp_path: Path
) -> None:
    found = detect(machine(tmp_path, *paths))
    assert found.platform == platform
    assert found.chosen is not None
    assert found.chosen.path.is_relative_to(tmp_path)
    assert found.attester is not None
    assert isinstance(found.attester(), kind)


@pytest.mark.parametrize("paths", [(), (TSM,), (TDX,), ("dev/tpmrm0",)])
def test_a_machine_without_one_is_no_tee(paths: tuple[str, ...], tmp_path: Path) -> None:
    found = detect(machine(tmp_path, *paths))
    assert (found.platform, found.chosen, found.attester) == (None, None, None)


def test_looking_changes_nothing(tmp_path: Path) -> None:
    root = machine(tmp_path, TSM, SEV, NSM)
    before = sorted((path, path.lstat().st_mtime_ns) for path in root.rglob("*"))
    detect(root)
    assert before == sorted((path, path.lstat().st_mtime_ns) for path in root.rglob("*"))


def test_each_interface_says_why_it_is_not_used(tmp_path: Path) -> None:
    root = machine(tmp_path, TSM, "dev/tpmrm0")
    assert "no guest driver stands behind it" in interface(root, "configfs-tsm").why
    assert not interface(root, "sev-guest").found
    assert "paravisor" in interface(root, "tpm").why


def test_a_tdx_guest_without_its_driver_is_told_so_by_its_processor(tmp_path: Path) -> None:
    cpu = tmp_path / "proc" / "cpuinfo"
    cpu.parent.mkdir()
    cpu.write_text("processor\t: 0\nflags\t\t: fpu vme tdx_guest sse\n")
    assert "load the module tdx-guest" in interface(tmp_path, "tdx-guest").why
    cpu.write_text("processor\t: 0\nflags\t\t: fpu vme sse\n")
    assert "load the module" not in interface(tmp_path, "tdx-guest").why


def test_a_device_that_may_not_be_opened_is_found_and_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Root may open everything, so the system's answer is played.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    root = machine(tmp_path, TSM, SEV, NSM)
    assert detect(root).attester is None
    for name in ("configfs-tsm", "sev-guest", "nsm"):
        assert interface(root, name).found
        assert "this user may" in interface(root, name).why


class Device:
    """A TEE that gives what it is told to."""

    def __init__(self, endorsements: Endorsements) -> None:
        self.endorsements = endorsements

    async def evidence(self, key_binding: bytes, challenge: bytes) -> tuple[Evidence, Endorsements]:
        return Evidence("application/x", key_binding), dict(self.endorsements)


@pytest.mark.anyio
async def test_the_operators_endorsements_go_before_the_hosts(tmp_path: Path) -> None:
    (tmp_path / "vcek.der").write_bytes(b"operator's")
    (tmp_path / "tcb_info.json").write_bytes(b"{}")
    (tmp_path / "README").write_bytes(b"not one of them")
    own = OwnMachine(Device({"vcek.der": b"host's", "ark.der": b"root"}), {}, tmp_path)
    _, endorsements = await own.evidence(KEY_BINDING, CHALLENGE)
    assert endorsements == {"vcek.der": b"operator's", "ark.der": b"root", "tcb_info.json": b"{}"}
    # Renewed while the service runs.
    (tmp_path / "tcb_info.json").write_bytes(b"newer")
    _, endorsements = await own.evidence(KEY_BINDING, CHALLENGE)
    assert endorsements["tcb_info.json"] == b"newer"


@pytest.mark.anyio
async def test_endorsements_that_are_too_large_are_refused(tmp_path: Path) -> None:
    (tmp_path / "crl.der").write_bytes(bytes(MAX_ENDORSEMENTS))
    own = OwnMachine(Device({"ark.der": b"root"}), {}, tmp_path)
    with pytest.raises(AttesterError) as refusal:
        await own.evidence(KEY_BINDING, CHALLENGE)
    assert refusal.value.reason is Reason.TOO_LARGE
    (tmp_path / "more.der").write_bytes(b"x")
    with pytest.raises(AttesterError) as refusal:
        await own.evidence(KEY_BINDING, CHALLENGE)
    assert refusal.value.reason is Reason.TOO_LARGE


def test_the_longest_name_of_an_endorsement_passes_and_a_longer_one_is_named_with_the_limit(
    tmp_path: Path,
) -> None:
    longest = "a" * (MAX_ENDORSEMENT_NAME - 4) + ".der"
    (tmp_path / longest).write_bytes(b"a certificate")
    assert convert(read_endorsements(tmp_path), Endorsements) == {longest: b"a certificate"}
    longer = "a" + longest
    (tmp_path / longer).write_bytes(b"another")
    with pytest.raises(AttesterError, match=f"{longer} has a name of 41 characters, over 40") as caught:
        read_endorsements(tmp_path)
    assert caught.value.reason is Reason.TOO_LARGE


def test_a_name_that_is_no_text_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    Path(os.fsdecode(bytes(tmp_path) + b"/vcek\xff.der")).write_bytes(b"a certificate")
    with pytest.raises(AttesterError, match=r"vcek.*\.der.*no text: rename it"):
        read_endorsements(tmp_path)


@pytest.mark.anyio
async def test_a_folder_of_endorsements_that_is_gone_is_unavailable(tmp_path: Path) -> None:
    own = OwnMachine(Device({}), {}, tmp_path / "gone")
    with pytest.raises(AttesterError) as refusal:
        await own.evidence(KEY_BINDING, CHALLENGE)
    assert refusal.value.reason is Reason.UNAVAILABLE


def opened(arguments: list[str], environment: dict[str, str], root: Path) -> Machine:
    parser = argparse.ArgumentParser()
    add_machine_arguments(parser)
    return open_machine(parser.parse_args(arguments), environment, root)


@pytest.mark.anyio
async def test_a_service_on_its_own_tee_has_its_settings_from_arguments_and_environment(
    tmp_path: Path,
) -> None:
    root = machine(tmp_path, NSM)
    environment = {"SEALBUS_NATS_URL": "nats://there:4222", "SEALBUS_NKEY_SEED": "seed", "HOME": "/root"}
    own = opened(["--own-tee"], environment, root)
    assert await own.host() == {"nats_url": "nats://there:4222", "nkey_seed": "seed"}
    own = opened(["--own-tee", "--nats-url", "nats://here:4222"], environment, root)
    assert (await own.host())["nats_url"] == "nats://here:4222"
    own.close()
    own = opened(["--own-tee", "--collateral", "bundle"], environment, root)
    assert (await own.host())["collateral"] == "bundle"


@pytest.mark.anyio
async def test_without_own_tee_the_launchers_device_is_used_and_the_environment_is_not(
    tmp_path: Path,
) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        device = opened(
            ["--attester-fd", str(ours.detach())],
            {"SEALBUS_NATS_URL": "nats://x"},
            machine(tmp_path, NSM),
        )
        assert isinstance(device, DescriptorAttester)
        device.close()


@pytest.mark.parametrize(
    ("arguments", "paths", "says"),
    [
        (["--own-tee", "--nats-url", "nats://x"], (), "no TEE that can be used"),
        (["--own-tee"], (NSM,), "SEALBUS_NATS_URL"),
        (["--nats-url", "nats://x"], (NSM,), "go with --own-tee"),
        (["--endorsements", "folder"], (NSM,), "go with --own-tee"),
        (["--collateral", "bundle"], (NSM,), "go with --own-tee"),
    ],
)
def test_who_asks_for_what_cannot_be_is_told_what_to_do(
    arguments: list[str], paths: tuple[str, ...], says: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=says):
        opened(arguments, {}, machine(tmp_path, *paths))


def test_a_coordinator_on_a_machine_without_a_tee_ends_with_a_usage_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if detect().attester is not None:
        pytest.skip("this machine is a TEE")
    anchor = tmp_path / "anchor.cbor"
    anchor.write_bytes(b"not one")
    assert coordinator.main(["--own-tee", "--nats-url", "nats://x", "--anchor", str(anchor)]) == 2
    assert "not an anchor" in caplog.text


def test_a_pipe_among_the_endorsements_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "crl.der")
    (tmp_path / "ask.der").write_bytes(b"a certificate")
    assert read_endorsements(tmp_path) == {"ask.der": b"a certificate"}
