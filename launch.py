"""fpclass from a checkout: `python launch.py COMMAND …`; without arguments, the demo. `--help` says the rest."""

import sys

from fpclass.cli import main

if __name__ == "__main__":
    sys.exit(main())
