"""Looking for many words at once in bytes (Aho-Corasick)."""

from collections.abc import Callable, Iterable, Iterator

from schemas.errors import UsageError

Search = Callable[[bytes], Iterator[tuple[int, bytes]]]


def automaton(needles: Iterable[bytes]) -> Search:
    """Return a function that yields (index of the last byte, needle) for each occurrence."""
    try:
        import ahocorasick
    except ImportError as error:
        raise UsageError("pyahocorasick is not installed: pip install 'sealbus[lab]'") from error
    found = ahocorasick.Automaton()
    for needle in needles:
        # One character a byte, so that any bytes can be searched for in any others.
        found.add_word(needle.decode("latin-1"), needle)
    if len(found) == 0:
        return lambda _: iter(())
    found.make_automaton()
    return lambda haystack: found.iter(haystack.decode("latin-1"))
