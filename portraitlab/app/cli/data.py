"""Check a folder of photos, and prepare it for training at scale."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portraitlab.support.checks import check_whole
from portraitlab.support.printing import setting, shell_word

if TYPE_CHECKING:  # heavy imports that only `prepare` needs
    from omegaconf import DictConfig

    from portraitlab.data.prepare.bar import Bar
    from portraitlab.data.prepare.part import StorePart


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands validate and prepare."""
    commands = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
    # validate
    check = commands.add_parser(
        "validate",
        help="read every photo and list what is wrong with it",
        description="Reads every photo of ROOT/<identity>/ to the last byte, without any model. "
        "Ends with exit code 1 where there are problems.",
    )
    check.add_argument("root", type=Path, metavar="ROOT", help="folder of identity folders")
    check.add_argument(
        "--format", choices=("text", "json"), default="text", help="output format (default: text)"
    )
    _workers(check)
    # prepare
    make = commands.add_parser(
        "prepare",
        usage="portraitlab data prepare [options] ROOT OUT [OVERRIDE ...]",
        help="run all frozen models on the photos and store the results",
        description="Reads the photos of ROOT/<identity>/ as data=folder does, runs all frozen "
        "models on them once and stores the results in OUT, for training with data=prepared "
        "data.root=OUT. The same command resumes after a stop or kill, and adds photos that are "
        "new in ROOT.",
    )
    make.add_argument("root", type=Path, metavar="ROOT", help="folder of identity folders")
    make.add_argument("out", type=Path, metavar="OUT", help="folder of the results")
    make.add_argument(
        "overrides",
        nargs="*",
        metavar="OVERRIDE",
        help="the overrides of the training: encoder=…, scale=…, face3d=…; also data.caption=…, "
        "data.minimum_side=…, matting=…, trainer=…; trainer.devices=8 uses eight GPUs",
    )
    make.add_argument(
        "--precision",
        choices=("float16", "float32"),
        default="float16",
        help="precision of latents and text features (default: float16)",
    )
    make.add_argument(
        "--shard", type=int, default=256, help="maximum number of photos in a file (default: 256)"
    )
    make.add_argument(
        "--batch", type=int, default=16, help="batch size of the models (default: 16)"
    )
    make.add_argument(
        "--part",
        default="1/1",
        metavar="K/N",
        help="prepare only the K-th of N parts of the shards; other processes, also on other "
        "machines, can prepare the others in the same OUT (default: 1/1, all)",
    )
    _workers(make)


def run(given: argparse.Namespace) -> int:
    """Run the subcommand and return its exit code. Raises ValueError for errors of the user."""
    check_whole("--workers", given.workers, 0)
    return _validate(given) if given.what == "validate" else _prepare(given)


def _workers(parser: argparse.ArgumentParser) -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser.add_argument(
        "--workers",
        type=int,
        default=cores,
        help="processes that read photos (default: one a core)",
    )


def _validate(given: argparse.Namespace) -> int:
    from portraitlab.data.prepare.validate import validate

    report = validate(given.root, given.workers)
    if given.format == "json":
        print(json.dumps(report.content(), indent=1))
    else:
        for line in report.lines():
            print(line)
    return 1 if report.problems else 0


def _prepare(given: argparse.Namespace) -> int:
    from hydra.errors import HydraException
    from omegaconf import OmegaConf

    from portraitlab.data.prepare.bar import progress_bar
    from portraitlab.data.prepare.devices import device_shares, on_each
    from portraitlab.data.prepare.layout import training_overrides
    from portraitlab.data.prepare.part import StorePart
    from portraitlab.data.prepare.planning import check_folders
    from portraitlab.support.devices import device_count
    from portraitlab.support.errors import message
    from portraitlab.tables.composing import composed
    from portraitlab.training.build import check_taken

    try:
        # Check the arguments before models are loaded.
        part = StorePart.parse(given.part)
        check_folders(given.root, given.out)
        # The placeholder root avoids quoting the folder's name for Hydra.
        config = OmegaConf.create(composed(["data=folder", "++data.root=.", *given.overrides]))
        if config.choices.data != "folder":
            raise ValueError(
                f"data={config.choices.data} is not for preparing: ROOT is read as data=folder "
                "reads it. Leave data out."
            )
        check_taken(config)

        # Prepare, in this process or in one for each device.
        devices = device_count(config.trainer)
        if devices == 1:
            finished = _take(given, config, given.workers, part, progress_bar)
        else:
            workers = min(given.workers, max(1, given.workers // devices))
            work = partial(_take, given, config, workers)
            results = on_each(work, part.split(devices), device_shares(config.trainer))
            finished = next((each for each in results if each is not None), None)
    except KeyboardInterrupt:
        print("stopped by Ctrl-C; the same command resumes", file=sys.stderr)
        return 128 + signal.SIGINT
    except (HydraException, OSError) as error:
        raise ValueError(message(error) or str(error)) from error

    # Print the outcome, and the command that trains with it.
    if finished is None:
        print(
            f"{given.out}: part {part} is done. Shards of other parts are not: the process that "
            "makes the last one finishes the store, and the same command without --part makes all "
            "missing ones."
        )
        return 0
    print(
        f"{given.out}: {finished['photos']} photos of {finished['identities']} identities, "
        f"{finished['captions']} captions; problems: {finished['problems']}, in "
        f"{given.out / 'problems.txt'}"
    )
    if finished["identities"] < 2:
        print(
            "too few to train: two identities with two usable photos each are needed. Add photos "
            "and repeat the command."
        )
        return 0
    same = map(shell_word, training_overrides(given.overrides))
    root = setting("data.root", given.out)
    print(" ".join(["train with: python run.py data=prepared", root, *same]))
    return 0


def _take(
    given: argparse.Namespace, config: DictConfig, workers: int, part: StorePart, bar: Bar
) -> dict[str, Any] | None:
    """Prepare one part, in this process or one of a device, and return the result of `prepare`."""
    from hydra.utils import instantiate

    from portraitlab.app.experiment import device_of
    from portraitlab.data.prepare.prepare import PrepareOptions, prepare
    from portraitlab.training.build import build_frozen

    data = config.data
    options = PrepareOptions(
        data.caption, data.minimum_side, given.precision, given.shard, given.batch
    )
    frozen = build_frozen(config, device_of(config.trainer))
    # The devices do not change the stored results.
    chose = [each for each in given.overrides if not each.startswith("trainer")]
    matting = instantiate(data.matting)
    return prepare(given.root, given.out, frozen, matting, options, workers, chose, part, bar)
