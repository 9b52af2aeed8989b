"""What a party's broker account must allow for what it does through this transport.

nats-server knows no "may append to stream S": it permits subjects, and JetStream is spoken over
subjects of its own (`$JS.API.>`, `$JS.ACK.>`) with answers to an inbox. These functions name the few
that each operation uses, so that an account needs no `$JS.API.>`. Add up what a party does:
`publishing(...) + subscribing(...) + appending(...)`.

An account keeps strangers from spending the broker; it protects no secret (SECURITY: nothing here is
an authorization of sealbus).
"""

import msgspec

DEFAULT_INBOX = "_INBOX"


class Access(msgspec.Struct, frozen=True):
    """Subjects that an account may publish and subscribe to."""

    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()

    def __add__(self, other: "Access") -> "Access":
        return Access(
            tuple(dict.fromkeys(self.publish + other.publish)),
            tuple(dict.fromkeys(self.subscribe + other.subscribe)),
        )


def publishing(*subjects: str) -> Access:
    """What `publish` needs."""
    return Access(publish=subjects)


def subscribing(*subjects: str) -> Access:
    """What `subscribe` needs."""
    return Access(subscribe=subjects)


def appending(*subjects: str, inbox: str = DEFAULT_INBOX) -> Access:
    """What `append` needs: the subjects, and the inbox to which the broker acknowledges."""
    return Access(publish=subjects, subscribe=(f"{inbox}.>",))


def consuming(stream: str, durable: str | None, *, sole: bool = False, inbox: str = DEFAULT_INBOX) -> Access:
    """What `consume` needs; without `durable`, consumers of any name on that stream."""
    name = durable or "*"
    publish = (
        f"$JS.API.CONSUMER.CREATE.{stream}.{name}",
        f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}",
        *((f"$JS.ACK.{stream}.{name}.>",) if durable else ()),
        *((f"$JS.API.CONSUMER.DELETE.{stream}.{name}",) if sole or not durable else ()),
    )
    return Access(publish=publish, subscribe=(f"{inbox}.>",))


def creating_stream(stream: str, *, inbox: str = DEFAULT_INBOX) -> Access:
    """What `ensure_stream` needs."""
    publish = (f"$JS.API.STREAM.CREATE.{stream}", f"$JS.API.STREAM.UPDATE.{stream}")
    return Access(publish=publish, subscribe=(f"{inbox}.>",))


def creating_bucket(bucket: str, *, inbox: str = DEFAULT_INBOX) -> Access:
    """What `ensure_bucket` needs."""
    return creating_stream(f"KV_{bucket}", inbox=inbox)


def reading_bucket(bucket: str, *, inbox: str = DEFAULT_INBOX) -> Access:
    """What `kv_get` and `kv_watch` need."""
    get = Access(publish=(f"$JS.API.STREAM.MSG.GET.KV_{bucket}",))
    return get + consuming(f"KV_{bucket}", None, inbox=inbox)


def writing_bucket(bucket: str, *, inbox: str = DEFAULT_INBOX) -> Access:
    """What `kv_put` and `kv_delete` need: writing, and reading back whose write won a conflict."""
    publish = (f"$KV.{bucket}.>", f"$JS.API.STREAM.MSG.GET.KV_{bucket}")
    return Access(publish=publish, subscribe=(f"{inbox}.>",))
