"""The program ``mqmha``, also as ``python -m mqmha_jax``."""

from mqmha_jax.interrupts import end_on_interrupt


def main() -> None:
    """Runs the command line."""
    end_on_interrupt()
    from mqmha_jax.cli import main as command  # here: its imports can be interrupted, too

    command()


if __name__ == "__main__":  # worker processes import this file, too
    main()
