"""`python -m fpclass COMMAND …`: the command line of fpclass."""

from fpclass.cli import start

if __name__ == "__main__":
    start()
