"""PhotoMaker's words and low-rank weights against their formulas."""

from __future__ import annotations

import pytest
import torch
from steering import TIMESTEPS, attend, condition, noisy_latents
from torch import Tensor, nn

from portraitlab.method.net.low_rank import LowRankAttention
from portraitlab.method.net.photomaker import PhotoMaker
from portraitlab.types import Injection, TextFeatures


def test_the_class_word_is_the_prompts_last(tiny_backbone) -> None:
    backbone = tiny_backbone()
    net = PhotoMaker(backbone, False, True, rank=2, class_prompt="a photo of a person")
    words = backbone.encode_text(["a photo of a person"]).words[0]
    # One token a word, behind the one that starts every prompt.
    assert torch.equal(net.class_word, words[5])
    assert "class_word" not in net.state_dict()


def test_the_stacked_embedding_fuses_each_image_with_the_class_word(tiny_backbone) -> None:
    backbone = tiny_backbone()
    net = PhotoMaker(backbone, False, True, rank=2)
    tokens = condition(backbone).tokens
    stacked = net.stacked(tokens)
    assert torch.equal(stacked.mask, tokens.mask)
    for sample in range(2):
        for place in range(3):
            image = tokens.tokens[sample, place]
            fused = net.class_word + net.join(torch.cat([net.class_word, image]))
            slow = net.norm(fused + net.refine(fused))
            torch.testing.assert_close(stacked.tokens[sample, place], slow, atol=1e-6, rtol=1e-5)


def test_untrained_low_rank_weights_leave_the_unet_to_read_a_longer_prompt(tiny_backbone) -> None:
    backbone, plain = tiny_backbone(), tiny_backbone()
    net = PhotoMaker(backbone, False, True, rank=2)
    given, noisy = condition(backbone), noisy_latents(backbone)
    injection = net(noisy, TIMESTEPS, given)
    for sample in range(2):
        one = slice(sample, sample + 1)
        stacked = injection.attention.tokens[one][:, injection.attention.mask[sample]]
        longer = TextFeatures(torch.cat([given.text.words[one], stacked], dim=1))
        slow = plain.predict(noisy[one], TIMESTEPS[one], longer, Injection())
        alone = Injection(attention=injection.attention[one], gate=injection.gate[one])
        fast = backbone.predict(noisy[one], TIMESTEPS[one], given.text[one], alone)
        torch.testing.assert_close(fast, slow, atol=1e-5, rtol=1e-4)
    everything = net.starting_at_zero()
    assert len(everything) == 4 * len(backbone.unet.attn_processors)
    assert not any(parameter.any() for parameter in everything)


def test_a_rank_below_1_is_refused(tiny_backbone) -> None:
    with pytest.raises(ValueError, match=r"net\.rank=0: a whole number from 1 is needed"):
        PhotoMaker(tiny_backbone(), False, True, rank=0)


@pytest.mark.parametrize("own", ["attn1", "attn2"])
def test_low_rank_attention_agrees_with_changed_weights_written_out_slowly(
    tiny_backbone, own
) -> None:
    backbone = tiny_backbone()
    PhotoMaker(backbone, False, True, rank=2)
    name = next(name for name in backbone.unet.attn_processors if f"{own}.processor" in name)
    attention = backbone.unet.get_submodule(name.removesuffix(".processor"))
    processor = attention.processor
    assert isinstance(processor, LowRankAttention)
    torch.manual_seed(3)
    for parameter in processor.weights.parameters():
        nn.init.normal_(parameter, std=0.5)
    features = torch.randn(2, 4, attention.query_dim)
    given = condition(backbone)
    text, tokens = (given.text.words, given.tokens) if own == "attn2" else (None, given.tokens)
    gate = torch.tensor([0.3, 1.0])
    with torch.no_grad():
        before = processor(attention, features, text)
        fast = processor(
            attention, features, text, ip_hidden_states=Injection(attention=tokens, gate=gate)
        )

        def changed(linear: nn.Linear, change: nn.Module) -> Tensor:
            return linear.weight + change.up.weight @ change.down.weight

        query, key, value, out = (
            changed(linear, change)
            for linear, change in (
                (attention.to_q, processor.weights.query),
                (attention.to_k, processor.weights.key),
                (attention.to_v, processor.weights.value),
                (attention.to_out[0], processor.weights.out),
            )
        )
        for sample in range(2):
            read = features[sample]
            if text is not None:
                read = torch.cat([text[sample], tokens.tokens[sample][tokens.mask[sample]]])
            for place in range(4):
                row = attend(
                    query @ features[sample, place],
                    read @ key.T,
                    read @ value.T,
                    attention.heads,
                )
                changed_row = out @ row + attention.to_out[0].bias
                slow = before[sample, place].lerp(changed_row, gate[sample])
                torch.testing.assert_close(fast[sample, place], slow, atol=1e-4, rtol=1e-3)
