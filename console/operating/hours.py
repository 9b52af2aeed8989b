"""For how long glass is broken, as operators say it: what no coordinator takes is refused already here."""

import click

from schemas.limits import DAY, HOUR, MINUTE

LEAST, MOST = (
    MINUTE,
    DAY,
)  # what has ended before it was signed and sent gives nothing; what is longer is a policy


class Hours(click.ParamType[float]):
    """Hours, or a part of one."""

    name = "hours"

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return them, or fail and say how few and how many may be given."""
        try:
            hours = float(value)
        except ValueError:
            self.fail(f"{value!r} is no number of hours", param, ctx)
        if not LEAST <= hours * HOUR <= MOST:  # nor is what is no number within them
            self.fail(
                f"{value} is not from {LEAST / HOUR:.4f} (a minute: it has to be sent before it ends) to "
                f"{MOST // HOUR} (what is longer is a policy)",
                param,
                ctx,
            )
        return hours
