"""``python -m data_prep``, the same as ``mqmha prep``."""

from data_prep.cli import main

if __name__ == "__main__":  # worker processes import this file, too
    main()
