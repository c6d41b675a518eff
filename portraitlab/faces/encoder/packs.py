"""Find and load packs of onnx face models in insightface's layout."""

from __future__ import annotations

import logging
import shutil
import uuid
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from portraitlab.faces.sessions import damage_explained, session_providers
from portraitlab.support.processes import local_rank
from portraitlab.support.weights import PublishedFile, check_unpacked, unreadable

_LOG = logging.getLogger(__name__)

_OWN = "~/.insightface"
_PACK = PublishedFile(
    what="a pack of insightface, such as antelopev2.zip or buffalo_l.zip",
    fetch="https://github.com/deepinsight/insightface/releases/tag/v0.7",
    licence="non-commercial research only",
    size="16 to 400 MB",
)
_REMEDY = f"Download {_PACK}. Then give encoder.root=FOLDER, or put it in {_OWN}/models."
_MOST_BYTES = 2**30
"""Largest content of a pack's zip; published ones take up to 400 MB."""
_AGAIN = f"Download the pack again: {_PACK}"


def find_pack(root: Path | None, name: str | None) -> Path:
    """Return the folder with a pack's onnx files.

    root: contains `models/<pack>/`, `<pack>/` or the onnx files, or is a pack's zip; None is
    insightface's own folder, ~/.insightface. name: the pack; None takes the first by name and logs
    the choice where there are several. Nested folders of the same name are found too
    (`<pack>/<pack>/`, as the published antelopev2 unpacks). A `<pack>.zip` is unpacked beside
    itself, without its folders.

    Raises ValueError where there is no pack, or none of this name, with the available packs and
    where to download others, and where a zip is damaged or cannot be unpacked.
    """
    root = Path(_OWN if root is None else root).expanduser()
    if root.suffix == ".zip" and root.is_file():
        return _unpack(root)
    if not root.is_dir():
        raise ValueError(f"encoder.root={root} is no folder. {_REMEDY}")
    # List the packs in folders, and the zips of others.
    zips: dict[str, Path] = {}
    if any(root.glob("*.onnx")):
        packs = {root.resolve().name: root}
    else:
        place = root / "models" if (root / "models").is_dir() else root
        folders = {folder.name: folder for folder in sorted(place.iterdir()) if folder.is_dir()}
        nested = {key: folder / key for key, folder in folders.items()}
        packs = {
            key: found
            for key, folder in folders.items()
            for found in (folder, nested[key])
            if any(found.glob("*.onnx"))
        }
        zips = {z.stem: z for z in sorted(place.glob("*.zip")) if z.stem not in packs}
    if not packs and not zips:
        raise ValueError(
            f"encoder.root={root} has no pack: there is no *.onnx in it, in {root}/<pack> "
            f"or in {root}/models/<pack>, and no zip of a pack. {_REMEDY}"
        )
    # Choose one by its name.
    if name is None:
        name = min(packs or zips)
        others = [key for key in (*packs, *zips) if key != name]
        if others:
            _LOG.warning(
                "encoder.root=%s has the packs %s: %s is used; encoder.name chooses another",
                root, ", ".join([*packs, *zips]), name,
            )  # fmt: skip
    if name in packs:
        return packs[name]
    if name in zips:
        return _unpack(zips[name])
    raise ValueError(
        f"encoder.name={name} is not in encoder.root={root}, which has the packs "
        f"{', '.join([*packs, *zips])}; choose one of them, or add it. {_REMEDY}"
    )


def _unpack(archive: Path) -> Path:
    """Unpack the onnx files of a pack's zip, without the folders in it, into a folder beside it."""
    folder = archive.with_suffix("")
    if any(folder.glob("*.onnx")):
        return folder
    # A unique name, because all processes of one training may unpack at the same time.
    unfinished = archive.with_name(f"unfinished-{archive.stem}-{uuid.uuid4().hex[:8]}")
    try:
        with zipfile.ZipFile(archive) as packed:
            check_unpacked(packed, archive, _MOST_BYTES)
            names = [PurePosixPath(name) for name in packed.namelist()]
            # macOS adds ._files that are not models.
            models = [n for n in names if n.suffix == ".onnx" and not n.name.startswith("._")]
            if not models:
                content = ", ".join(map(str, names[:5])) or "nothing"
                raise ValueError(
                    f"{archive} has no *.onnx, only {content}; give the zip of an insightface pack."
                )
            unfinished.mkdir()
            for model in models:
                with packed.open(str(model)) as source, (unfinished / model.name).open("wb") as to:
                    shutil.copyfileobj(source, to)
        unfinished.replace(folder)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise ValueError(
            f"{archive} ({archive.stat().st_size} bytes) is not a complete zip: "
            f"{unreadable(archive, error)}. {_AGAIN}"
        ) from error
    except OSError as error:
        if any(folder.glob("*.onnx")):  # another process finished first
            return folder
        raise ValueError(
            f"{archive} cannot be unpacked into {folder}: {error.strerror}. Unpack it yourself, "
            "so that the *.onnx files are in a folder of the pack's name, and give encoder.root."
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    _LOG.info("%s was unpacked: %d models are in %s", archive, len(models), folder)
    return folder


def load_pack(pack: Path, tasks: tuple[str, ...], providers: Sequence[str]) -> dict[str, Any]:
    """Load insightface's models for tasks ("detection", "recognition") of a pack.

    providers: onnxruntime's execution providers, best first; those in use are logged. Raises
    ValueError where a file is a Git LFS pointer or damaged, where onnxruntime does not have a
    provider, or where a task has no model.
    """
    from insightface.model_zoo import model_zoo

    wanted = session_providers(providers, "encoder.providers", local_rank())
    # Load the first model of each task.
    models: dict[str, Any] = {}
    files = sorted(pack.glob("*.onnx"))
    for file in files:
        with damage_explained(file, _AGAIN):
            model = model_zoo.get_model(str(file), providers=wanted)
        if model is not None and model.taskname in tasks and model.taskname not in models:
            models[model.taskname] = model
            ran = ", ".join(model.session.get_providers())
            _LOG.info("%s: %s of the pack %s runs on %s", model.taskname, file.name, pack.name, ran)
    for task in tasks:
        if task not in models:
            names = ", ".join(file.name for file in files)
            raise ValueError(f"The pack {pack} has no model for {task}, only {names}.")
    return models
