"""What every command of operators has in common: the mesh, the keys, the broker, and what was seen before."""

import dataclasses
import os
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click
from msgspec.structs import replace

from agent_runtime.joining import AdmissionRefusedError
from console import operator_key
from console.documents import open_signed_policy
from console.operating import acts
from console.operating.acts import REVOCATION, Act, signed
from console.operating.kept import Kept, default_state, text_of
from console.operating.publishing import is_signed, tell
from console.operating.roll import holding, takes_away, waiting
from console.operator import OperatorLine, operator_line
from console.policy import files
from console.policy.signing_commands import File, read_anchor
from schemas import codec
from schemas.documents import Profile, RevocationOrder
from schemas.errors import Reason, UsageError
from schemas.messages import Event, Millis
from schemas.words import count
from sealing import council as councils
from sealing.context import Mesh, sha256
from sealing.council import Council
from sealing.errors import SealingError
from sealing.keys import SigningKey
from transport import Credentials

F = TypeVar("F", bound=Callable[..., Any])
Whose = Callable[[Council, Path | None], tuple[Council, ...]]

BROKER_URL, BROKER_SEED = "SEALBUS_NATS_URL", "SEALBUS_NKEY_SEED"
DONE, REFUSED = 0, 1
MAX_SEED = 4_096
MOST_SIGNATURES = 64
ANCHOR = "anchor.cbor"

credentials_option = click.option(
    "--credentials",
    type=File,
    help=f"A file with the NKey seed of the broker's account; else the seed in {BROKER_SEED}.",
)
state_option = click.option(
    "--state", type=click.Path(file_okay=False, path_type=Path), help="Where to remember what was seen."
)
wait_option = click.option(
    "--wait", type=click.FloatRange(0, 3600), default=10.0, show_default=True, help="Seconds to look."
)
json_option = click.option("--json", "as_data", is_flag=True, help="Print it as JSON.")


@dataclass(frozen=True)
class Desk:
    """One operator's place: made from the options of `desk_options`."""

    anchor_file: Path
    council: Council
    mesh: Mesh
    keys: tuple[SigningKey, ...]
    kept: Kept
    url: str | None
    credentials: Credentials | None
    own_profile: Profile | None
    wait: float

    def of(self, council: Council) -> "Desk":
        """Return the same desk among operators that it was not told of otherwise."""
        return dataclasses.replace(self, council=council)

    @asynccontextmanager
    async def line(self, profile: Profile | None = None) -> AsyncIterator[OperatorLine]:
        """Open a line as the first operator whose key was given; `profile`: of what is about to be sent.

        A coordinator whose term is newer than a revocation's receipt may never have heard of that: it is told
        first, whoever opened its term. Its `council` may be newer than this desk's: what is signed on the
        line is signed as of that.
        """
        async with self._line(profile) as line:
            unheard = self._believed(line.council, self.kept.unheard(line.term))
            if told := await tell(line, unheard):
                click.echo(
                    f"sealbus: term {line.term} was told {count(told, 'revocation')} of before", err=True
                )
            if line.term:
                await self._learn(line)
            yield line

    def holding(self) -> dict[bytes, RevocationOrder]:
        """Return what is to hold in the next term, by its digest: what was sent from here, or signed."""
        known = self.kept.known()
        # What was only signed ends no quarantine: it may have been given up.
        ends = {act.text for act in known if not takes_away(acts.document(act)) and self._was_whole(act)}
        sent = {text_of(each) for each in self.kept.revocations()}
        return holding(sent | ends, [act.text for act in known], now())

    def waiting(self) -> dict[bytes, RevocationOrder]:
        """Return what was sent from here or signed, and no coordinator takes yet, by its digest."""
        sent = {text_of(each) for each in self.kept.revocations()}
        return waiting(sent | {act.text for act in self.kept.known()}, now())

    def _is_whole(self, act: Act) -> bool:
        return acts.is_whole(self.council, self.mesh, act)

    def _was_whole(self, act: Act) -> bool:
        # The end of a quarantine is never signed again: operators who follow leave it ended. What is of later
        # is not theirs who went: whoever has their keys would end what was quarantined since.
        time = acts.document(act).time
        ends = [councils.read(self.mesh, step).time for step in self.council.chain]
        return any(
            acts.is_whole(each, self.mesh, act)
            for each in self.council.lineage
            if each is self.council or time <= ends[each.version]
        )

    def keep_known(self, *made: Act) -> None:
        """Keep revocations that are signed here, or in force, with the signatures that are known of them."""
        before = {act.text: act.signatures for act in self.kept.known()}
        for act in made:
            both = replace(act, signatures=(*act.signatures, *before.get(act.text, ())))
            kept = acts.one_of_each(self.council, self.mesh, both)
            self.kept.keep_known(replace(kept, signatures=kept.signatures[:MOST_SIGNATURES]))

    async def _learn(self, line: OperatorLine) -> None:
        """Keep what others revoked in this term: an order that leaves it out is not to pass here."""
        memory = self.kept.memory()
        first = memory.revocations if memory.term == line.term else 0
        if not (told := await line.revocations(first)):
            return
        shown = [Act(REVOCATION, signed(line.council, REVOCATION, each)[0], each) for each in told]
        made = [acts.decode_act(codec.encode(each), "what the coordinator shows") for each in shown]
        sent = {text_of(each) for each in self.kept.revocations() if is_signed(line.council, each)}
        self.keep_known(*(act for act in made if act.text not in sent))
        line.saw_revocations(first + len(told))

    def revocations(self, roll: Collection[bytes] = ()) -> list[Event]:
        """Return every revocation that was sent from here, of those that operators of now have signed.

        And what was signed here, or seen in force, if enough of those have and a roll asks for it.
        """
        sent = self._believed(self.council, self.kept.revocations())
        there = {text_of(each) for each in sent}
        wanted = [act for act in self.kept.known() if sha256(act.text) in roll and act.text not in there]
        return sent + [
            acts.event_of(self.council, self.mesh, acts.usable(self.council, self.mesh, act))
            for act in wanted
            if self._is_whole(act)
        ]

    def lacking(self, roll: Collection[bytes]) -> list[Path]:
        """Return a file of each revocation of a roll that is known here, and has too few signatures."""
        known = {act.text: act for act in self.kept.known()}
        ready = {text_of(each) for each in self.revocations(roll)}
        texts = [codec.encode(each) for digest, each in self.holding().items() if digest in roll]
        return [
            self.kept.keep_known(
                acts.usable(self.council, self.mesh, known.get(text, Act(REVOCATION, text, ())))
            )
            for text in sorted(set(texts) - ready)
        ]

    def tell_lacking(self, roll: Collection[bytes]) -> None:
        """Name what a term with this roll waits for, and too few have signed here."""
        for file in self.lacking(roll):
            click.echo(
                f"sealbus: the term waits for what {file} revokes, which too few have signed here: another "
                "console may have it whole, or have it signed with `sealbus revoke sign FILE --mesh ANCHOR`, "
                "or remove it if it was given up",
                err=True,
            )

    @contextmanager
    def naming_lacking(self, roll: Collection[bytes]) -> Iterator[None]:
        """Where a coordinator says that revocations are missing, name those that are half signed here."""
        try:
            yield
        except AdmissionRefusedError as error:
            if error.reason is Reason.REVOCATIONS_MISSING:
                self.tell_lacking(roll)
            raise

    def _believed(self, council: Council, revocations: list[Event]) -> list[Event]:
        believed = {text_of(each): each for each in revocations if is_signed(council, each)}
        if lost := {text_of(each) for each in revocations} - believed.keys():
            click.echo(
                f"sealbus: not sent, for former operators signed it: {count(len(lost), 'revocation')} of "
                "before; the next order asks for them and says what to sign again",
                err=True,
            )
        return list(believed.values())

    def _line(self, profile: Profile | None) -> AbstractAsyncContextManager[OperatorLine]:
        if not self.keys:
            raise UsageError("name your key with --key: a coordinator speaks to operators alone")
        if self.url is None:
            raise UsageError(f"name the broker with --nats or {BROKER_URL}: nats://HOST:4222")
        return operator_line(
            self.url,
            council=self.council,
            profile=self.own_profile or profile or self._last_profile(),
            key=self.keys[0],
            kept=self.kept,
            credentials=self.credentials,
            patience=self.wait,
        )

    def _last_profile(self) -> Profile | None:
        signed = self.kept.policy()
        if signed is None:
            return None
        try:
            return open_signed_policy(self.council, self.mesh, signed).profile
        except SealingError:
            return None  # of former operators: whoever offers none either has to be given one of now


_OPTIONS = (
    click.option(
        "--mesh",
        "--anchor",
        "anchor_file",
        type=File,
        help="The mesh's anchor: anchor.cbor beside FILE, or here, if absent.",
    ),
    click.option(
        "--key", "key_files", multiple=True, type=File, help="An operator's key, from `policy keygen`."
    ),
    click.option(
        "--passphrase-file",
        "phrase_files",
        multiple=True,
        type=File,
        help="Read the passphrase from its first line; one for all keys, or one for each.",
    ),
    click.option(
        "--profile",
        "profile_file",
        type=File,
        help="The signed policy that says which coordinator to believe, if this console has seen none.",
    ),
    click.option("--nats", "url", envvar=BROKER_URL, help=f"The broker; else {BROKER_URL}."),
    credentials_option,
    state_option,
    wait_option,
)


def _of_now(council: Council, _: Path | None) -> tuple[Council, ...]:
    return (council,)


def desk_options(command: F, *, whose: Whose = _of_now, optional: bool = False) -> F:
    """Give a command the options that make a `Desk`, which it gets as its first argument.

    `whose` says whose keys it takes, given the operators of now and the command's FILE. Where it is
    `optional`, the command gets None if neither a key nor a broker is named, and `anchor_file` besides.
    """

    @wraps(command)
    def with_desk(
        *arguments: Any,
        anchor_file: Path | None,
        key_files: tuple[Path, ...],
        phrase_files: tuple[Path, ...],
        profile_file: Path | None,
        url: str | None,
        credentials: Path | None,
        state: Path | None,
        wait: float,
        **options: Any,
    ) -> Any:
        file = options.get("file")
        if optional:
            options["anchor_file"] = anchor_file
            if not key_files and not _is_named("url"):
                return command(None, *arguments, **options)
        path = anchor_file or (file.with_name(ANCHOR) if isinstance(file, Path) else Path(ANCHOR))
        if not path.exists():
            raise UsageError(f"there is no {path}: name the mesh's anchor with --mesh")
        council, mesh = read_anchor(path)
        kept = Kept(state or default_state(), mesh.id)
        council = kept.council(council)
        profile = None
        if profile_file is not None:
            data = files.read(profile_file, files.MAX_SIGNED)
            profile = open_signed_policy(council, mesh, data, str(profile_file)).profile
        made = Desk(
            path,
            council,
            mesh,
            unlocked(key_files, phrase_files, whose(council, file) if key_files else ()),
            kept,
            url or None,
            credentials_of(credentials),
            profile,
            wait,
        )
        return command(made, *arguments, **options)

    decorated: Any = with_desk
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    result: F = decorated
    return result


def _is_named(parameter: str) -> bool:
    # A broker that stands in the environment is not yet a wish to ask it.
    source = click.get_current_context().get_parameter_source(parameter)
    return source is click.core.ParameterSource.COMMANDLINE


def unlocked(
    key_files: tuple[Path, ...], phrase_files: tuple[Path, ...], councils: tuple[Council, ...]
) -> tuple[SigningKey, ...]:
    """Return the keys of operators' files, or raise `UsageError` that names the file."""
    if len(phrase_files) not in (0, 1, len(key_files)):
        raise UsageError(
            f"{len(phrase_files)} passphrase files for {len(key_files)} keys: give one, or one for each"
        )
    phrases: list[Path | None] = list(phrase_files) or [None]
    if len(phrases) == 1:
        phrases *= len(key_files)
    return tuple(
        operator_key.unlock_any(path, files.read(path, operator_key.MAX_KEY_FILE), councils, phrase)
        for path, phrase in zip(key_files, phrases, strict=True)
    )


def credentials_of(path: Path | None) -> Credentials | None:
    """Return the broker's account: of a file, else of the environment."""
    if path is None:
        seed = os.environ.get(BROKER_SEED)
        return Credentials(seed=seed) if seed else None
    return Credentials(seed=files.read_text(path, MAX_SEED).strip())


def now() -> Millis:
    """Return the time of this computer."""
    return time.time_ns() // 1_000_000
