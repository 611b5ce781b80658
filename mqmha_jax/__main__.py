"""The program ``mqmha``, also as ``python -m mqmha_jax``."""

import sys

from mqmha_jax.huge_pages import restart_with_huge_pages
from mqmha_jax.interrupts import end_on_interrupt

_TRAINING = ("demo", "study", "train")


def main() -> None:
    """Runs the command line."""
    if sys.argv[1:] and sys.argv[1] in _TRAINING:
        restart_with_huge_pages()
    end_on_interrupt()
    from mqmha_jax.cli import main as command  # here: its imports can be interrupted, too

    command()


if __name__ == "__main__":  # worker processes import this file, too
    main()
