"""`fpclass synthesize`."""

from __future__ import annotations

import argparse
import pathlib

from fpclass.common.console import progress, say
from fpclass.common.flags import Command, at_least, path, refuse


def synthesize(args: argparse.Namespace, overrides: list[str]) -> int:
    """Draws the embedded SYNTHETIC footprints into a folder, in the format of the competition."""
    from fpclass.data.synthetic.dataset import draw_dataset

    refuse(overrides, "synthesize")
    size = (args.height, args.width)
    folder = pathlib.Path(args.folder)
    draw_dataset(folder, num_images=args.num_images, image_size=size, seed=args.seed, progress=progress)
    say(f"written: {args.folder}/all_labels.csv and {args.num_images} SYNTHETIC prints of {size[0]} x {size[1]} pixels")
    return 0


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=path, metavar="DIR", help="a new folder")
    parser.add_argument("--num-images", type=at_least(1), default=2628, metavar="N", help="prints; default %(default)s")
    size = "default %(default)s; the competition has "
    parser.add_argument("--height", type=at_least(1), default=619, metavar="PX", help=f"{size}1238")
    parser.add_argument("--width", type=at_least(1), default=403, metavar="PX", help=f"{size}806")
    parser.add_argument("--seed", type=int, default=0, help="default %(default)s")


COMMANDS = (Command("synthesize", synthesize, _add_arguments),)
