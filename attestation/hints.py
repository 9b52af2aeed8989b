"""What tells more of a refusal than its reason code, for whoever says what to do about it."""

from enum import Enum, auto


class Hint(Enum):
    """Said by whoever refuses, because from words, which may be a stranger's, nothing is concluded."""

    VLEK_OF_THE_CLOUD = auto()  # what is absent or damaged is a VLEK, which no service gives to us
    ROOT_NOT_GIVEN = auto()  # the root is nobody's, and no policy was named that could name it
    VENDORS_ROOT = auto()  # it is a manufacturer's, and the policy does not name it
    VENDORS_ROOT_NOT_GIVEN = auto()  # it is a manufacturer's, and another was given in its place
    CLOUDS_KEY = auto()  # a list of chips, and a key that proves none
    NONE_PINNED = auto()  # no workload is named on this platform
    OTHER_SIZE = auto()  # the value is longer or shorter than the policy's
    EVALUATION = auto()  # what is below the floor is the collateral, and not the platform
    LEAKED_KEYS = auto()  # the weakness is that keys of the processor line are in the world
    NOT_IN_WHAT_WAS_GIVEN = auto()  # it is absent, and from what was given to complete the evidence too
