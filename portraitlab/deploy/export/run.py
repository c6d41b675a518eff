"""From a finished run to an exported folder."""

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
from portraitlab.training.build import build_model


def export_run(
    folder: Path, out: Path, dtype: str = "float32", data_licence: str | None = None
) -> None:
    """Write the trained weights of a run, with all that is needed to draw with them.

    folder: of a run that is done. out: a folder that is empty or not there yet. dtype: precision of
    the weights written. data_licence: what the photos that it was trained on may be used for.

    Raises ValueError where the run is not done or damaged, where `out` holds something, for an
    unknown precision, and where frozen weights are missing on this machine.
    """
    precision_named(dtype, "--dtype")
    check_empty(out)
    found = look(folder)
    if found.state != "done" or not found.record or not found.config:
        said = f" ({found.message})" if found.message else ""
        raise ValueError(
            f"{folder} is {found.state}{said}, and only a run that is done and scored is exported; "
            "give the command that trains it again, it goes on where it stopped."
        )
    config = found.config
    run = Run.of(config, str(folder))
    run.require_weights()
    state = run.read_weights()
    check_known({name: config[name] for name in ("backbone", "encoder", "fusion", "cond", "net")})
    built = OmegaConf.create(dict(config))
    with own_errors():
        model = build_model(built, instantiate(built.backbone), instantiate(built.encoder))
    model.load_trained_state_dict(state)
    made = run.trained_by() or {}
    facts = {"key": run.key, "commit": made.get("commit"), "choices": config["choices"]}
    told = {**facts, "dtype": dtype}
    card = model_card(config, found.record, told, model.net.stock_part is not None, data_licence)
    write_export(model, config, out, card, dtype, **facts)
