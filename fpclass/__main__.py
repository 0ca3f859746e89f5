"""`python -m fpclass COMMAND …`: the command line of fpclass."""

import sys

from fpclass.cli import main

if __name__ == "__main__":
    sys.exit(main())
