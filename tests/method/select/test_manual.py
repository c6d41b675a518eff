"""Selection by a file: what it takes, and what it says of files that cannot be used."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from portraitlab.method.select.manual import ManualReference, digest_of
from portraitlab.types import Candidates

NOBODY = torch.Generator()


@pytest.fixture
def two(candidates: Candidates) -> Candidates:
    """Two people; anna's photos are 1, 2 and 007, of bruno's only the first is there."""
    return replace(
        candidates,
        mask=torch.tensor([[True, True, True], [True, False, False]]),
        identities=["anna", "42"],
        photos=[["1", "2", "007"], ["x: y.jpg", "2", "3"]],
        target_photos=["9", "no"],
    )


def test_the_first_photo_that_is_among_the_references_is_taken(two, chosen_by_hand) -> None:
    lines = "anna: {9: [5, 007, 1], 8: [1]}\n42: {no: [2, 'x: y.jpg']}\n"
    assert chosen_by_hand(lines).choose(two, NOBODY).tolist() == [2, 0]


@pytest.mark.parametrize(
    ("lines", "identity"),
    [
        ("anna: {9: [1]}", "target no of identity 42; its references are x: y.jpg"),
        ("anna: {8: [1]}\n42: {no: ['x: y.jpg']}", "target 9 of identity anna"),
        ("anna: {9: [5, 6]}\n42: {no: ['x: y.jpg']}", "target 9 of identity anna"),
        ("anna: {9: [1]}\n42: {no: [2, 3]}", "target no of identity 42"),
    ],
)
def test_whom_the_file_leaves_out_is_named_with_the_remedy(
    two, chosen_by_hand, lines: str, identity: str
) -> None:
    with pytest.raises(ValueError, match=rf"names no reference for the {identity}.*add a line"):
        chosen_by_hand(lines).choose(two, NOBODY)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("anna: {9: [", "is not valid YAML"),
        ("", r"manual\.yaml: Input should be a valid dictionary.*; each line must be"),
        ("- anna", "should be a valid dictionary"),
        ("anna: 9", "anna: Input should be a valid dictionary, not '9'; each line must be"),
        ("anna: {9: 3}", r"anna\.9: Input should be a valid list, not '3'; each line must be"),
        ("anna: {9: [[1]]}", r"anna\.9\.0: Input should be a valid string; each line must be"),
    ],
)
def test_a_file_of_another_form_is_refused(chosen_by_hand, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        chosen_by_hand(text)


def test_a_file_that_was_changed_is_refused_with_its_new_name(tmp_path: Path) -> None:
    file = tmp_path / "manual.yaml"
    with pytest.raises(ValueError, match=r"manual\.yaml is not a file; task=choose drafts one"):
        ManualReference(str(file), "abc")
    file.write_text("anna: {9: [1]}")
    digest = digest_of(file)
    ManualReference(str(file), digest)
    file.write_text("anna: {9: [2]}")
    changed = digest_of(file)
    with pytest.raises(ValueError, match=rf"select.digest={digest}.*select.digest={changed}"):
        ManualReference(str(file), digest)
    with pytest.raises(ValueError, match=rf"select.digest=,.*select.digest={changed}"):
        ManualReference(str(file), "")
