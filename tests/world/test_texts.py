"""Captions, descriptions and their tokens."""

import torch

from portraitlab.world.identity import make_identity
from portraitlab.world.models.clip import TEXT_LENGTH
from portraitlab.world.models.text_to_image import PROMPT_LENGTH
from portraitlab.world.render import render_photo
from portraitlab.world.settings import make_settings
from portraitlab.world.tokenizer import END, PAD, START, UNKNOWN, WordTokenizer


def test_every_word_of_the_world_is_known_and_nothing_is_cut() -> None:
    photos = [render_photo(seed, 0) for seed in range(150)]
    captions = WordTokenizer(PROMPT_LENGTH)([photo.caption for photo in photos])
    descriptions = WordTokenizer(TEXT_LENGTH)([photo.description for photo in photos])
    for tokens in (captions, descriptions):
        assert not (tokens == UNKNOWN).any()
        assert (tokens[:, 0] == START).all()
        assert ((tokens == END).sum(1) == 1).all()


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
