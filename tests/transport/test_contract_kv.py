"""What every transport promises about key-value."""

import asyncio

import pytest

from schemas.errors import UsageError
from transport import BucketSpec, ConflictError, KvEntry, TooLargeError, Transport, UnavailableError, Watch

pytestmark = pytest.mark.anyio
MEBIBYTE = 1024 * 1024


@pytest.fixture
async def bucket(anyio_backend: str, alice: Transport, unique: str) -> str:
    """A bucket of this test's own."""
    await alice.ensure_bucket(BucketSpec(name=unique, max_bytes=8 * MEBIBYTE))
    return unique


async def take(watch: Watch, count: int) -> list[KvEntry | None]:
    async with asyncio.timeout(90):
        return [await anext(watch) for _ in range(count)]


async def test_a_value_is_read_by_all(alice: Transport, bob: Transport, bucket: str) -> None:
    revision = await alice.kv_put(bucket, "a.b", b"\x00value")
    assert await bob.kv_get(bucket, "a.b") == KvEntry("a.b", b"\x00value", revision)


async def test_an_absent_key_is_none(alice: Transport, bucket: str) -> None:
    assert await alice.kv_get(bucket, "nothing") is None


async def test_revisions_rise(alice: Transport, bucket: str) -> None:
    revisions = [await alice.kv_put(bucket, key, b"x") for key in ("a", "b", "a")]
    assert revisions == sorted(set(revisions))


async def test_of_two_writers_over_one_revision_one_wins(
    alice: Transport, bob: Transport, bucket: str
) -> None:
    first = await alice.kv_put(bucket, "key", b"first", revision=0)
    second = await alice.kv_put(bucket, "key", b"second", revision=first)
    with pytest.raises(ConflictError):
        await bob.kv_put(bucket, "key", b"late", revision=first)
    with pytest.raises(ConflictError):
        await bob.kv_put(bucket, "key", b"late", revision=0)
    assert await bob.kv_get(bucket, "key") == KvEntry("key", b"second", second)


async def test_of_many_at_once_exactly_one_creates(alice: Transport, bob: Transport, bucket: str) -> None:
    attempts = [party.kv_put(bucket, "key", b"x", revision=0) for party in (alice, bob) * 8]
    outcomes = await asyncio.gather(*attempts, return_exceptions=True)
    assert sum(isinstance(outcome, int) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, ConflictError) for outcome in outcomes) == 15


async def test_a_deleted_key_is_absent_and_can_be_created_again(alice: Transport, bucket: str) -> None:
    first = await alice.kv_put(bucket, "key", b"x")
    await alice.kv_delete(bucket, "key", revision=first)
    assert await alice.kv_get(bucket, "key") is None
    with pytest.raises(ConflictError):
        await alice.kv_put(bucket, "key", b"y", revision=first)
    again = await alice.kv_put(bucket, "key", b"y", revision=0)
    assert await alice.kv_get(bucket, "key") == KvEntry("key", b"y", again)
    with pytest.raises(ConflictError):
        await alice.kv_delete(bucket, "key", revision=first)


async def test_an_empty_value_is_a_value(alice: Transport, bucket: str) -> None:
    revision = await alice.kv_put(bucket, "key", b"")
    assert await alice.kv_get(bucket, "key") == KvEntry("key", b"", revision)


async def test_a_watch_of_an_empty_bucket_says_at_once_that_it_is_up_to_date(
    alice: Transport, bucket: str
) -> None:
    watch = await alice.kv_watch(bucket)
    assert await take(watch, 1) == [None]
    await watch.close()


async def test_a_watch_gives_present_values_then_none_then_changes(
    alice: Transport, bob: Transport, bucket: str
) -> None:
    await alice.kv_put(bucket, "a", b"old")
    b = await alice.kv_put(bucket, "b", b"1")
    a = await alice.kv_put(bucket, "a", b"1")
    watch = await bob.kv_watch(bucket)
    assert await take(watch, 3) == [KvEntry("b", b"1", b), KvEntry("a", b"1", a), None]
    changed = await alice.kv_put(bucket, "a", b"2")
    assert await take(watch, 1) == [KvEntry("a", b"2", changed)]
    await alice.kv_delete(bucket, "b")
    [deleted] = await take(watch, 1)
    assert deleted is not None
    assert (deleted.key, deleted.value) == ("b", None)
    await watch.close()


async def test_a_watch_follows_the_keys_it_asks_for(alice: Transport, bucket: str) -> None:
    watch = await alice.kv_watch(bucket, "x.*")
    await take(watch, 1)
    await alice.kv_put(bucket, "y.1", b"")
    revision = await alice.kv_put(bucket, "x.1", b"")
    assert await take(watch, 1) == [KvEntry("x.1", b"", revision)]


async def test_closing_a_watch_ends_its_iteration(alice: Transport, bucket: str) -> None:
    watch = await alice.kv_watch(bucket)
    await take(watch, 1)
    reader = asyncio.ensure_future(anext(watch))
    await asyncio.sleep(0)
    await watch.close()
    with pytest.raises(StopAsyncIteration):
        await reader


async def test_a_bucket_that_does_not_exist_is_unavailable(alice: Transport, unique: str) -> None:
    with pytest.raises(UnavailableError):
        await alice.kv_get(unique, "key")


async def test_a_value_has_the_size_of_a_payload(alice: Transport, bucket: str) -> None:
    await alice.kv_put(bucket, "key", b"x" * alice.max_payload, revision=0)
    with pytest.raises(TooLargeError):
        await alice.kv_put(bucket, "key", b"x" * (alice.max_payload + 1))


@pytest.mark.parametrize("key", ["", "a b", "a..b", "*", ">", "$a", "a\r\nb"])
async def test_a_key_is_plain(alice: Transport, bucket: str, key: str) -> None:
    with pytest.raises(UsageError, match="key"):
        await alice.kv_put(bucket, key, b"")
    with pytest.raises(UsageError, match="key"):
        await alice.kv_get(bucket, key)


async def test_a_revision_is_not_negative(alice: Transport, bucket: str) -> None:
    with pytest.raises(UsageError, match="revision"):
        await alice.kv_put(bucket, "key", b"", revision=-1)
