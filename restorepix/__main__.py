"""``python -m restorepix`` is the ``restorepix`` command."""

from restorepix.cli import main

if __name__ == "__main__":
    main()
