"""task=restore: a folder of pictures, photos of the people in them, and a run's weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from PIL import Image
from safetensors.torch import save_file

from portraitlab.app.experiment import Bench
from portraitlab.runs.key import plain
from portraitlab.runs.run import NoRun, Run
from portraitlab.scoring.draw import draw
from portraitlab.training.build import build_parts
from portraitlab.world.identity import make_identity
from portraitlab.world.render import render_photo, render_scene
from portraitlab.world.settings import make_settings

pytestmark = pytest.mark.slow

PEOPLE = (300_001, 300_004)
SMALL = {"cover": "none", "glasses": "none", "blur": 0.0, "yaw": 0.1}


def photo_of(person: int, number: int) -> Image.Image:
    settings = replace(make_settings(person, number), **SMALL)
    return Image.fromarray(render_scene([(make_identity(person), settings)]).image)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of one, two and no people, of different sizes, and photos of both people."""
    root = tmp_path_factory.mktemp("restore")
    for name, person in zip(("ann", "bob"), PEOPLE, strict=True):
        (root / "people" / name).mkdir(parents=True)
        for number in range(2):
            photo_of(person, number).save(root / "people" / name / f"{number}.png")
    pictures = root / "pictures"
    pictures.mkdir()
    bodies = [
        replace(make_settings(person, 3, "full"), x=x, y=0.3, scale=0.115, **SMALL)
        for person, x in zip(PEOPLE, (0.27, 0.73), strict=True)
    ]
    known = [make_identity(person) for person in PEOPLE]
    both = render_scene(list(zip(known, bodies, strict=True)), 128).image
    Image.fromarray(both).save(pictures / "both.png")
    alone = render_scene([(known[0], replace(bodies[0], scale=0.15))], 96).image
    Image.fromarray(alone[:, :80]).save(pictures / "alone.jpg", quality=95)
    Image.fromarray(render_photo(PEOPLE[0], 1, 128).image).save(pictures / "near.png")
    Image.fromarray(np.full((60, 90, 3), 100, np.uint8)).save(pictures / "nobody.png")
    (pictures / "broken.png").write_text("no picture")
    return root


@pytest.fixture
def restore(composed: Callable[..., DictConfig], folders: Path, tmp_path: Path, cache: Path):
    """Restore with untrained weights; return the result and the pictures by name."""

    def call(*overrides: str, out: str = "out", trained: bool = True):
        config = composed(
            *("scale=smoke", "task=restore", f"pictures={folders / 'pictures'}"),
            *(f"faces={folders / 'people'}", f"task.out={tmp_path / out}", "logger=none"),
            *(f"runs={tmp_path / 'runs'}", f"cache={cache}", *overrides),
        )
        run = Run.of(plain(config))
        if trained and not run.weights.exists():
            run.folder.mkdir(parents=True)
            model = build_parts(config, torch.device("cpu")).model
            save_file(model.trained_state_dict(), run.weights)
        result = instantiate(config.task)(config)
        written = Path(result["folder"]).iterdir()
        return result, {path.name: np.asarray(Image.open(path)) for path in written}

    return call


def read(folders: Path, name: str) -> np.ndarray:
    return np.asarray(Image.open(folders / "pictures" / name).convert("RGB"))


def test_small_faces_are_restored_and_all_else_is_left(restore, folders, capsys) -> None:
    result, written = restore()
    assert result["restored"] == 3
    assert [line.split(" ")[0].rstrip(":") for line in result["left"]] == [
        "broken.png", "nobody.png", "near.png"
    ]  # fmt: skip
    assert "left as it is: nobody.png: no face is found" in capsys.readouterr().out
    assert set(written) == {"both.png", "alone.jpg.png", "near.png", "nobody.png"}
    for name in ("near.png", "nobody.png"):
        assert (written[name] == read(folders, name)).all()
    for name in ("both.png", "alone.jpg"):
        before, after = read(folders, name), written[name.replace("jpg", "jpg.png")]
        assert after.shape == before.shape
        changed = (after != before).any(-1)
        assert 0.005 < changed.mean() < 0.3
    changed = (written["both.png"] != read(folders, "both.png")).any(-1)
    assert changed[:, :64].any()
    assert changed[:, 64:].any()


def test_each_face_is_of_whom_the_recogniser_knows(restore, folders, tmp_path) -> None:
    """People are matched, not counted off: their names and order have no influence."""
    for new, old in (("1", "bob"), ("2", "ann")):
        (tmp_path / "turned").mkdir(exist_ok=True)
        (tmp_path / "turned" / new).symlink_to(folders / "people" / old)
    _, usual = restore(out="usual")
    _, turned = restore(f"faces={tmp_path / 'turned'}", out="turned_out")
    assert (usual["both.png"] == turned["both.png"]).all()
    _, one = restore(f"faces={folders / 'people' / 'ann'}", out="one")
    changed = (one["both.png"] != read(folders, "both.png")).any(-1)
    assert changed[:, :64].any() != changed[:, 64:].any(), "one person is on one face"


def test_another_persons_photos_swap_the_face(restore, folders) -> None:
    _, own = restore(f"faces={folders / 'people' / 'ann'}", out="own")
    result, swapped = restore(f"faces={folders / 'people' / 'bob'}", "edit.below=null", out="swap")
    assert (own["alone.jpg.png"] != swapped["alone.jpg.png"]).any()
    assert (swapped["near.png"] != read(folders, "near.png")).any()
    assert not any("near.png" in line for line in result["left"])


@pytest.mark.parametrize("edit", ["inpaint", "bicubic", "restorer", "diir_restorer"])
def test_a_baseline_or_peer_is_another_edit(restore, folders, edit) -> None:
    result, written = restore(f"edit={edit}")
    assert result["restored"] == 3
    assert (written["both.png"] != read(folders, "both.png")).any()


class Prompt(torch.nn.Module):
    """An image prompt of one word: the mean colour of the image."""

    words = 1

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(2, 3)).repeat(1, 43)[:, None, :128]


def test_faces_of_any_size_are_refined_beside_a_profile(restore, folders, monkeypatch) -> None:
    monkeypatch.setattr("portraitlab.world.pretrained.load_image_prompt", Prompt)
    choice = ("system=ic_portrait", "net.matching=null", "edit=progressive")
    result, written = restore(*choice)
    assert result["restored"] == 4
    assert (written["near.png"] != read(folders, "near.png")).any()


@pytest.mark.parametrize(
    "choice",
    [["net=adapter", "cond=none"], ["system=flashface"], ["system=photomaker"]],
    ids=str,
)
def test_nets_without_a_control_image_or_with_attention_of_their_own_restore(
    restore, choice
) -> None:
    assert restore(*choice)[0]["restored"] == 3


def test_missing_inputs_are_one_error(restore, folders, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    for override, text in (
        ("pictures=null", "task=restore needs pictures=FOLDER"),
        ("faces=null", "task=restore needs faces=FOLDER"),
        ("pictures=nowhere", "pictures=nowhere is not a folder"),
        (f"pictures={tmp_path / 'empty'}", "contains no file"),
        (f"faces={tmp_path / 'empty'}", "empty has no photo with one face"),
        (f"task.out={folders / 'pictures'}", "is the folder of the pictures; give another"),
        ("edit=none", "task=restore needs an edit"),
    ):
        with pytest.raises(Exception, match=text):
            restore(override)
    with pytest.raises(NoRun, match="no trained run"):
        restore("seed=5", trained=False)


def test_drawn_portraits_are_edited_before_they_are_judged(
    composed: Callable[..., DictConfig], cache: Path
) -> None:
    usual = composed("scale=smoke", "metrics=none", f"cache={cache}")
    edited = composed(
        *("scale=smoke", "metrics=none", f"cache={cache}"), "edit=diir", "edit.below=null"
    )
    (one, two) = (Run.of(plain(config)) for config in (usual, edited))
    assert one.key == two.key
    assert one.scoring != two.scoring
    assert Run.of({k: v for k, v in plain(usual).items() if k != "edit"}) == one
    bench = Bench.of(edited, judged=False)
    portraits = draw(
        bench.parts.model, bench.sampler, bench.scoring, 4, torch.device("cpu"), 2,
        precision="32-true",
    )  # fmt: skip
    changed = bench.edited(portraits)
    assert changed.images.shape == portraits.images.shape
    assert (changed.images != portraits.images).any()
    assert Bench.of(usual, judged=False).edited(portraits) is portraits
