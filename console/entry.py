"""Where `sealbus` begins: so little that an interrupt finds nothing but the import of the command line.

That import takes a moment, in which `console.cli` cannot yet say what it says of an interrupt.
"""

import sys


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        from console.output import guard_streams

        guard_streams()
        from console.cli import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        sys.stderr.write("sealbus: stopped\n")
        code = 1
    sys.exit(code)
