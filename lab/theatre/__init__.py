"""The attack theatre: attacks played on a mesh that works, through hosts, files and the wire alone.

No act calls what it attacks: each does what the owner of a machine, of a broker, of a scheduler or of one
stolen key could do, and then reads what the processes of the mesh say of it.
"""

from lab.theatre.act import Act, Outcome, Played, Verdict
from lab.theatre.play import ACTS, chosen, play
from lab.theatre.stage import Stage

__all__ = ["ACTS", "Act", "Outcome", "Played", "Stage", "Verdict", "chosen", "play"]
