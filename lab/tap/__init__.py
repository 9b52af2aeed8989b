"""The tap: the one hostile broker of the project.

A proxy between every party and the real broker. It records all that passes, says of each byte what it is
to somebody without keys, and does to frames whatever a script says. It holds no key of the mesh.
"""

from lab.tap.asides import Unclassified
from lab.tap.classify import CONNECTION, JETSTREAM, Sight, classify
from lab.tap.proxy import Tap, open_tap
from lab.tap.recording import Record, measured, payloads, records
from lab.tap.script import (
    Alter,
    Decision,
    Delay,
    Drop,
    Duplicate,
    Flip,
    Match,
    Redirect,
    Reorder,
    Replay,
    Rule,
    Script,
    Splice,
    Truncate,
)
from lab.tap.stream import Frame, FrameError, Splitter, Towards

__all__ = [
    "CONNECTION",
    "JETSTREAM",
    "Alter",
    "Decision",
    "Delay",
    "Drop",
    "Duplicate",
    "Flip",
    "Frame",
    "FrameError",
    "Match",
    "Record",
    "Redirect",
    "Reorder",
    "Replay",
    "Rule",
    "Script",
    "Sight",
    "Splice",
    "Splitter",
    "Tap",
    "Towards",
    "Truncate",
    "Unclassified",
    "classify",
    "measured",
    "open_tap",
    "payloads",
    "records",
]
