"""Write the model card of an exported run: use, parts, training, figures, licences, limits.

The front matter is the Hugging Face hub's (hf.co/docs/hub/model-cards).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

import yaml

from portraitlab.deploy.export.folder import base_model
from portraitlab.deploy.export.settings import needed_places, published_in
from portraitlab.support.groups import DRAWING, TRAINING

_UNSTATED = "not stated: whoever publishes this must say what the photos' owners allow"

_FACE_MODELS = {
    "bfm": "the Basel Face Model's numbers, for research only, with the licence of its authors",
    "flame": "FLAME and DECA, for non-commercial research only",
}

_RENDERED = "rendered by PortraitLab; it shows nobody who lives"


def model_card(
    config: Mapping[str, Any],
    record: Mapping[str, Any],
    facts: Mapping[str, Any],
    stock: bool,
    data_licence: str | None = None,
) -> str:
    """Write the text of README.md.

    config: the run's resolved configuration. record: its scoring. facts: key, commit and dtype.
    stock: True if the export has a controlnet/. data_licence: permitted use of the photos.
    """
    # Write the front matter.
    choices, base = config["choices"], base_model(config)
    rendered = config["data"]["_target_"].endswith("WorldData")
    licence = data_licence or (_RENDERED if rendered else _UNSTATED)
    front: dict[str, Any] = {
        "library_name": "portraitlab",  # for diffusers the hub would show code that cannot load it
        "pipeline_tag": "text-to-image",
        "tags": ["portraitlab", "identity-preserved", choices["system"], choices["net"]],
        # The base, the encoders and the photos have licences of their own.
        "license": "other",
        "license_name": "see-model-card",
    }
    if base is not None:
        front["base_model"] = base

    # Write the sections.
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---",
        f"# Portraits by {choices['system']} ({choices['fusion']}, {choices['net']})",
        _paragraph(
            "New portraits of a person from a few photos of them. Expression and pose come from a "
            "target picture, the look from a prompt. Trained with PortraitLab."
        ),
        _use(choices, base, needed_places(config)),
        _parts(config, stock),
        _training(config, facts, rendered),
        _figures(record),
        _licences(config, base, licence),
        _limits(choices, rendered),
    ]
    return "\n\n".join(parts) + "\n"


def _use(choices: Mapping[str, Any], base: str | None, needed: Sequence[str]) -> str:
    # Write the command and the call.
    folder = "" if base is None else ", backbone_folder=BASE"
    photos = '--refs a.jpg b.jpg --target t.jpg --prompt "a photo of a person"'
    given = "".join(f" --set {name}=PATH" for name in needed)
    command = f"portraitlab generate FOLDER {photos}{given}"
    places = ", ".join(f'"{name}": "PATH"' for name in needed)
    settings = f", settings={{{places}}}" if needed else ""
    # Explain their placeholders.
    where = (
        "Its base is the miniature world's own model, which PortraitLab ships."
        if base is None
        else f"BASE is a folder of {base} in diffusers' layout; without it, the hub's cache is "
        "searched."
    )
    if needed:
        where += (
            f" {', '.join(needed)}: files of face models, which are not in this folder (see "
            "docs/encoders.md and docs/face3d.md of PortraitLab for their sources)."
        )
    target = (
        " The target gives expression and pose; `select`, here "
        f"`{choices['select']}`, chooses the reference that gives the face's shape."
    )
    whole = (
        "Only this class loads the folder as a whole; `DiffusionPipeline.from_pretrained` of "
        "diffusers does not know it."
    )
    return f"""## Use

    {command}

or

    from portraitlab.deploy.pipeline import PortraitPipeline

    pipe = PortraitPipeline.from_pretrained(FOLDER{folder}{settings})
    images = pipe([a, b], target, "a photo of a person", seed=0)

{_paragraph(where + target)}

{_paragraph(whole)}"""


def _parts(config: Mapping[str, Any], stock: bool) -> str:
    # Nets without a class of diffusers.
    net = config["choices"]["net"]
    only = "only PortraitLab's pipeline loads it."
    if net == "rep_controlnet":
        text = (
            "`unet/` is the UNet with the trained weights merged into it, as diffusers' own class: "
            "`UNet2DConditionModel.from_pretrained(FOLDER/unet)`. A control image enters by the "
            "condition adapter in `net/`, whose features are added to what `conv_in` gives, and "
            f"identity by attention that no class of diffusers has: {only}"
        )
        return f"## Parts\n\n{_paragraph(text)}"
    if not stock:
        text = (
            "`net=text_concat` has no weights of its own: the UNet reads the fusion's identity "
            f"tokens behind the prompt's features. `net/` has its settings; {only}"
            if net == "text_concat"
            else f"`net={net}` changes attentions of the UNet in a way that no class of diffusers "
            f"has, so `net/` is in PortraitLab's own format: {only}"
        )
        return f"## Parts\n\n{_paragraph(text)}"
    # Stock ControlNets.
    pixels = net == "controlnet" or config["net"].get("way_in") == "pixels"
    image = (
        "the control image in [0, 1]"
        if pixels
        else "the latents of the control image, less those of a black one,"
    )
    words = (
        "the prompt"
        if net == "controlnet"
        else "the prompt alone, without the added attention to identity tokens, which diffusers' "
        "class does not have; only PortraitLab's pipeline draws with both"
        if net == "mmf"
        else "identity tokens in place of the prompt's; a noise gate (net/config.json) is its "
        "conditioning_scale"
    )
    text = (
        "`controlnet/` is diffusers' own class: "
        f"`ControlNetModel.from_pretrained(FOLDER/controlnet)`. It reads {image} and {words}."
    )
    if net not in ("hifi_net", "controlnet", "ffrnet", "mmf"):
        text += f" `net/` holds what diffusers has no class for; {only}"
    return f"## Parts\n\n{_paragraph(text)}"


def _training(config: Mapping[str, Any], facts: Mapping[str, Any], rendered: bool) -> str:
    data, choices = config["data"], config["choices"]
    photos = (
        f"{data['identities']} made-up people of PortraitLab's miniature world, "
        f"{data['photos_per_identity']} rendered photos of each"
        if rendered
        else "photos of people of the trainer's own; how many is not recorded"
    )
    # Choices that change portraits in scoring and are not part of an export.
    beside = [
        (name, choices[name])
        for name in ("customise", "edit")
        if choices.get(name, "none") != "none"
    ]
    named = choices.keys() - {"backbone", "data"}
    # Tabulate the settings of the training.
    rows = {
        "data": photos,
        "references of a sample": f"1 to {config['refs']}",
        "steps": config["budget"]["steps"],
        "batch size": config["batch_size"],
        "seed": config["seed"],
        **{name: choices[name] for name in TRAINING if name in named},
        "drawn for the figures by": f"{choices['sampler']}, {config['sampler']['steps']} steps",
        **{f"for the figures also, and not in this folder, {name}": more for name, more in beside},
        "weights saved in": facts["dtype"],
        "run": facts["key"],
        "commit of PortraitLab": facts["commit"] or "not recorded",
    }
    lines = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return f"## Training\n\n|  |  |\n| --- | --- |\n{lines}"


def _figures(record: Mapping[str, Any]) -> str:
    lines = []
    for name, metric in record["metrics"].items():
        better = "↑" if metric["higher_is_better"] else "↓"
        error = "" if metric["error"] is None else f" ±{metric['error']:.3f}"
        value = "none" if metric["value"] is None else f"{metric['value']:.3f}{error}"
        lines.append(f"| {name} {better} | {value} | {metric['method']} |")
    if not lines:
        return "## Figures\n\nThe run was scored by no metric."
    table = "\n".join(lines)
    return f"""## Figures

Means over held-out people ± standard error: {record["identities"]} people, {record["images"]}
pictures, {record["faceless"]} of them without a face.

| metric | value | how |
| --- | --- | --- |
{table}"""


def _licences(config: Mapping[str, Any], base: str | None, licence: str) -> str:
    backbone = config["backbone"]
    shipped = "shipped with PortraitLab"
    own = shipped if base is None else f"{base}, {backbone['weights']['licence']}"
    faces = {
        "world": shipped,
        "insightface": "insightface's packs are for non-commercial research only",
        "sface": "YuNet (MIT) and SFace (Apache-2.0)",
    }
    encoder = config["choices"]["encoder"]
    lines = [f"base: {own}", f"face encoder, needed to use this: {faces.get(encoder, encoder)}"]
    face_model = config["cond"].get("face_model", {}).get("_target_", "")
    lines += [
        f"3D face model, needed to use this: {terms}"
        for module, terms in _FACE_MODELS.items()
        if face_model.startswith(f"portraitlab.faces.face3d.{module}.")
    ]
    if (config["data"].get("matting") or {}).get("weights"):
        lines.append("matting, needed to use this: by the licence of its weights")
    for published in published_in({name: config[name] for name in DRAWING}):
        if published["repository"] != base:
            lines.append(f"needed to use this: {published['repository']}, {published['licence']}")
    lines.append(f"photos it was trained on: {licence}")
    return "\n".join(["## Licences\n", *(f"- {line}" for line in dict.fromkeys(lines))])


def _limits(choices: Mapping[str, Any], rendered: bool) -> str:
    world = (
        "- It has only seen rendered faces of 64 px or so; it draws nobody who lives.\n"
        if rendered
        else ""
    )
    return f"""## Limits

{world}- Figures are of the data that they name; no other people, poses or prompts were looked at.
- It draws recognisable people: ask those whose photos you give it.
- `cond={choices["cond"]}` decides what of the target it follows; clothes and background are the
  prompt's."""


def _paragraph(text: str) -> str:
    return fill(text, 110, break_long_words=False, break_on_hyphens=False)
