"""Captions, descriptions and their tokens."""

from dataclasses import replace

import numpy as np
import torch

from portraitlab.world.caption import caption, description
from portraitlab.world.identity import make_identity
from portraitlab.world.mesh import EXPRESSION_NAMES
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
            beard="full beard",
            moles=np.ones((1, 3)),
            freckles=1,
        )
    )
    shots.append(
        replace(
            shots[0], style="black and white photo", clothes_pattern="striped", glasses="round",
            expression=np.eye(8)[EXPRESSION_NAMES.index("jaw open")], yaw=0.5,
        )
    )  # fmt: skip
    prompts = [caption(shot) for shot in shots]
    texts = [description(person, shot) for person, shot in zip(people, shots, strict=True)]
    for told, length in ((prompts, PROMPT_LENGTH), (texts, TEXT_LENGTH)):
        tokens = WordTokenizer(length)(told)
        assert not (tokens == UNKNOWN).any()
        assert (tokens[:, 0] == START).all()
        assert ((tokens == END).sum(1) == 1).all()
        assert (tokens[:, -1] == PAD).all()


def test_a_caption_tells_neither_identity_nor_expression_nor_pose() -> None:
    seed = next(s for s in range(100) if make_identity(s).hair_colour == "blonde")
    for photo in range(20):
        text = render_photo(seed, photo).caption
        assert not {"hair", "eyes", "turned"} & set(text.split())
        assert make_settings(seed, photo).clothes_colour in text
    assert "blonde" in render_photo(seed, 0).description


def test_unknown_words_and_empty_prompts() -> None:
    tokens = WordTokenizer(8)(["", "a zebra in red", "red " * 20])
    assert tokens.shape == (3, 8)
    assert torch.equal(tokens[0], torch.tensor([START, END] + [PAD] * 6))
    assert (tokens[1] == UNKNOWN).sum() == 1
    assert tokens[2, -1] == END
