"""The lab's operators at work: ordering a term, handing over the policy, revoking. They sign together."""

import logging
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio
from msgspec.structs import replace

from agent_runtime import RefusedError
from agent_runtime.coordination import UnreachableError
from agent_runtime.joining import AdmissionRefusedError
from console.audit_fetch import ForkError, following, stored_head
from console.council_files import CHAIN, encode_chain
from console.documents import (
    SignedPolicy,
    VerifiedPolicy,
    open_signed_policy,
    sign_order,
    sign_policy,
    sign_revocation,
)
from console.operating.acts import roll_event
from console.operating.kept import Kept, text_of
from console.operating.publishing import hand_over, open_term
from console.operator import OperatorLine, operator_line
from lab.council import (
    SEEN,
    MissingKeysError,
    held_keys,
    lab_council,
    operator_keys,
    signed_policy,
    written_policy,
)
from lab.state import ACCOUNTS, ANCHOR, POLICY, POLICY_TEXT, State
from schemas import codec
from schemas.errors import PeerError, Reason, UsageError
from schemas.limits import BEACON_INTERVAL, SECOND
from schemas.messages import Event
from schemas.policy import Policy, dump
from schemas.subjects import Kind, Party, subject
from sealing.context import sha256
from sealing.cose import unverified_payload
from sealing.council import Council
from sealing.documents import sign_by_operators
from sealing.keys import SigningKey
from transport import Credentials, Delivery, TransportError, connect

log = logging.getLogger("sealbus.lab")

TERM = "term"
REVOCATIONS = "revocations"
RETRY = 0.5
LOG_INTERVAL = BEACON_INTERVAL / SECOND  # what is not stored when a coordinator dies is lost: at most so much
LOG_AGAIN = 10.0
SILENCE = 3 * BEACON_INTERVAL / SECOND  # seconds without a beacon: look for a new coordinator


class Operators:
    """As many of a lab's operators as have to sign, with the state they sign by."""

    def __init__(self, state: State, url: str) -> None:
        self._state = state
        self._url = url
        self.anchor = state.load(ANCHOR)
        _, self.mesh = lab_council(state)
        self._signed: tuple[bytes, bytes] | None = None
        self._policy: VerifiedPolicy | None = None
        self._out: set[bytes] = set()  # keys that a coordinator did not take
        self._kept = Kept(state.root / SEEN, self.mesh.id)

    @property
    def council(self) -> Council:
        """Who the operators are, after every change that this lab knows."""
        return lab_council(self._state)[0]

    @property
    def policy(self) -> VerifiedPolicy:
        """The policy that the operators signed last, whichever of the lab's processes published it."""
        known = self._state.load(POLICY), self.council.digest
        if self._policy is None or known != self._signed:
            self._policy, self._signed = signed_policy(self._state), known
        return self._policy

    def _keys(self) -> list[SigningKey]:
        return operator_keys(self._state)

    async def open_term(self, patience: float = math.inf) -> None:
        """Order the term of the coordinator that is there, and hand it the signed policy.

        What goes wrong on the way is tried again for `patience` seconds, from wherever it had come to.
        """
        deadline = anyio.current_time() + patience
        while True:
            try:
                async with self._spoken(0) as line:
                    await self._settle(line)
                    return
            except MissingKeysError as error:
                if anyio.current_time() >= deadline:
                    raise
                log.error("%s", error)
                await anyio.sleep(LOG_AGAIN)
            except RefusedError as error:
                # Asking again changes nothing. What is said to any operator names no lab's directory.
                if error.reason is Reason.MEASUREMENT_NOT_IN_POLICY:
                    again = self._state.command("resign")
                    raise RefusedError(
                        error.reason,
                        "the coordinator's code is not what the operators signed; if that is meant, have it "
                        f"measured and signed again: {again}",
                    ) from error
                raise
            except (PeerError, TransportError) as error:
                if _is_behind(error):
                    raise UsageError(
                        f"this lab has seen a newer policy than its operators hold ({error}): have them sign "
                        f"the next version with {self._state.command('resign')}"
                    ) from error
                if anyio.current_time() >= deadline:
                    raise
                log.info("the term is not open yet: %s", error)
                await anyio.sleep(RETRY)

    async def keep_terms(self, opened: Callable[[int], None]) -> None:
        """Order the term of each coordinator that has none, for ever; tell `opened` the open one's number."""
        known = b""
        while True:
            try:
                async with self._spoken(0) as line:
                    if line.coordinator != known:
                        opened(await self._settle(line))
                        known = line.coordinator
                await self._silence()
            except MissingKeysError as error:
                log.error("%s", error)
                await anyio.sleep(LOG_AGAIN)
            except (PeerError, TransportError) as error:
                log.info("no coordinator to order a term for: %s", error)
                await anyio.sleep(RETRY)

    async def follow_log(self) -> None:
        """Keep the audit log of every coordinator that comes in the lab's directory, for ever."""
        told = ""
        while True:
            try:
                # Another operator than the one who orders and revokes: each has one session at a time.
                async with self._spoken(1) as line:
                    with following(self._state.root, line.council, self.mesh, line.term_proof) as follower:
                        while True:
                            await follower.catch_up(line)
                            self._learn(line.council)
                            await anyio.sleep(LOG_INTERVAL)
            except (ForkError, UsageError) as error:
                # A file that is amiss, or a disk that is full, needs a person. The mesh goes on.
                if str(error) != told:
                    log.error("the audit log is not stored: %s", error)
                told = str(error)
                await anyio.sleep(LOG_AGAIN)
            except (PeerError, TransportError) as error:
                log.info("no audit log to follow: %s", error)
                await anyio.sleep(RETRY)

    async def _settle(self, line: OperatorLine) -> int:
        if not line.term:
            self._keys()  # before a term is spent on what too few can sign
            term = self._next_term()
            await self._order(line, term)
            return term
        # Others ordered it, or we did in an earlier life, which may have ended before it was through.
        try:
            await hand_over(line, line.roll(), self._revocation_events(), self.policy.signed)
        except AdmissionRefusedError as error:
            log.info("the coordinator of term %d keeps the policy that it has: %s", line.term, error)
        return line.term

    async def _silence(self) -> None:
        """Return when no beacon came for a while: a coordinator without a term sends none."""
        beacons = 0

        async def count(_: Delivery) -> None:
            nonlocal beacons
            beacons += 1

        url, credentials = self._url, account(self._state, Party.CLIENT)
        async with connect(url, name="operator", credentials=credentials) as transport:
            await transport.subscribe(subject(self.mesh.id, Kind.BEACON), count)
            heard = -1
            while heard != beacons:
                heard = beacons
                await anyio.sleep(SILENCE)

    def _next_term(self) -> int:
        last = self._state.load(TERM).decode("ascii", "replace") if self._state.has(TERM) else "0"
        if not last.isdecimal():
            raise UsageError(
                f"{self._state.root}/{TERM} is damaged: write the number of the last term into it, or make "
                "another lab"
            )
        term = int(last) + 1
        # Written before it is signed: a term that was ever ordered is never ordered again.
        self._state.save(TERM, str(term).encode())
        return term

    async def _order(self, line: OperatorLine, term: int) -> None:
        before = stored_head(self._state.root, term - 1, self.council, self.mesh)
        revocations = self._revocation_events()
        roll = [sha256(text_of(each)) for each in revocations]
        order = sign_order(
            self.council,
            self._keys(),
            term=term,
            instance=line.coordinator,
            policy_hash=self.policy.policy_hash,
            time=_now(),
            log_head=before.claims.root if before else None,
            roll=roll,
        )
        event = Event("order", order, None, ())
        await open_term(line, event, roll_event(roll) if roll else None, revocations, self.policy.signed)

    def _revocation_events(self) -> list[Event]:
        # Of who decided, former operators among them, a coordinator is told by those of now.
        texts = [unverified_payload(documents[0]) for documents in self._revocations()]
        signed = [sign_by_operators(self._keys(), self.council, "revocation", text) for text in texts]
        return [Event("revocation", documents, None, ()) for documents in signed]

    def next_policy(self) -> Policy:
        """Return the policy that would follow the signed one without a change."""
        held = self.policy
        return replace(held.policy, version=held.policy.version + 1, predecessor=held.policy_hash.hex())

    def sign(self, policy: Policy) -> SignedPolicy:
        """Have as many operators as have to sign a policy; nothing is written."""
        return sign_policy(self.council, self._keys(), policy)

    async def send(self, event: Event) -> None:
        """Bring an event to the coordinator; return with its signed receipt, or raise its no."""
        async with self.line() as line:
            await line.send(event)

    async def publish(self, signed: SignedPolicy) -> None:
        """Bring a newer policy and hold to it: every later coordinator gets it too."""
        await self.send(Event("policy", signed.policy, signed.profile, ()))
        data = codec.encode(signed)
        verified = open_signed_policy(self.council, self.mesh, data)
        self._state.save(POLICY_TEXT, dump(verified.policy).encode())
        self._state.save(POLICY, data)

    async def revoke(self, kind: str, value: str, reason: str) -> None:
        """Revoke an instance, a chip or a workload; returns with the coordinator's signed receipt.

        Whatever happens on the way, every later coordinator is told: only what this one refuses is not.
        """
        documents = sign_revocation(
            self.council, self._keys(), kind=kind, value=value, reason=reason, time=_now()
        )
        before = self._revocations()
        # Written before it is sent: what was acknowledged to us just before a crash must hold after it.
        self._state.save(REVOCATIONS, codec.encode((*before, documents)))
        try:
            await self.send(Event("revocation", documents, None, ()))
        except AdmissionRefusedError:
            self._state.save(REVOCATIONS, codec.encode(before))
            raise

    def _revocations(self) -> tuple[tuple[bytes, ...], ...]:
        if not self._state.has(REVOCATIONS):
            return ()
        return codec.decode(self._state.load(REVOCATIONS), tuple[tuple[bytes, ...], ...])

    def _learn(self, council: Council) -> None:
        """Write down who follows whom: the next coordinator has to be told, and who verifies a log."""
        data = encode_chain(council)
        if council.version and not (self._state.has(CHAIN) and self._state.load(CHAIN) == data):
            self._state.save(CHAIN, data)

    @asynccontextmanager
    async def _spoken(self, index: int) -> AsyncIterator[OperatorLine]:
        key = self._speaker(index)
        try:
            async with self.line(key) as line:
                yield line
        except PeerError as error:
            if error.reason is Reason.CLIENT_NOT_IN_POLICY:
                # Others have followed, which a key of now has to learn: no coordinator tells a former one.
                self._out.add(key.public)
            raise

    def _speaker(self, index: int) -> SigningKey:
        # Any operator may speak, also while too few of them can sign.
        held = held_keys(self._state, self.council) or self._keys()
        fit = [key for key in held if key.public not in self._out] or held
        return fit[min(index, len(fit) - 1)]

    def line(
        self, key: SigningKey | None = None, kept: Kept | None = None
    ) -> AbstractAsyncContextManager[OperatorLine]:
        """Open a line to the coordinator; with the first key and what this lab has seen, if not others."""
        return operator_line(
            self._url,
            council=self.council,
            profile=written_policy(self._state).profile,
            key=key or self._speaker(0),
            kept=kept or self._kept,
            credentials=account(self._state, Party.CLIENT),
        )


def _is_behind(error: Exception) -> bool:
    refused = error.refused if isinstance(error, UnreachableError) else None
    reason = error.reason if isinstance(error, PeerError) else None
    return Reason.STATE_ROLLED_BACK in (refused, reason)


def account(state: State, party: Party) -> Credentials | None:
    """Return the broker account of a kind of party; None on a broker of somebody else's."""
    name = f"{ACCOUNTS}/{party.value}.seed"
    return Credentials(seed=state.load(name).decode()) if state.has(name) else None


def _now() -> int:
    return time.time_ns() // 1_000_000
