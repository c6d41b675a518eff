"""FlashFace's reference net and attention against their description."""

from __future__ import annotations

from dataclasses import replace

import torch
from steering import TIMESTEPS, attend, condition, noisy_latents
from torch import nn

from portraitlab.method.cond.none import NoCond
from portraitlab.method.fusion.none import NoFusion
from portraitlab.method.model import PortraitModel
from portraitlab.method.net.flashface import FlashFace
from portraitlab.method.net.reference import WithReferences
from portraitlab.method.sampler.ddim import DDIM
from portraitlab.types import Condition, Injection


def test_flashface_changes_nothing_at_step_0_and_every_way_out_then_learns(
    tiny_backbone, tiny_batch
) -> None:
    backbone = tiny_backbone()
    net = FlashFace(backbone, False, False)
    references = tiny_batch(batch=2, latents=True).references
    given = replace(condition(backbone), tokens=None, references=net.read(references))
    noisy = noisy_latents(backbone)
    injection = net(noisy, TIMESTEPS, given)
    alone = backbone.predict(noisy, TIMESTEPS, given.text, Injection())
    drawn = backbone.predict(noisy, TIMESTEPS, given.text, injection)
    assert torch.equal(drawn, alone)
    drawn.square().sum().backward()
    ways_out = net.starting_at_zero()
    assert len(ways_out) == 2 * len(net.attentions)
    assert all(parameter.grad.abs().max() > 0 for parameter in ways_out)


def test_a_decoder_block_reads_the_maps_of_the_block_it_mirrors(tiny_backbone, tiny_batch) -> None:
    backbone = tiny_backbone()
    net = FlashFace(backbone, False, False)
    references = tiny_batch(batch=2, latents=True).references
    layers = net.read(references).layers
    names = [
        name
        for name, processor in backbone.unet.attn_processors.items()
        if isinstance(processor, WithReferences)
    ]
    assert len(names) == len(layers) == len(net.attentions) > 0
    seen: dict[str, int] = {}
    for name in names:
        attention = backbone.unet.get_submodule(name.removesuffix(".processor"))
        attention.register_forward_pre_hook(
            lambda module, inputs, name=name: seen.update({name: inputs[0].shape[1]})
        )
    with torch.no_grad():
        backbone.predict(noisy_latents(backbone), TIMESTEPS, condition(backbone).text, Injection())
    for name, layer in zip(names, layers, strict=True):
        attention = backbone.unet.get_submodule(name.removesuffix(".processor"))
        assert layer.tokens.shape == (2, 4 * seen[name], attention.query_dim)
        assert torch.equal(layer.mask.view(2, 4, -1).all(-1), references.mask)


def test_the_reference_net_starts_as_the_unets_encoder(tiny_backbone, tiny_batch) -> None:
    backbone = tiny_backbone()
    net = FlashFace(backbone, False, False)
    latents = tiny_batch(batch=2, latents=True).references.latents[0, :2]
    text, kept = backbone.encode_text(["", ""]), []
    blocks = [*backbone.unet.down_blocks, backbone.unet.mid_block]
    handles = [
        block.resnets[-1].register_forward_hook(lambda module, inputs, out: kept.append(out))
        for block in blocks
    ]
    with torch.no_grad():
        backbone.predict(latents, torch.tensor([0, 0]), text, Injection())
        for handle in handles:
            handle.remove()
        maps = net.reference_net(latents)
    # The first block has no attention, so that its map is what its last residual layer gives.
    torch.testing.assert_close(maps[0], kept[0].flatten(2).transpose(1, 2))
    torch.testing.assert_close(maps[-1], kept[-1].flatten(2).transpose(1, 2))
    assert len(maps) == len(blocks)


def test_reference_attention_agrees_with_the_papers_written_out_slowly(tiny_backbone) -> None:
    backbone = tiny_backbone()
    net = FlashFace(backbone, False, False)
    added = net.attentions[0]
    torch.manual_seed(3)
    for parameter in added.parameters():
        nn.init.normal_(parameter, std=0.5)
    width = added.query.in_features
    features, maps = torch.randn(2, 4, width), torch.randn(2, 6, width)
    mask = torch.tensor([[True] * 6, [True] * 3 + [False] * 3])
    with torch.no_grad():
        fast = added(features, maps, mask)
        for sample in range(2):
            context = torch.cat([features[sample], added.norm(maps[sample][mask[sample]])])
            for place in range(4):
                row = attend(
                    added.query.weight @ features[sample, place],
                    context @ added.key.weight.T,
                    context @ added.value.weight.T,
                    added.heads,
                )
                slow = added.out.weight @ row + added.out.bias
                torch.testing.assert_close(fast[sample, place], slow, atol=1e-4, rtol=1e-3)


def test_guidance_drops_the_references_maps_with_everything_and_keeps_them_with_the_prompt(
    tiny_backbone, tiny_batch
) -> None:
    backbone = tiny_backbone()
    net = FlashFace(backbone, False, False)
    model = PortraitModel(backbone, NoFusion(10, 12, 16), NoCond(), net)
    given = model.condition(tiny_batch(batch=2, latents=True))
    assert given.references is not None
    dropped = DDIM().unconditional(model, given)
    assert dropped == Condition(dropped.text, None, None)
    kept = DDIM(guidance_drops="prompt").unconditional(model, given)
    assert kept.references is given.references
    assert torch.equal(kept.text.words[0], backbone.encode_text([""]).words[0])


def test_flashface_reads_the_latents_that_are_there_and_no_others(
    tiny_backbone, tiny_batch
) -> None:
    net = FlashFace(tiny_backbone(), False, False)
    references = tiny_batch(batch=2, refs=3, latents=True).references
    seen: list[int] = []
    net.reference_net.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    layers = net.read(references).layers
    assert seen == [int(references.mask.sum())]
    hidden = ~layers[0].mask
    assert hidden.any()
    assert not layers[0].tokens[hidden].any()


def test_a_gate_weighs_what_the_references_add(tiny_backbone, tiny_batch) -> None:
    backbone = tiny_backbone()
    net = FlashFace(backbone, False, False)
    torch.manual_seed(3)
    for parameter in net.starting_at_zero():
        nn.init.normal_(parameter, std=0.5)
    maps = net.read(tiny_batch(batch=2, latents=True).references)
    name = next(n for n in backbone.unet.attn_processors if "up_blocks" in n and "attn1" in n)
    attention = backbone.unet.get_submodule(name.removesuffix(".processor"))
    features = torch.randn(2, 4, attention.query_dim)
    alone = attention.processor(attention, features)
    whole = attention.processor(attention, features, ip_hidden_states=Injection(attention=maps))
    gate = torch.tensor([0.0, 0.5])
    injection = Injection(attention=maps, gate=gate)
    gated = attention.processor(attention, features, ip_hidden_states=injection)
    assert torch.equal(gated[0], alone[0])
    torch.testing.assert_close(gated[1], alone[1].lerp(whole[1], 0.5))
