"""One process of the crowd: `python -m benchmarks.crowd ANCHOR COUNT DESCRIPTOR`.

Evidence and settings come over the descriptor, as for any enclave. It prints a line `ready` with its
instances once all are live. For each line `INSTANCE` that it reads it prints when each of the others knew of
the revocation or stopped, in nanoseconds since boot.
"""

import json
import sys
import time
from contextlib import closing
from pathlib import Path

import anyio
from anyio import to_thread

from agent_runtime import Identity, Node
from agent_runtime.joining import AdmissionRefusedError
from attestation.attesters.attester import DescriptorAttester
from benchmarks.crowd.agent import agent
from transport import Credentials, connect

LOOK_AGAIN = 0.001  # seconds; what an instance holds changes without a word to anybody
JOIN_PATIENCE = 120.0


class Instance:
    """One of the crowd."""

    def __init__(self, anchor: bytes, attester: DescriptorAttester, url: str, seed: str | None) -> None:
        self._identity = Identity(anchor, (agent.role,), attester)
        self._url, self._seed = url, seed
        self._started = anyio.Event()
        self.node: Node | None = None

    async def run(self) -> None:
        """Take part until the operators put it out, or for ever."""
        credentials = Credentials(seed=self._seed) if self._seed else None
        async with connect(self._url, name="agent", credentials=credentials) as transport:
            node = Node(self._identity, transport, agent)
            try:
                async with node.running():
                    self.node = node
                    self._started.set()
                    await anyio.sleep_forever()
            except* AdmissionRefusedError:
                self.node = None

    async def ready(self) -> str:
        """Return its id once it is live."""
        await self._started.wait()
        if self.node is None:
            return ""
        await self.node.wait_live()
        return self.node.membership.keys.instance.hex()

    def is_called(self, instance: bytes) -> bool:
        """Tell whether this is the instance of a name."""
        return self.node is None or self.node.membership.keys.instance == instance

    def enforces(self, revoked: bytes) -> bool:
        """Tell whether nothing of a revoked instance passes its gate any more."""
        if self.node is None:
            return True
        membership = self.node.membership
        return not membership.live() or revoked in membership.held().revoked


async def main(anchor_file: Path, count: int, descriptor: int) -> None:
    """Run the instances and answer what is read."""
    anchor = await anyio.Path(anchor_file).read_bytes()
    with closing(DescriptorAttester(descriptor)) as attester:
        host = await attester.host()
        crowd = [Instance(anchor, attester, host["nats_url"], host.get("nkey_seed")) for _ in range(count)]
        async with anyio.create_task_group() as tasks:
            for instance in crowd:
                tasks.start_soon(instance.run)
            with anyio.fail_after(JOIN_PATIENCE):
                say({"ready": [await instance.ready() for instance in crowd]})
            while line := (await to_thread.run_sync(sys.stdin.readline)).strip():
                revoked = bytes.fromhex(line)
                # Whoever is out hears of nothing any more.
                crowd = [instance for instance in crowd if not instance.is_called(revoked)]
                say({"enforced": await enforced(crowd, revoked)})
            tasks.cancel_scope.cancel()


async def enforced(crowd: list[Instance], revoked: bytes) -> list[int]:
    """Wait until all enforce a revocation; return when each began to."""
    waiting, times = list(crowd), []
    while waiting:
        later = [instance for instance in waiting if not instance.enforces(revoked)]
        times += [time.clock_gettime_ns(time.CLOCK_BOOTTIME)] * (len(waiting) - len(later))
        waiting = later
        await anyio.sleep(LOOK_AGAIN)
    return times


def say(line: dict[str, object]) -> None:
    """Print one line for the benchmark."""
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
