"""A flood of inits against an agent that is called meanwhile: what an honest call costs with it and without.

The flooder is a process of the broker's owner. It holds no key of the mesh: it says what can be told from
an init by a look (`stranger`), an init that was here (`replay`), or another body under a true header
(`forged`, and `short`, the cheapest to send). `nowhere` is as `short`, to where nobody listens: what flooder
and broker take of the processors, the receiver has no part in.
"""

import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import anyio

from agent_runtime import Identity, connect_client
from lab import setup
from lab.broker import Broker
from lab.mesh import running_mesh, wait_admitted
from lab.state import open_state
from schemas.subjects import Kind, every
from tests.soak.mesh import BLUEPRINT
from transport import Delivery, connect

CHILD = ("-m", "tests.soak.flooder")
KINDS = ("stranger", "replay", "forged", "short", "nowhere")
SETTLE = 0.5  # seconds for the flood to arrive, and to end
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Slice:
    """Calls of one slice of time."""

    times: list[float]
    cpu: float  # seconds of the called agent's process
    seconds: float

    @property
    def p50(self) -> float:
        """The median, in microseconds."""
        return statistics.median(self.times) * 1e6


@dataclass
class Row:
    """One kind of junk at one rate: slices with the flood and without, by turns."""

    kind: str
    rate: float  # asked for, a second
    quiet: list[Slice] = field(default_factory=list)
    flooded: list[Slice] = field(default_factory=list)
    sent: float = 0.0  # a second
    sender_us: float = 0.0  # CPU of the flooder for one

    def as_json(self) -> dict[str, object]:
        """Return what was measured; the receiver's cost is its CPU less what the honest calls cost."""
        ratios = [flood.p50 / calm.p50 for flood, calm in zip(self.flooded, self.quiet, strict=True)]
        a_call = sum(each.cpu for each in self.quiet) / sum(len(each.times) for each in self.quiet)
        cpu = sum(each.cpu - len(each.times) * a_call for each in self.flooded)
        seconds = sum(each.seconds for each in self.flooded)
        return {
            "kind": self.kind,
            "asked_per_second": self.rate,
            "sent_per_second": round(self.sent),
            "receiver_us_per_init": round(max(cpu, 0) / max(self.sent * seconds, 1) * 1e6, 1),
            "sender_us_per_init": round(self.sender_us, 1),
            "receiver_cpu_share": round(sum(each.cpu for each in self.flooded) / seconds, 2),
            "p50_us_quiet": round(statistics.median(each.p50 for each in self.quiet)),
            "p50_us_flooded": round(statistics.median(each.p50 for each in self.flooded)),
            "p50_ratio": round(statistics.median(ratios), 2),
            "p50_ratio_range": [round(min(ratios), 2), round(max(ratios), 2)],
        }


async def flood(
    folder: Path,
    *,
    kinds: tuple[str, ...],
    rates: tuple[float, ...],
    rounds: int,
    seconds: float,
    say: Callable[[str], None],
) -> list[Row]:
    """Measure each kind of junk at each rate in `folder`, where a lab is made."""
    lab = folder / "lab"
    await anyio.to_thread.run_sync(setup.make, lab, BLUEPRINT, lambda _: None)
    # A broker without accounts: its owner needs none to say what he likes.
    async with Broker(folder / "broker") as broker:
        with open_state(lab) as state:
            async with running_mesh(state, url=broker.url) as mesh:
                await wait_admitted(mesh)
                identity = Identity(mesh.anchor, ("soak",), key=mesh.client_key("soak"))
                async with (
                    connect(broker.url, name="owner") as owner,
                    connect_client(broker.url, identity) as client,
                ):
                    caught: list[Delivery] = []

                    async def catch(delivery: Delivery) -> None:
                        caught.append(delivery)

                    caught_by = await owner.subscribe(every(mesh.mesh.id, Kind.INBOX), catch)

                    async def ask() -> None:
                        await client.context.call("weigh", os.urandom(64), bytes)

                    await ask()
                    # Or this process, which calls, would be the flood's receiver too.
                    await caught_by.close()
                    pid = mesh.pids()["ledger"]
                    return [
                        await _measure(broker.url, caught[0], Row(kind, rate), ask, pid, rounds, seconds, say)
                        for rate in rates
                        for kind in kinds
                    ]


async def _measure(
    url: str,
    init: Delivery,
    row: Row,
    ask: Callable[[], Awaitable[None]],
    pid: int,
    rounds: int,
    seconds: float,
    say: Callable[[str], None],
) -> Row:
    sent = spent = lasted = 0.0
    host, _, port = url.removeprefix("nats://").partition(":")
    for number in range(rounds):
        say(f"{row.kind} at {row.rate:.0f}/s, round {number + 1} of {rounds}")
        row.quiet.append(await _slice(ask, pid, seconds))
        subject = f"{init.subject}x" if row.kind == "nowhere" else init.subject
        command = [sys.executable, *CHILD, host, port, subject, row.kind, str(row.rate)]
        async with await anyio.open_process(command, stderr=None) as flooder:
            assert flooder.stdin is not None
            assert flooder.stdout is not None
            await flooder.stdin.send(b"%d\n" % len(init.payload) + init.payload)
            await anyio.sleep(SETTLE)
            row.flooded.append(await _slice(ask, pid, seconds))
            await flooder.stdin.aclose()
            said = (await flooder.stdout.receive()).split()
        sent, lasted, spent = sent + float(said[0]), lasted + float(said[1]), spent + float(said[2])
        await anyio.sleep(SETTLE)
    row.sent, row.sender_us = sent / lasted, spent / max(sent, 1) * 1e6
    return row


async def _slice(ask: Callable[[], Awaitable[None]], pid: int, seconds: float) -> Slice:
    times: list[float] = []
    started, cpu = time.perf_counter(), _cpu(pid)
    while (begun := time.perf_counter()) < started + seconds:
        await ask()
        times.append(time.perf_counter() - begun)
    return Slice(times, _cpu(pid) - cpu, time.perf_counter() - started)


def _cpu(pid: int) -> float:
    """Return the seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS
