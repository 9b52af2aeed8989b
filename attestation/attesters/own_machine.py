"""The TEE that a service runs in, in place of a launcher's device: `--own-tee`.

What a launcher passes on, arguments and environment do here: where the broker is, the account there, and
endorsements that the device does not have. All of it is the host's word, and none of it says who anybody is.
"""

import argparse
import os
from collections.abc import Mapping
from pathlib import Path

from anyio import to_thread

from attestation.attesters.attester import Attester, DescriptorAttester, Machine
from attestation.attesters.detect import detect
from attestation.errors import AttesterError
from schemas.errors import Reason, UsageError
from schemas.evidence import MAX_ENDORSEMENT_NAME, MAX_ENDORSEMENTS, Endorsements, Evidence

COLLATERAL = "collateral"  # the setting by which `attestation.bundles.carried` finds a bundle
URL_VARIABLE = "SEALBUS_NATS_URL"
SEED_VARIABLE = "SEALBUS_NKEY_SEED"  # not an argument: those can be read by everybody on the machine

ENDORSEMENT_SUFFIXES = (".der", ".pem", ".json")
MAX_FILES = 32


class OwnMachine:
    """A TEE's attester with settings and endorsements of the machine's operator."""

    def __init__(
        self, attester: Attester, settings: Mapping[str, str], endorsements: Path | None = None
    ) -> None:
        """`endorsements` is a folder of files by their conventional names, as `vcek.der`, `tcb_info.json`."""
        self._attester = attester
        self._settings = dict(settings)
        self._endorsements = endorsements

    async def evidence(self, key_binding: bytes, challenge: bytes) -> tuple[Evidence, Endorsements]:
        """Obtain Evidence from the TEE; the operator's endorsements go before the host's."""
        evidence, endorsements = await self._attester.evidence(key_binding, challenge)
        if self._endorsements is not None:
            # Read each time, because collateral lives for days and the service for longer.
            endorsements |= await to_thread.run_sync(read_endorsements, self._endorsements)
        if sum(map(len, endorsements.values())) > MAX_ENDORSEMENTS:
            raise AttesterError(Reason.TOO_LARGE, "the endorsements are too large together")
        return evidence, endorsements

    async def host(self) -> dict[str, str]:
        """Return the settings."""
        return dict(self._settings)

    def close(self) -> None:
        """Do nothing: devices are opened for each request."""


def read_endorsements(folder: Path) -> Endorsements:
    """Read a folder of endorsements, or raise `AttesterError`."""
    try:
        # Neither pipes nor devices, which have no end.
        files = sorted(
            path for path in folder.iterdir() if path.suffix in ENDORSEMENT_SUFFIXES and path.is_file()
        )
        if len(files) > MAX_FILES or sum(path.stat().st_size for path in files) > MAX_ENDORSEMENTS:
            raise AttesterError(Reason.TOO_LARGE, f"the endorsements in {folder} are too many or too large")
        for path in files:
            _check_name(path)
        return {path.name: path.read_bytes() for path in files}
    except OSError as error:
        raise AttesterError(
            Reason.UNAVAILABLE, f"cannot read the endorsements in {folder}: {error.strerror}"
        ) from error


def _check_name(path: Path) -> None:
    # Here, because whoever receives such a name can say no more than that the message is none.
    if len(path.name) > MAX_ENDORSEMENT_NAME:
        raise AttesterError(
            Reason.TOO_LARGE,
            f"the endorsement {path} has a name of {len(path.name)} characters, over {MAX_ENDORSEMENT_NAME}:"
            " give it its conventional name, as vcek.der, or take it away",
        )
    if not path.name.isprintable():  # a name that is no UTF-8 is not either
        raise AttesterError(
            Reason.MALFORMED, f"the endorsement {str(path)!r} has a name that is no text: rename it"
        )


def add_machine_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that `open_machine` reads."""
    parser.add_argument("--attester-fd", type=int, default=3, help="descriptor of the launcher's device")
    parser.add_argument(
        "--own-tee", action="store_true", help="take Evidence from this machine's TEE, without a launcher"
    )
    parser.add_argument(
        "--nats-url",
        help=f"with --own-tee: the broker (default: {URL_VARIABLE}); {SEED_VARIABLE} is the account",
    )
    parser.add_argument(
        "--endorsements",
        type=Path,
        help="with --own-tee: a folder of what the device lacks, as tcb_info.json",
    )
    parser.add_argument(
        "--collateral",
        type=Path,
        help="with --own-tee: a bundle that the operators signed (`sealbus collateral sign`)",
    )


def open_machine(
    options: argparse.Namespace, environment: Mapping[str, str] = os.environ, root: Path = Path("/")
) -> Machine:
    """Return the launcher's device or this machine's own TEE; raise `UsageError` if there is none."""
    if not options.own_tee:
        if options.nats_url or options.endorsements or options.collateral:
            raise UsageError(
                "--nats-url, --endorsements and --collateral go with --own-tee: a launcher says them itself"
            )
        return DescriptorAttester(options.attester_fd)
    found = detect(root)
    if found.attester is None:
        raise UsageError("this machine has no TEE that can be used: `sealbus doctor` says why")
    given = {"nats_url": options.nats_url or environment.get(URL_VARIABLE, "")}
    given["nkey_seed"] = environment.get(SEED_VARIABLE, "")
    given[COLLATERAL] = str(options.collateral) if options.collateral else ""
    if not given["nats_url"]:
        raise UsageError(f"--own-tee needs to know the broker: give --nats-url, or set {URL_VARIABLE}")
    settings = {name: value for name, value in given.items() if value}
    return OwnMachine(found.attester(), settings, options.endorsements)
