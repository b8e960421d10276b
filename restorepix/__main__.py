"""The ``restorepix`` command, also as ``python -m restorepix``."""

import signal
import sys


def main() -> None:
    """Run the command line; an interrupt while it is being loaded ends it like any other."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill is like Ctrl-C
    try:
        from restorepix.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
