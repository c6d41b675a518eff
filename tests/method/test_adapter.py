"""IP-Adapter's attention against its formula."""

from __future__ import annotations

import torch
from steering import attend, condition
from torch import nn

from portraitlab.method.net.adapter import Adapter
from portraitlab.types import Injection


def test_decoupled_attention_agrees_with_the_papers_written_out_slowly(tiny_backbone) -> None:
    """Compute eq. 5 of Ye et al. (2023), with a mask and a gate."""
    backbone = tiny_backbone()
    net = Adapter(backbone, False, True, scale=0.7)
    name = next(name for name in backbone.unet.attn_processors if "attn2.processor" in name)
    attention = backbone.unet.get_submodule(name.removesuffix(".processor"))
    given = condition(backbone)
    torch.manual_seed(3)
    features = torch.randn(2, 4, attention.query_dim)
    for weights in (net.keys[0].weight, net.values[0].weight):
        nn.init.normal_(weights, std=0.5)
    tokens = given.tokens
    with torch.no_grad():
        injection = Injection(attention=tokens, gate=torch.tensor([0.5, 1.0]))
        fast = attention.processor(
            attention, features, given.text.words, ip_hidden_states=injection
        )
        for sample in range(2):
            text, known = given.text.words[sample], tokens.tokens[sample][tokens.mask[sample]]
            for place in range(4):
                query = attention.to_q.weight @ features[sample, place]
                row = attend(
                    query,
                    text @ attention.to_k.weight.T,
                    text @ attention.to_v.weight.T,
                    attention.heads,
                ) + 0.7 * (0.5, 1.0)[sample] * attend(
                    query,
                    known @ net.keys[0].weight.T,
                    known @ net.values[0].weight.T,
                    attention.heads,
                )
                slow = attention.to_out[0].weight @ row + attention.to_out[0].bias
                torch.testing.assert_close(fast[sample, place], slow, atol=1e-4, rtol=1e-3)
