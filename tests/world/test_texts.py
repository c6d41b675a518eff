"""Captions, descriptions and their tokens."""

from dataclasses import replace

import numpy as np
import torch

from portraitlab.world.caption import FEATURE_WORDS, MOST_NOTABLE, caption, description
from portraitlab.world.identity import SHAPE_SIZE, make_identity
from portraitlab.world.mesh import EXPRESSION_NAMES, SHAPE_NAMES
from portraitlab.world.models.clip import TEXT_LENGTH
from portraitlab.world.models.text_to_image import PROMPT_LENGTH
from portraitlab.world.render import render_photo
from portraitlab.world.settings import make_settings
from portraitlab.world.tokenizer import END, PAD, START, UNKNOWN, WordTokenizer


def test_every_word_of_the_world_is_known_and_nothing_is_cut() -> None:
    people = [make_identity(seed) for seed in range(150)]
    shots = [make_settings(person.seed, 0) for person in people]
    # The longest there can be: every choice at its most words.
    people.append(
        replace(
            people[0],
            hair_colour="dark brown",
            hair_style="fringe",
            beard="full beard",
            moles=np.ones((1, 3)),
            birthmarks=np.ones((1, 3)),
            scars=np.ones((1, 4)),
            freckles=1,
            makeup=1,
            shape=np.full(SHAPE_SIZE, 2.0),
        )
    )
    shots.append(
        replace(
            shots[0], style="black and white photo", clothes_pattern="striped", glasses="round",
            blur=0.02, cover="hand", shave="usual", other_haircut=False,
            expression=np.eye(8)[EXPRESSION_NAMES.index("jaw open")], yaw=0.5,
        )
    )  # fmt: skip
    prompts = [caption(shot) for shot in shots]
    texts = [description(person, shot) for person, shot in zip(people, shots, strict=True)]
    for texts_of_kind, length in ((prompts, PROMPT_LENGTH), (texts, TEXT_LENGTH)):
        tokens = WordTokenizer(length)(texts_of_kind)
        assert not (tokens == UNKNOWN).any()
        assert (tokens[:, 0] == START).all()
        assert ((tokens == END).sum(1) == 1).all()
        assert (tokens[:, -1] == PAD).all()


def test_a_caption_has_no_identity_expression_or_pose() -> None:
    seed = next(s for s in range(100) if make_identity(s).hair_colour == "blonde")
    for photo in range(20):
        text = render_photo(seed, photo).caption
        assert not {"hair", "eyes", "turned"} & set(text.split())
        assert make_settings(seed, photo).clothes_colour in text
    assert "blonde" in render_photo(seed, 0).description


def test_a_caption_names_the_flaws() -> None:
    shot = replace(
        make_settings(1, 0), style="photo", blur=0.02, light="dim", cover="scarf",
        glasses="sunglasses",
    )  # fmt: skip
    text = caption(shot)
    assert text.startswith("a blurred photo of a person in a ")
    assert " and sunglasses, a " in text
    assert text.endswith("background, dim light, a scarf up to the lips")


def test_a_description_names_the_most_notable_features() -> None:
    person, shot = make_identity(1), make_settings(1, 0)
    shape = np.zeros(SHAPE_SIZE)
    for name, value in {"nose width": -1.2, "lip fullness": 2.2, "cheeks": 0.9}.items():
        shape[SHAPE_NAMES.index(name)] = value
    text = description(replace(person, shape=shape), shot)
    assert ", full lips, thin nose, " in text
    assert "cheeks" not in text
    everything = description(replace(person, shape=np.full(SHAPE_SIZE, -2.0)), shot)
    notable = [words for pair in FEATURE_WORDS.values() for words in pair if words in everything]
    assert len(notable) == MOST_NOTABLE


def test_unknown_words_and_empty_prompts() -> None:
    tokens = WordTokenizer(8)(["", "a zebra in red", "red " * 20])
    assert tokens.shape == (3, 8)
    assert torch.equal(tokens[0], torch.tensor([START, END] + [PAD] * 6))
    assert (tokens[1] == UNKNOWN).sum() == 1
    assert tokens[2, -1] == END
