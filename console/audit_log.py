"""An audit log as it is stored: read, checked entry by entry, and compared with its signed heads.

Pure: bytes in, findings out. A file is lines of text, each in the one form that it can have, so that a
changed byte is found where it is (docs/audit.md has the format). Nothing in it is believed but what follows
from the anchor: it names the operators, their order the key of the term, and that key signed the heads.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from schemas import codec
from schemas.audit import AuditEntry, TermProof, open_entry
from schemas.documents import LogHead
from schemas.errors import PeerError
from sealing.audit import leaf, open_head, open_term
from sealing.context import Mesh
from sealing.council import Council
from sealing.log_tree import LogTree

FORMAT = "sealbus-audit-1"
MAX_LOG = 1024 * 1024 * 1024  # of a file: a year of a large mesh
HEAD, APART, ENTRY = "head", "apart", "entry"
_HEX = re.compile(r"(?:[0-9a-f]{2})+")
_LEAF_HEX = 64


@dataclass(frozen=True, slots=True)
class Head:
    """A head that the term's key signed, and the line that it stands in."""

    claims: LogHead
    signed: bytes
    line: int
    apart: bool = False  # the coordinator could not show that it continues this log


@dataclass(frozen=True, slots=True)
class Finding:
    """What does not fit: `code` for programs, `text` for people, where, and the heads that it is about."""

    code: str
    text: str
    line: int
    entry: int | None = None
    heads: tuple[Head, ...] = ()


@dataclass(slots=True)
class StoredLog:
    """One term's log as a file holds it, with everything that is amiss, the first first."""

    term: int = 0
    key: bytes = b""
    proof: TermProof | None = None
    entries: list[tuple[bytes, AuditEntry | None]] = field(default_factory=list)  # None: not readable
    heads: list[Head] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    tree: LogTree = field(default_factory=LogTree)
    lines: int = 0
    whole: int = 0  # bytes up to which every entry stands that the heads before it cover

    @property
    def last(self) -> Head | None:
        """The head that covers most, of those that this log leads to."""
        fitting = [
            head
            for head in self.heads
            if not head.apart and head.claims.size <= self.tree.size and fits(self.tree, head)
        ]
        return max(fitting, key=lambda head: head.claims.size, default=None)

    @property
    def unfinished(self) -> bool:
        """Whether writing was interrupted, and nothing else is amiss."""
        return bool(self.findings) and {each.code for each in self.findings} <= {"torn", "truncated"}


def read_log(data: bytes, council: Council, mesh: Mesh) -> StoredLog:
    """Read a stored log and check all that it carries; what is wrong is in its findings."""
    log = StoredLog()
    position = 0
    for number, (line, whole_line) in enumerate(_lines(data), 1):
        position += len(line) + 1
        log.lines = number
        if not whole_line:
            log.findings.append(Finding("torn", "the last line has no end", number, len(log.entries)))
        elif number == 1:
            _read_first(log, line, council, mesh)
        else:
            _read_line(log, line, number, mesh)
        covered = max((head.claims.size for head in log.heads if not head.apart), default=0)
        if whole_line and len(log.entries) >= covered:
            log.whole = position
    if not data:
        log.findings.append(Finding("torn", "the file is empty", 1))
    unfit = [each for each in log.findings if each.code == "entry"]
    if log.proof is None and log.entries and len(unfit) == len(log.entries):
        # Leaf hashes are over the mesh's id too: it is another mesh's file, and no entry of it was changed.
        text = f"none of the {len(unfit)} entries is of the anchor's mesh: name the anchor of the log's own"
        log.findings = [each for each in log.findings if each.code != "entry"]
        log.findings.append(Finding("entry", text, unfit[0].line, 0))
    _judge_heads(log)
    log.findings.sort(key=lambda each: each.line)
    return log


def fork_between(one: StoredLog, other: StoredLog) -> Finding | None:
    """Return what proves that two copies of a term's log, each fine by itself, are of two logs."""
    if one.findings or other.findings or one.term != other.term:
        return None
    if one.key != other.key:
        text = f"term {one.term} was ordered for two coordinators, and each has a log"
        return Finding("fork", text, 1, None, tuple(head for head in (one.last, other.last) if head))
    for mine, theirs in ((one, other), (other, one)):
        covered = theirs.last
        for head in mine.heads:
            if covered and head.claims.size <= covered.claims.size and not fits(theirs.tree, head):
                text = f"the other copy's first {head.claims.size} entries are others: two logs are kept"
                return Finding("fork", text, head.line, None, (head, covered))
    return None


def first_line(proof: TermProof) -> bytes:
    """Return the line that a stored log begins with."""
    return f"{FORMAT} {codec.encode(proof).hex()}\n".encode()


def head_line(signed: bytes, *, apart: bool = False) -> bytes:
    """Return the line of a signed head."""
    return f"{APART if apart else HEAD} {signed.hex()}\n".encode()


def entry_line(mesh: Mesh, entry: bytes) -> bytes:
    """Return the line of an encoded entry."""
    return f"{ENTRY} {leaf(mesh, entry).hex()} {entry.hex()}\n".encode()


def fits(tree: LogTree, head: Head) -> bool:
    """Tell whether a log's entries lead to a head of at most as many."""
    return tree.root(head.claims.size) == head.claims.root


def _lines(data: bytes) -> Iterator[tuple[bytes, bool]]:
    *lines, rest = data.split(b"\n")
    yield from ((line, True) for line in lines)
    if rest:
        yield rest, False


def _read_first(log: StoredLog, line: bytes, council: Council, mesh: Mesh) -> None:
    words = _words(line)
    if len(words) != 2 or words[0] != FORMAT or not _HEX.fullmatch(words[1]):
        log.findings.append(Finding("term", "the first line is not that of an audit log", 1))
        return
    try:
        proof = codec.decode(bytes.fromhex(words[1]), TermProof)
        order = open_term(council, mesh, proof)
    except PeerError as refusal:
        log.findings.append(Finding("term", f"the operators' order of the term: {refusal}", 1))
        return
    log.term, log.key, log.proof = order.term, proof.signing_key, proof


def _read_line(log: StoredLog, line: bytes, number: int, mesh: Mesh) -> None:
    words = _words(line)
    if not all(_HEX.fullmatch(word) for word in words[1:]):
        words = []
    match words:
        case [word, signed] if word in (HEAD, APART):
            _read_head(log, bytes.fromhex(signed), number, mesh, apart=word == APART)
        case [word, stored, data] if word == ENTRY and len(stored) == _LEAF_HEX:
            _read_entry(log, bytes.fromhex(stored), bytes.fromhex(data), number, mesh)
        case _:
            index = len(log.entries)
            log.findings.append(
                Finding("line", f"not a line of an audit log, at entry {index}", number, index)
            )
            if line.startswith(ENTRY.encode()):
                log.entries.append((b"", None))
                log.tree.append(bytes(32))


def _read_head(log: StoredLog, signed: bytes, number: int, mesh: Mesh, *, apart: bool) -> None:
    if log.proof is None:
        return  # said already: without the order nothing says whose signature it has to be
    index = len(log.entries)
    try:
        log.heads.append(Head(open_head(signed, log.key, mesh, log.term), signed, number, apart))
    except PeerError as refusal:
        log.findings.append(Finding("head", f"a head, stored at entry {index}: {refusal}", number, index))


def _read_entry(log: StoredLog, stored: bytes, data: bytes, number: int, mesh: Mesh) -> None:
    index, value = len(log.entries), leaf(mesh, data)
    entry, wrong = None, ""
    try:
        entry = open_entry(data)
    except PeerError as refusal:
        wrong = str(refusal)
    if value != stored:
        wrong = "it is not what its leaf hash is over"
    elif entry is not None and entry.index != index:
        wrong = f"it says of itself that it is entry {entry.index}"
    elif entry is not None and log.proof is not None and entry.term not in (0, log.term):
        wrong = "it is of another term"
    if wrong:
        log.findings.append(Finding("entry", f"entry {index}: {wrong}", number, index))
    log.entries.append((data, entry))
    log.tree.append(value)


def _judge_heads(log: StoredLog) -> None:
    size = log.tree.size
    broken = [
        each.entry for each in log.findings if each.code in ("entry", "line") and each.entry is not None
    ]
    sound = min(broken, default=size)
    log.findings += _forks(log.heads)
    forked = {id(head) for finding in log.findings for head in finding.heads}
    fitting: Head | None = None
    for head in sorted(log.heads, key=lambda each: (each.claims.size, each.line)):
        count = head.claims.size
        if head.apart:
            if id(head) not in forked:
                log.findings.append(_apart(head, fitting))
        elif count > size:
            text = f"{size} entries are stored of the {count} that the head covers"
            log.findings.append(Finding("truncated", text, log.lines, size, (head,)))
        elif count > sound or id(head) in forked:
            continue  # it covers what was found to be changed already
        elif fits(log.tree, head):
            fitting = head
        else:
            log.findings.append(_unfit(log, head, fitting))
    covered = max((head.claims.size for head in log.heads if not head.apart), default=0)
    if size > covered and log.proof is not None:
        text = f"entries from {covered} on are in no signed head: nobody vouches for them"
        log.findings.append(Finding("extended", text, log.lines, covered))


def _forks(heads: Sequence[Head]) -> Iterator[Finding]:
    first: dict[int, Head] = {}
    for head in heads:
        held = first.setdefault(head.claims.size, head)
        if held.claims.root != head.claims.root:
            text = f"two signed heads of {head.claims.size} entries: the coordinator keeps two logs"
            yield Finding("fork", text, head.line, None, (held, head))


def _apart(head: Head, fitting: Head | None) -> Finding:
    text = f"the coordinator signed a head of {head.claims.size} entries that it could not show to follow"
    return Finding("fork", text, head.line, None, (fitting, head) if fitting else (head,))


def _unfit(log: StoredLog, head: Head, fitting: Head | None) -> Finding:
    later = [
        each
        for each in log.heads
        if not each.apart and head.claims.size < each.claims.size <= log.tree.size and fits(log.tree, each)
    ]
    if later:
        # A later head vouches for all the entries, so it is this one that tells another story.
        sizes = f"{head.claims.size} entries is of another log than that of {later[0].claims.size}"
        text = f"a signed head of {sizes}"
        return Finding("fork", text, head.line, None, (head, later[0]))
    begin = fitting.claims.size if fitting else 0
    text = (
        f"entries {begin} to {head.claims.size - 1} do not lead to the head that was signed: they were "
        "changed with their leaf hashes, or the coordinator keeps two logs"
    )
    return Finding("head", text, head.line, begin, (fitting, head) if fitting else (head,))


def _words(line: bytes) -> list[str]:
    try:
        return line.decode("ascii").split(" ")
    except UnicodeDecodeError:
        return []
