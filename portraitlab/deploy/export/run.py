"""Export a finished run."""

from __future__ import annotations

from pathlib import Path

from hydra.utils import instantiate
from omegaconf import OmegaConf

from portraitlab.deploy.export.card import model_card
from portraitlab.deploy.export.folder import check_empty, write_export
from portraitlab.deploy.export.settings import check_known, own_errors
from portraitlab.diffusion.precisions import precision_named
from portraitlab.runs.run import Run
from portraitlab.runs.survey import look
from portraitlab.support.groups import DRAWING
from portraitlab.training.build import build_model


def export_run(
    folder: Path, out: Path, dtype: str = "float32", data_licence: str | None = None
) -> None:
    """Write the trained weights of a run, with all settings that drawing with them needs.

    folder: folder of a finished run. out: an empty or new folder. dtype: precision of the written
    weights. data_licence: permitted use of the training photos.

    Raises ValueError where the run is unfinished or damaged, where `out` is not empty, for an
    unknown precision, and where frozen weights are missing on this machine.
    """
    # Check the arguments and the run.
    precision_named(dtype, "--dtype")
    check_empty(out)
    found = look(folder)
    if found.state != "done" or not found.record or not found.config:
        reason = f" ({found.message})" if found.message else ""
        raise ValueError(
            f"{folder} is {found.state}{reason}, and only a run that is done and scored is "
            "exported; repeat the command that trains it, which resumes it."
        )

    # Build the model with the run's weights; the run may be a stranger's.
    config = found.config
    check_known({name: config.get(name) for name in DRAWING})
    run = Run.of(config, str(folder))
    run.require_weights()
    state = run.read_weights()
    built = OmegaConf.create(dict(config))
    with own_errors():
        model = build_model(built, instantiate(built.backbone), instantiate(built.encoder))
    model.load_trained_state_dict(state)

    # Write the folder with its card.
    origin = run.trained_by() or {}
    facts = {"key": run.key, "commit": origin.get("commit"), "choices": config["choices"]}
    stock = model.net.stock_part is not None
    card = model_card(config, found.record, {**facts, "dtype": dtype}, stock, data_licence)
    write_export(model, config, out, card, dtype, **facts)
