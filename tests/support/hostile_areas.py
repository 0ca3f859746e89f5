"""The areas of the campaign of hostile inputs: what is broken, and how one can tell that an answer is wrong.

A world is a folder with `data` (drawn prints), `run` (trained on them) and `run/…` as a training leaves it.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import random
import shutil
import socket
import stat
from collections.abc import Callable, Iterator

from hostile import Case, damaged, put_in_place

SMALL = [
    "--config.data.image_size=(24,20)", "--config.model.conv_features=(4,)", "--config.model.dense_features=(6,)",
    "--config.train.batch_size=8", "--config.train.num_epochs=2", "--config.evaluate.num_resamples=20",
    "--config.explain.num_images=2",
]  # fmt: skip
BASELINE = "--config=configs/footprints/baseline.py"
VALUES = (
    "", "nan", "inf", "-inf", "-1", "0", "-0.0", "1e308", "1e-308", "1000000000", "2**64", "abc", "None", "True", "()",
    "(1,2,3)", "((1,2),(3,4))", "(None,)", "[", "{}", "{'a':1}", "'", "\x1b[31m", "\udcff", "🦶", "~nosuchuser/x", "%s",
    "9" * 5000, "0x10", "1_000", " 1", "None,None", "lambda: 0", "__import__('os')", "a\nb", "\u202e",
)  # fmt: skip
SHAPES = (
    b"null", b"3", b'"x"', b"[]", b"{}", b"[1, 2]", b'{"a": 1}', b'{"config": 3}', b'{"config": {}}', b"[" * 3000,
    b'{"format": "x"}', b'{"format": 99}', b"NaN", b"\xff\xfe{\x00}\x00", b"a,b,c\n1,2,3\n", b"\n" * 50, b"{" * 40,
)  # fmt: skip


def train_args(world: pathlib.Path, workdir: pathlib.Path, *more: str) -> list[str]:
    return ["train", BASELINE, f"--config.data.root={world / 'data'}", f"--workdir={workdir}", *SMALL, *more]


def images(world: pathlib.Path) -> pathlib.Path:
    return world / "data" / "processed" / "processed"


def fresh(world: pathlib.Path) -> pathlib.Path:
    """A name that nothing has, for what a case writes; what the one before has written goes."""
    shutil.rmtree(world / "fresh", ignore_errors=True)
    (world / "fresh").mkdir()
    return world / "fresh" / "x"


def config_values(rng: random.Random, world: pathlib.Path, count: int) -> Iterator[Case]:
    """Every key of a config, set to what makes no sense; what is accepted goes as far as the built network."""
    from fpclass.config import base_config, flatten

    keys = sorted(flatten(base_config()))
    for i in range(count):
        key, value = keys[i % len(keys)], rng.choice(VALUES)
        yield Case(
            train_args(world, fresh(world), f"--config.{key}={value}", "--until=prepare"), f"{key}={value[:40]!r}"
        )


def flag_values(rng: random.Random, world: pathlib.Path, count: int) -> Iterator[Case]:
    """Every flag of every command that takes a value."""
    from fpclass import cli

    image, run = str(images(world) / "img_0000.png"), f"--workdir={world / 'run'}"
    (world / "list.txt").write_text("http://127.0.0.1:9/a.png\n")

    def before(name: str) -> list[str]:
        new = fresh(world)
        some = {
            "predict": [image, run], "evaluate": [run], "explain": [run], "submit": [run],
            "convert": [str(images(world)), str(new)], "dedupe": [str(images(world)), f"--output={new}"],
            "synthesize": [str(new), "--num-images=8", "--height=60", "--width=40"],
            "collect": [str(new), "--urls", f"a={world / 'list.txt'}"],
        }  # fmt: skip
        return some[name] if name in some else train_args(world, new)[1:]

    flags = []
    for name in ("train", "audit", "predict", "evaluate", "explain", "submit", "convert", "dedupe", "synthesize",
                 "collect", "augment-preview", "study", "freeze-sweep"):  # fmt: skip
        parser = argparse.ArgumentParser()
        cli.COMMANDS[name].add_arguments(parser)
        flags += [(name, a.option_strings[0]) for a in parser._actions if a.option_strings and a.nargs != 0]
    for i in range(count):
        (name, flag), value = flags[i % len(flags)], rng.choice(VALUES)
        end = ["--until=ingest"] if name == "train" and flag != "--until" else []
        yield Case([name, *before(name), *end, f"{flag}={value}"], f"{name} {flag}={value[:40]!r}")


def tables(rng: random.Random, world: pathlib.Path, count: int) -> Iterator[Case]:
    """The CSV that names the images and their classes."""
    path = world / "data" / "all_labels.csv"
    shapes = (*SHAPES, b"filename,ID,SEX\n", b"filename,ID\na,1\n", b"filename,filename,SEX\na,b,0\n")
    for _ in range(count):
        data, what = damaged(rng, path.read_bytes(), shapes=shapes)
        with put_in_place(path, data):
            yield Case(train_args(world, fresh(world), "--until=ingest"), f"CSV, {what}")


def picture_files(rng: random.Random, world: pathlib.Path, count: int) -> Iterator[Case]:
    """Files of images, forty at a time beside a whole one, whose prediction must stay."""
    whole = (images(world) / "img_0000.png").read_bytes()
    expected = predicted(world, images(world) / "img_0000.png")[0].split(",")[1:]
    suffixes = (".png", ".jpg", ".tif", ".gif", ".webp", ".bmp")
    for _ in range(0, count, 40):
        folder = fresh(world)
        folder.mkdir()
        (folder / "whole.png").write_bytes(whole)
        for i in range(39):
            (folder / f"{i}{rng.choice(suffixes)}").write_bytes(damaged(rng, whole, shapes=SHAPES)[0])

        def is_wrong(text: str, name: str = str(folder / "whole.png")) -> bool:
            return [line.split(",")[1:] for line in text.splitlines() if line.startswith(name)] != [expected]

        yield Case(["predict", str(folder), f"--workdir={world / 'run'}"], "40 images", 40, is_wrong)


def predicted(world: pathlib.Path, image: pathlib.Path) -> list[str]:
    """The lines that `predict` prints of an image."""
    import contextlib
    import io

    from fpclass import cli

    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert cli.main(["predict", str(image), f"--workdir={world / 'run'}"]) == 0
    return out.getvalue().splitlines()[1:]


def checkpoint_files(rng: random.Random, world: pathlib.Path, count: int) -> Iterator[Case]:
    """The files of a checkpoint: an answer is the whole one's or none."""
    image = images(world) / "img_0000.png"
    expected = predicted(world, image)
    files = sorted(path for path in (world / "run/checkpoints/best").rglob("*") if path.is_file())
    sizes = [path.stat().st_size + 1 for path in files]
    for i in range(count):
        (path,) = rng.choices(files, sizes if i % 3 else None)
        data, what = damaged(rng, path.read_bytes())
        with put_in_place(path, data):
            yield Case(
                ["predict", str(image), f"--workdir={world / 'run'}"], f"{path.name}, {what}",
                is_wrong=lambda text: text.splitlines()[1:] != expected,
            )  # fmt: skip


def run_files(rng: random.Random, world: pathlib.Path, count: int) -> Iterator[Case]:
    """Tables and JSON that a training leaves. They have no digest: whether an answer is wrong cannot be told here."""
    names = ("config.json", "model.json", "environment.json", "splits.csv", "table.csv", "log.jsonl", "metrics.json",
             "predictions.csv", "scores.json")  # fmt: skip
    there = [name for name in names if (world / "run" / name).is_file()]
    image, run = str(images(world) / "img_0000.png"), f"--workdir={world / 'run'}"
    for i in range(count):
        path = world / "run" / there[i % len(there)]
        data, what = damaged(rng, path.read_bytes(), shapes=SHAPES)
        command = rng.choice([["predict", image, run], ["predict", image, run], ["evaluate", run], ["submit", run]])
        with put_in_place(path, data):
            yield Case(command, f"{path.name}, {what}")


def weight_files(rng: random.Random, world: pathlib.Path, count: int) -> Iterator[Case]:
    """Files of weights of every format."""
    import weight_files as small

    wholes = sorted(small.every_format(world).items())
    for i in range(count):
        suffix, whole = wholes[i % len(wholes)]
        path = world / f"weights.{suffix}"
        data, what = damaged(rng, whole)
        path.write_bytes(data)
        convert = ["weights", "convert", str(path), "--as", "resnet18", f"--output={fresh(world)}"]
        yield Case(rng.choice([convert, ["weights", "verify", str(path)]]), f"{suffix}, {what}")


def queries(rng: random.Random, world: pathlib.Path, count: int) -> Iterator[Case]:
    """YAML for collect, which goes nowhere: the flag for the network's absence is only looked at behind it."""
    whole = b"heel_hook:\n  en: [climbing heel hook, 'a b']\n  ja: \xe3\x83\x92\n  urls: [http://a.example/b.png]\n"
    shapes = (b"[" * 3000, b"a: &a [*a]", b"? {a: b}\n: c", b"a: !!binary x", b"<<: 3", b"a:\n\tb: c", *SHAPES)
    os.environ.pop("FPCLASS_OFFLINE", None)
    os.environ["http_proxy"] = os.environ["https_proxy"] = "http://127.0.0.1:9"
    for _ in range(count):
        (world / "queries.yaml").write_bytes(damaged(rng, whole, shapes=shapes)[0])
        # A folder that holds something else is refused once the queries have been understood.
        yield Case(["collect", str(world / "data"), "--queries", str(world / "queries.yaml")], "YAML")


KINDS = ("pipe", "folder", "device", "disk", "socket", "nowhere", "circle", "below a file", "long", "link", "file")


def make_odd(kind: str, path: pathlib.Path) -> pathlib.Path:
    """Something at a path that a user may name; the path to give, which may be another one."""
    below = path.parent
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
        (path / "holiday.txt").write_text("mine")
    elif kind in ("device", "disk"):
        node = stat.S_IFCHR if kind == "device" else stat.S_IFBLK
        os.mknod(path, node | 0o600, os.makedev(1, 3) if kind == "device" else os.makedev(259, 4000))
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as sock:
            before = os.getcwd()
            os.chdir(below)  # its name must be short
            sock.bind(path.name)
            os.chdir(before)
    elif kind in ("nowhere", "circle"):
        path.symlink_to(below / "no" / "where" if kind == "nowhere" else path)
    elif kind == "link":
        (below / "target").write_text("mine")
        path.symlink_to(below / "target")
    elif kind in ("file", "below a file"):
        path.write_bytes(b"\x00mine")
    return {"below a file": path / "below", "long": path.with_name("l" * 300)}.get(kind, path)


def paths(rng: random.Random, world: pathlib.Path, count: int) -> Iterator[Case]:
    """Everything that takes a path, given what is no ordinary file or folder; nothing that was there may go."""
    image, run = str(images(world) / "img_0000.png"), f"--workdir={world / 'run'}"
    data, small = f"--config.data.root={world / 'data'}", [BASELINE, *SMALL]
    preview = ["augment-preview", *small, data, "--images=2", "--copies=1"]
    takers: list[Callable[[str], list[str]]] = [
        lambda p: ["predict", image, run, f"--output={p}"],
        lambda p: ["predict", p, run],
        lambda p: ["predict", image, f"--workdir={p}"],
        lambda p: ["evaluate", f"--workdir={p}"],
        lambda p: ["submit", f"--workdir={p}"],
        lambda p: ["submit", "--ensemble", f"--workdir={p}"],
        lambda p: [*train_args(world, pathlib.Path(p)), "--until=ingest"],
        lambda p: ["train", *small, f"--config.data.root={p}", f"--workdir={world / 'fresh' / 'run'}"],
        lambda p: ["train", *small, data, f"--config.data.csv={p}", f"--workdir={world / 'fresh' / 'run'}"],
        lambda p: ["train", *small, data, f"--config.model.weights={p}", f"--workdir={world / 'fresh' / 'run'}"],
        lambda p: ["train", f"--config={p}"],
        lambda p: ["study", "--configs", p, f"--workdir={world / 'fresh' / 'run'}"],
        lambda p: ["study", "--resume", f"--workdir={p}"],
        lambda p: [*preview, f"--output={p}"],
        lambda p: [*preview, f"--output={world / 'fresh' / 'a.png'}", f"--save={p}"],
        lambda p: ["convert", p, str(world / "fresh" / "out")],
        lambda p: ["convert", str(images(world)), p],
        lambda p: ["dedupe", p, f"--output={world / 'fresh' / 'out'}"],
        lambda p: ["dedupe", str(images(world)), f"--output={p}", "--list"],
        lambda p: ["synthesize", p, "--num-images=8", "--height=60", "--width=40"],
        lambda p: ["weights", "verify", p],
        lambda p: ["weights", "convert", p, "--as", "resnet18", f"--output={world / 'fresh' / 'w'}"],
    ]
    for i in range(count):
        kind, taker = KINDS[i // len(takers) % len(KINDS)], takers[i % len(takers)]
        path = fresh(world)
        given = make_odd(kind, path)
        before = path.lstat() if path.is_symlink() or path.exists() else None

        def is_spoilt(path: pathlib.Path = path, before: os.stat_result | None = before, kind: str = kind) -> bool:
            if before is None or kind in ("link", "file"):
                return False
            is_same = os.path.lexists(path) and stat.S_IFMT(path.lstat().st_mode) == stat.S_IFMT(before.st_mode)
            return not is_same or (kind == "folder" and not (path / "holiday.txt").is_file())

        yield Case(taker(str(given)), kind, is_spoilt=is_spoilt, pipe=path)


AREAS: dict[str, Callable[[random.Random, pathlib.Path, int], Iterator[Case]]] = {
    "values of config keys": config_values,
    "values of flags": flag_values,
    "tables of labels": tables,
    "image files": picture_files,
    "checkpoint files": checkpoint_files,
    "JSON and CSV of a run": run_files,
    "weights files": weight_files,
    "YAML of collect": queries,
    "odd paths": paths,
}
