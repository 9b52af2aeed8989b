"""Bounds that both ends of the protocol share, each with its reason. Times are in milliseconds."""

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

MAX_MESSAGE = 1024 * 1024  # the default max_payload of a NATS server that somebody else configured
MAX_BODY = MAX_MESSAGE - 16 * 1024 - 4  # the last Padmé size that leaves room for headers, less its length
MAX_VALUE = MAX_BODY - 4096  # encoded arguments, message or result, with room for what stands beside it
MAX_OFFER = 256 * 1024  # evidence with TDX collateral is about 45 KiB; a bootstrapping agent parses no more
MAX_HANDSHAKE = 64 * 1024  # an admission is about 2 KiB, an X-Wing encapsulation 1.1 KiB
REVOKED_PAGE = 64 * 1024  # of instances and entries, beside views and keys that may take ten times as much
MAX_REVOKED_PAGES = 1_024  # twenty times what all the parties that a coordinator remembers would fill
MAX_ENTRY = 8 * 1024  # of the audit log; the longest, with sixteen roles, is a quarter of it
MAX_DOCUMENT = 512 * 1024  # a signed policy with a thousand rules is about 120 KiB
ROLL_MOST = 15_000  # revocations that an order asks for: 34 bytes each, as a document may have

CHALLENGE_LIFETIME = 30 * SECOND  # a quote takes 40 ms; a throttled chip some seconds
HANDSHAKE_LIFETIME = 5 * SECOND  # a half-open session holds a secret: it must not linger
HALF_OPEN_PER_INSTANCE = 4
HALF_OPEN_TOTAL = 1_024
HALF_OPEN_TOTAL_COORDINATOR = 16_384  # ten thousand agents may start at once
BOOTSTRAP_MEMORY = 60 * SECOND  # how long the hash of a bootstrap init is remembered against replay

SESSION_WINDOW = 1_024  # reordering that a broker cluster can cause by itself is far below this
SESSION_MAX_FRAMES = 2**32
SESSION_MAX_BYTES = 64 * 1024**3  # both far below the limits of AES-GCM with counter nonces
SESSION_IDLE_SEND = 4 * MINUTE  # senders stop before receivers forget, so no frame falls between
SESSION_IDLE_RECEIVE = 5 * MINUTE
REPLY_BYTES_KEPT = 32 * 1024 * 1024  # over all peers, against repeats of a request on another session
# The last ones of calls whose deadlines have not passed: 18 MiB, as much again where each has a small reply.
REQUESTS_PER_PEER = 100_000
PROCESSES_PER_PEER = 1_024  # that such ids are of: a client's key may serve many processes, one after another
CALL_LONGEST = HOUR  # ids are kept until deadlines: what takes longer than a call is a task
CALL_DEADLINE_MOST = (
    CALL_LONGEST + 5 * MINUTE
)  # clocks differ by less than a grace period, which is 300 s at most
KEPT_PER_TURN = (
    4 * MAX_MESSAGE
)  # bytes of kept replies said again in one turn: a repeat is small, its reply is not
SESSIONS_PER_PEER = 16  # a renewal needs two, a lost answer one more; old ones carry only replies

CHANGES_MOST = 64  # views that a beacon lists as changed: whoever it does not suffice for asks
RECENTLY_REVOKED_MOST = 32  # instances that a beacon names, of the set that it has the hash of


CLOCK_AHEAD = 2 * SECOND  # a beacon may be this far ahead of an agent's own clock
GRACE = 10 * SECOND
BEACON_INTERVAL = 1 * SECOND
TIME_INTERVAL = 5 * MINUTE

SEEN_TASKS = 200_000  # about 40 MiB; full means handing tasks back, never forgetting early
GROUP_SENDERS = 4_096  # handles with a replay window each; the longest silent one goes

NUMBERS_END = 2**31  # of terms and policies' versions
VERSIONS_LEFT = 2**20  # after a mesh's first policy: one signed by mistake must not be the last
FIRST_VERSION_MOST = NUMBERS_END - VERSIONS_LEFT - 1
