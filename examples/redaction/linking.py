"""The linker's memory: a job's names after pass 1, and who occurs where after pass 2.

It grows with distinct names and with distinct pseudonyms times documents, never with text. All of it
may be told twice (tasks run at least once) and in any order: the answers do not change.
"""

from collections.abc import Iterable, Iterator

from examples.redaction.messages import Group, LexiconPage, LinksPage, PersonName, Token
from schemas.errors import PeerError, Reason

PAGE_NAMES = 4_000  # of at most 134 bytes: a page stays below 600 KiB
PAGE_BYTES = 600_000  # of a page of groups: below the mesh's message limit with room for framing
_DOCUMENT, _TOKEN = 5, 28  # bytes of one in msgpack, at most
_MOST_TOKENS = 8_000  # of one group: two copies of a large table share more, in several groups
MAX_NAMES = 500_000  # a job that declares more is not one of people's names


class Job:
    """What the linker knows of one job."""

    def __init__(self) -> None:
        self._names: set[PersonName] = set()
        self._sorted: list[PersonName] | None = None
        self._documents: dict[Token, set[int]] = {}
        self._groups: list[Group] | None = None

    def declare(self, names: Iterable[PersonName]) -> None:
        """Take the names that a slice declares."""
        new = set(names) - self._names
        if len(self._names) + len(new) > MAX_NAMES:
            raise PeerError(Reason.TOO_LARGE, "a job with too many names")
        if new:
            self._names |= new
            self._sorted = None

    def lexicon(self, start: int) -> LexiconPage:
        """Return a page of the names in order."""
        if self._sorted is None:
            self._sorted = sorted(self._names)
        page = tuple(self._sorted[start : start + PAGE_NAMES])
        more = start + len(page) < len(self._sorted)
        return LexiconPage(page, start + len(page) if more else None)

    def sight(self, document: int, tokens: Iterable[Token]) -> None:
        """Take which tokens a document contains."""
        self._groups = None
        for token in tokens:
            self._documents.setdefault(token, set()).add(document)

    def links(self, start: int) -> LinksPage:
        """Return a page of the groups: documents that share identifiers, most telling first."""
        if self._groups is None:
            self._groups = _groups(self._documents)
        page: list[Group] = []
        size = 0
        for group in self._groups[start:]:
            size += _DOCUMENT * len(group.documents) + _TOKEN * len(group.tokens)
            if page and size > PAGE_BYTES:
                break
            page.append(group)
        more = start + len(page) < len(self._groups)
        return LinksPage(tuple(page), start + len(page) if more else None)


def _groups(documents: dict[Token, set[int]]) -> list[Group]:
    """Group the tokens that stand in exactly the same two or more documents."""
    sharing: dict[tuple[int, ...], list[Token]] = {}
    for token, places in documents.items():
        if len(places) > 1:
            sharing.setdefault(tuple(sorted(places)), []).append(token)
    groups: list[Group] = []
    for shared, tokens in sharing.items():
        tokens.sort()
        groups += (Group(shared, tuple(batch)) for batch in _batched(tokens, _MOST_TOKENS))
    return sorted(groups, key=lambda group: (-len(group.tokens), group.documents, group.tokens))


def _batched(tokens: list[Token], size: int) -> Iterator[list[Token]]:
    for start in range(0, len(tokens), size):
        yield tokens[start : start + size]
