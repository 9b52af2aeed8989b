"""An operator's key file on disk, opened with a passphrase that is asked for or read from a file."""

from pathlib import Path

import click

from console.evidence_files import read_bounded
from schemas.errors import UsageError
from sealing import keyfile
from sealing.council import Council
from sealing.keys import SigningKey

MAX_KEY_FILE = 64 * 1024
MAX_PASSPHRASE = 64 * 1024

passphrase_option = click.option(
    "--passphrase-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Read the passphrase from the first line of a file; else it is asked.",
)


def unlock(path: Path, data: bytes, council: Council, passphrase_file: Path | None) -> SigningKey:
    """Return the key of what `policy keygen` wrote, or raise `UsageError`.

    Whose it is comes first: nobody is asked for the passphrase of a key that the mesh does not know.
    """
    try:
        name, public = keyfile.owner(data)
    except keyfile.KeyFileError as error:
        raise UsageError(f"{path}: {error}") from error
    if (name, public) not in [(each.name, each.key) for each in council.operators]:
        if council.is_former(public):
            raise UsageError(
                f"{path} is of {name}, whose key is no operator's any more: others have followed"
            )
        raise UsageError(
            f"{path} is of {name}, with a key that is none of this mesh's operators'; if operators changed, "
            "their changes belong beside the anchor as operators.signed"
        )
    return keyfile.unlock(data, passphrase(f"the passphrase of {path}", passphrase_file))


def unlock_any(
    path: Path, data: bytes, councils: tuple[Council, ...], passphrase_file: Path | None
) -> SigningKey:
    """Return the key of an operator of one of these councils, or raise what the first has against it."""
    mine = next((each for each in councils if _is_of(data, each)), councils[0])
    return unlock(path, data, mine, passphrase_file)


def _is_of(data: bytes, council: Council) -> bool:
    try:
        name, public = keyfile.owner(data)
    except keyfile.KeyFileError:
        return False
    return (name, public) in [(each.name, each.key) for each in council.operators]


def passphrase(what: str, file: Path | None, *, confirm: bool = False) -> str:
    """Return a passphrase, from the first line of a file or as it is typed; raise `UsageError`."""
    if file is None:
        try:
            answer: str = click.prompt(what, hide_input=True, confirmation_prompt=confirm, err=True)
        except click.Abort as error:
            # Click makes one thing of an interrupt and of an input that has ended.
            if isinstance(error.__context__, EOFError):
                raise UsageError("nobody is there to type a passphrase: use --passphrase-file") from error
            raise
        return answer
    try:
        # A secret may come through a pipe, so that it lies on no disk.
        text = read_bounded(file, MAX_PASSPHRASE, pipe=True).decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not UTF-8 text: save it as that") from error
    # Some editors put a mark before the text, which nobody typed.
    return text.removeprefix("\ufeff").partition("\n")[0].rstrip("\r")
