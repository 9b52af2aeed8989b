"""Reasons that operators give on the command line: held against what a document takes before it is made."""

import click

from schemas.documents import LOUD_REASON_MOST, REASON_MOST


class ReasonText(click.ParamType[str]):
    """A reason of at most so many characters, of which a reader sees some."""

    name = "text"

    def __init__(self, most: int) -> None:
        self._most = most

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return it without blanks around it, or fail and say how long it may be."""
        text = value.strip()
        # Characters without width are no blanks to `strip`, and are as little of a reason.
        if not any(each.isprintable() and not each.isspace() for each in text):
            self.fail("say why: it stands in every log", param, ctx)
        if len(text) > self._most:
            self.fail(f"it has {len(text)} characters, and {self._most} at most are taken", param, ctx)
        return text


REASON = ReasonText(REASON_MOST)
LOUD_REASON = ReasonText(LOUD_REASON_MOST)  # of what stands as a warning in every agent's log
