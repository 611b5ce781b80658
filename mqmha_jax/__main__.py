"""``python -m mqmha_jax``: the same as ``mqmha``."""

from mqmha_jax.cli import main

if __name__ == "__main__":
    main()
