"""task=choose drafts the file that select=manual reads, and draws what to choose from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from omegaconf import DictConfig
from PIL import Image

from portraitlab.app.experiment import Bench
from portraitlab.app.task.choose import Choose
from portraitlab.method.select.manual import digest_of

pytestmark = pytest.mark.slow

Compose = Callable[..., DictConfig]


@pytest.fixture
def make(composed: Compose, cache: Path, tmp_path: Path) -> Compose:
    def made(*overrides: str) -> DictConfig:
        return composed("scale=smoke", "metrics=none", f"cache={cache}", *overrides)

    return made


def test_a_draft_is_made_changed_and_scored_by(make: Compose, tmp_path: Path) -> None:
    drafted = Choose(str(tmp_path))(make())
    file = Path(drafted["file"])
    choices = yaml.load(file.read_text(), yaml.BaseLoader)
    random = Bench.of(make("select=random")).scoring
    assert {(s.identity, random.photos.store.name[s.target]) for s in random.samples} == {
        (identity, target) for identity, targets in choices.items() for target in targets
    }
    assert drafted["sheets"] == 3
    for sample in random.samples:
        target = random.photos.store.name[sample.target]
        # The target and nine other photos, 128 px each, with a gap of 4.
        assert Image.open(tmp_path / f"{sample.identity}-{target}.png").width == 10 * 132 + 4
        names = [random.photos.store.name[row] for row in sample.references]
        assert set(names) < set(choices[sample.identity][target])
        choices[sample.identity][target].remove(names[2])
        choices[sample.identity][target].insert(0, names[2])
    file.write_text(yaml.safe_dump(choices))
    given = (f"select.file={file}", f"select.digest={digest_of(file)}")
    manual = Bench.of(make("select=manual", *given)).scoring
    for sample in manual.samples:
        assert sample.shape_reference == sample.references[2]

    Choose(str(tmp_path))(make())
    assert yaml.load(file.read_text(), yaml.BaseLoader) == choices
    Choose(str(tmp_path))(make("data.split=test"))
    assert choices.items() < yaml.load(file.read_text(), yaml.BaseLoader).items()


def test_by_truth_sound_photos_come_first(make: Compose, tmp_path: Path) -> None:
    drafted = Choose(str(tmp_path), truth=True)(make())
    given = (f"select.file={drafted['file']}", f"select.digest={drafted['digest']}")
    scoring = Bench.of(make("select=manual", *given)).scoring
    flawed = scoring.photos.store.flawed
    for sample in scoring.samples:
        poor = [flawed[row] for row in sample.references]
        assert flawed[sample.shape_reference] == all(poor)


def test_the_file_that_is_there_knows_everybody_who_is_scored(make: Compose) -> None:
    scoring = Bench.of(make("select=manual")).scoring
    assert all(sample.shape_reference in sample.references for sample in scoring.samples)
