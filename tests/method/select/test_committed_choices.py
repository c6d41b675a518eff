"""The committed choices and figures are what the documentation says they are."""

from __future__ import annotations

import json

from placed import ROOT

from portraitlab.method.select.manual import read_choices
from portraitlab.pretraining.quality_measures import DOCUMENT, RECORD, measures_table
from portraitlab.tables.document import replace_part
from portraitlab.world.pretrained import entry
from portraitlab.world.settings import make_settings
from portraitlab.world.splits import IDENTITIES

CHOICES = ROOT / "experiments" / "hifi_portrait" / "table5" / "manual.yaml"


def test_all_people_of_both_splits_are_there_with_sound_photos_first() -> None:
    choices = read_choices(CHOICES)
    scored = [*IDENTITIES["test"][:144], *IDENTITIES["development"][:144]]
    assert set(choices) == set(map(str, scored))
    for identity, targets in choices.items():
        for target, photos in targets.items():
            stranger, _, target = target.rpartition("/")
            assert stranger or target not in photos
            assert stranger != identity
            poor = [bool(make_settings(int(identity), int(photo)).flaws) for photo in photos]
            assert poor == sorted(poor)
            assert not make_settings(int(stranger or identity), int(target)).flaws


def test_documented_measures_are_on_record() -> None:
    record, text = json.loads(RECORD.read_text()), DOCUMENT.read_text()
    assert text == replace_part(text, "measures", measures_table(record)), (
        "run python -m portraitlab.pretraining.quality_measures"
    )
    measured = entry("quality")["training"]
    kinds = [f"auc_{kind}" for kind in ("blurred", "covered", "dim")]
    for name, figures in record.items():
        assert (min(figures[kind] for kind in kinds) > 0.9) == (name == "the model"), name
    assert all(record["the model"][kind] == measured[kind] for kind in kinds)
