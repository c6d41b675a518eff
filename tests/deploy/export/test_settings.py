"""Check which settings an export contains, and which targets are never built."""

from __future__ import annotations

import json

import pytest
from exporting import settings_of
from hypothesis import given, settings
from hypothesis import strategies as st

from portraitlab.deploy.export.settings import (
    check_known,
    drawing_settings,
    needed_places,
    with_changes,
)

REAL = (
    *("encoder=insightface", "encoder.root=/mine/packs", "face3d=bfm", "face3d.root=/mine/bfm"),
    *("data=folder", "data.root=/mine/photos", "matting=onnx", "matting.weights=/mine/net.onnx"),
    *("backbone=sdxl", "backbone.folder=/mine/sdxl", "clip=vit_l14", "clip.folder=/mine/clip"),
)
SFACE = ("encoder=sface", "encoder.detector=/mine/yunet.onnx", "encoder.recogniser=/mine/s.onnx")


@pytest.mark.parametrize("overrides", [REAL, SFACE, ("select=manual",)])
def test_no_place_of_this_machine_travels(overrides: tuple[str, ...]) -> None:
    config = settings_of(*overrides)
    travelling = json.dumps(drawing_settings(config))
    assert "/mine" not in travelling
    assert "experiments/" not in travelling
    assert "_target_" in travelling


def test_the_places_that_are_needed_are_named_until_they_are_given() -> None:
    config = settings_of(*REAL)
    needed = needed_places(config)
    assert needed == [
        "encoder.root", "encoder.face3d.root", "cond.face_model.root", "matting.weights",
    ]  # fmt: skip
    settings = drawing_settings(config)
    given: dict[str, object] = {"encoder.root": "packs"}
    message = r"needs paths on this machine: encoder\.face3d\.root, .*`--set encoder\.face3d"
    with pytest.raises(ValueError, match=message):
        with_changes(settings, needed, given)
    given |= {"encoder.face3d.root": "bfm", "cond.face_model.root": "bfm"}
    changed = with_changes(settings, needed, {**given, "matting": {}})
    assert changed["encoder"]["root"] == "packs"
    assert changed["cond"]["face_model"]["root"] == "bfm"
    assert settings["encoder"]["root"] is None  # the given ones are not changed
    assert needed_places(settings_of(*SFACE)) == ["encoder.detector", "encoder.recogniser"]
    assert needed_places(settings_of()) == []


def test_published_weights_name_the_settings_of_the_export() -> None:
    needed = dict.fromkeys(needed_places(settings_of(*REAL)), "x")
    given = {**needed, "encoder.clip.folder": "clip"}
    changed = with_changes(drawing_settings(settings_of(*REAL)), list(needed), given)
    assert changed["encoder"]["clip"]["folder"] == "clip"
    assert changed["encoder"]["clip"]["weights"]["setting"] == "encoder.clip.folder"
    backbone = changed["backbone"]
    assert backbone["weights"]["setting"] == "backbone.folder"
    assert backbone["autoencoder_weights"]["setting"] == "backbone.autoencoder_folder"
    whole = settings_of(*REAL)["encoder"]
    with_changes(drawing_settings(settings_of()), [], {"encoder": whole})
    assert whole == settings_of(*REAL)["encoder"]  # what is given is not changed


def test_a_value_of_another_kind_is_refused() -> None:
    settings = drawing_settings(settings_of())
    for name, value, message in (
        ("minimum_side", "abc", "minimum_side is 'abc'; give a number, as the export's own 32"),
        ("minimum_side", True, "minimum_side is True; give a number"),
        ("minimum_side", None, "minimum_side is None; give a number"),
        ("sampler.steps", "abc", r"sampler\.steps is 'abc'; give a number"),
        ("net.reads_noise", 1, r"net\.reads_noise is 1; give true or false"),
        ("backbone", 5, "backbone is 5; give a component's settings, one by one as backbone.NAME="),
        ("backbone", None, "backbone is None; give a component's settings"),
    ):
        with pytest.raises(ValueError, match=message):
            with_changes(settings, [], {name: value})
    assert with_changes(settings, [], {"sampler.guidance": 2})["sampler"]["guidance"] == 2
    assert with_changes(settings, [], {"cond.face_model": None})["cond"]["face_model"] is None


def test_an_unknown_setting_is_refused() -> None:
    for name in ("encoder.rooot", "nothing", "encoder.root.deeper.still"):
        with pytest.raises(ValueError, match=f"{name} is not a setting of this export"):
            with_changes(drawing_settings(settings_of()), [], {name: 1})


@pytest.mark.parametrize(
    "target",
    [
        *("os.system", "builtins.eval", "subprocess.run", 7, None, ["os.system"]),
        *("portraitlab.runs.run.Run.forget", "portraitlab.training.loggers.wandb_logger"),
    ],
)
def test_targets_outside_conf_are_never_built(target: object) -> None:
    settings = drawing_settings(settings_of())
    settings["cond"]["face_model"] = {"_target_": target, "command": "true"}
    with pytest.raises(ValueError, match=r"cond\.face_model\._target_ is .*no file of conf/"):
        check_known(settings)


def test_an_export_that_names_a_place_is_refused() -> None:
    settings = drawing_settings(settings_of())
    for place in ("/elsewhere", ["/elsewhere"], {"0": "/elsewhere"}, 1):
        settings["backbone"]["folder"] = place
        with pytest.raises(ValueError, match=r"backbone\.folder is .*: an export contains"):
            with_changes(settings, [], {})
    assert with_changes(drawing_settings(settings_of()), [], {"refs": 3})["refs"] == 3


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text("ab", max_size=2), inner),
    max_leaves=5,
)
OURS = "portraitlab.method.fusion.refiner.FaceRefiner"
HOSTILE = st.one_of(
    st.fixed_dictionaries({"_target_": st.sampled_from(["os.system", "eval", OURS.upper()])}),
    st.fixed_dictionaries({"_target_": st.just(OURS), "_args_": st.lists(PLAIN)}),
    st.fixed_dictionaries({"_target_": st.just(OURS), "from_file": PLAIN}),
    st.fixed_dictionaries({"_partial_": st.booleans()}),
    st.sampled_from([(1,), {1}, b"x", object(), "${oc.env:HOME}"]),
)


@settings(max_examples=80, deadline=None)
@given(data=st.data(), hostile=HOSTILE, around=PLAIN)
def test_nothing_hostile_is_built_wherever_it_is(
    data: st.DataObject, hostile: object, around: object
) -> None:
    chosen = drawing_settings(settings_of())
    check_known(chosen)
    value = data.draw(st.sampled_from([hostile, [around, hostile], {"a": [{"b": hostile}]}]))
    group, name = data.draw(
        st.sampled_from([("fusion", "layers"), ("sampler", "steps"), ("cond", "face_model")])
    )
    chosen[group][name] = value
    with pytest.raises(ValueError, match=f"{group}.{name}"):
        check_known(chosen)


def test_an_interpolation_is_refused() -> None:
    settings = drawing_settings(settings_of())
    settings["sampler"]["steps"] = "${oc.env:HOME}"
    with pytest.raises(ValueError, match=r"sampler\.steps is .*an interpolation has no place"):
        check_known(settings)
