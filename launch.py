"""fpclass from a checkout: `python launch.py COMMAND …`; without arguments, the demo. `--help` says the rest."""

from fpclass.cli import start

if __name__ == "__main__":
    start()
