"""``python -m data_prep``."""

import signal

from data_prep.cli import main

if __name__ == "__main__":  # worker processes import this file, too
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended by a scheduler: workers are sent home, too
    main()
