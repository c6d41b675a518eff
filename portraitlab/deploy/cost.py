"""Count a model's parameters, multiply-adds and memory without weights.

The model runs on fake tensors, with a shape and a type but no content, so a model of any size is
counted on a laptop in seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from portraitlab.diffusion.precisions import cast_once
from portraitlab.method.model import PortraitModel
from portraitlab.types import Batch, FaceFeatures, FaceGeometry, Pictures

# Precisions, by Lightning's names, in which products are computed in half precision.
_HALVES = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


@dataclass(frozen=True)
class PartCost:
    """Cost of one part of the model, used once for one sample.

    trained, frozen: numbers of parameters. layers: multiply-adds of its convolutions and linear
    layers. attention: multiply-adds of attention's products, which many counters leave out.
    """

    trained: int
    frozen: int
    layers: int
    attention: int


@dataclass(frozen=True)
class TrainingMemory:
    """Peak memory of a training step in bytes, without the temporary buffers of kernels.

    weights: all parts, each in its own precision, and the copies of cast_once. gradients,
    optimiser, average: trained parameters in single precision; Adam keeps two numbers a parameter,
    an average of the weights (if there is one) keeps one. activations: tensors saved for the
    backward pass. recomputed: activations of the largest block, which gradient checkpointing
    recomputes.
    """

    weights: int
    gradients: int
    optimiser: int
    average: int
    activations: int
    recomputed: int

    @property
    def total(self) -> int:
        """The sum of all parts."""
        return sum(getattr(self, field.name) for field in fields(self))


@dataclass(frozen=True)
class Sizes:
    """Feature sizes of N references: L local features of d1 numbers and d2 global ones each."""

    local_length: int
    local_dim: int
    global_dim: int
    references: int


def part_costs(model: PortraitModel, sizes: Sizes) -> dict[str, PartCost]:
    """Count the cost of each part: fusion (once a drawing), net and UNet (each step), frozen rest.

    The model is counted as it draws: a net that merges its weights into the UNet has only the
    merged UNet, which counts as UNet and as frozen. The autoencoder is counted decoding. Shared
    parameters are counted with the first part that has them. The model may be on the meta device,
    and cannot be used afterwards.
    """
    model = model.for_drawing()
    backbone, net = model.backbone, model.net
    unet = net.running_unet(backbone)
    own: list[nn.Module] = [net]
    if unet is not backbone.unet:
        own = [part for part in net.children() if part is not unet]
    texts = [
        part for name, part in backbone.named_children() if name not in ("unet", "autoencoder")
    ]
    with _without_content(model, whole=True):
        # Compute the inputs of all parts.
        batch, timesteps = _batch(model, sizes, 1), torch.zeros(1, dtype=torch.long)
        with torch.no_grad():
            condition = model.condition(batch)
            injection = net(batch.latents, timesteps, condition)

        # List each part's modules and one use of it.
        uses: dict[str, tuple[list[nn.Module], Callable[[], Any]]] = {
            "fusion": ([model.fusion], lambda: model.fusion(batch.references)),
            "net": (own, lambda: net(batch.latents, timesteps, condition)),
            "UNet": (
                [unet],
                lambda: backbone.predict(batch.latents, timesteps, condition.text, injection),
            ),
            "text encoder": (texts, lambda: backbone.encode_text(["words"])),
            "autoencoder": (
                [backbone.autoencoder],
                lambda: backbone.decode(model.transform.picture(batch.latents)),
            ),
        }
        if "pictures" in net.wants:
            uses["net, reading the profile"] = ([], lambda: net.read_prompt(batch))
        if net.latents:
            uses["net, reading references"] = ([], lambda: net.read(batch.references))
        if (drawing := batch.drawing) is not None and condition.drawing is not drawing:
            uses["net, reading the control image"] = ([], lambda: net.read_drawing(drawing))

        # Count each part.
        weights = {_place(each) for each in model.parameters()}
        seen: set[int] = set()
        with torch.no_grad():
            return {
                name: _cost(modules, use, weights, seen) for name, (modules, use) in uses.items()
            }


def training_memory(
    model: PortraitModel,
    sizes: Sizes,
    batch_size: int,
    precision: str,
    gradient_checkpointing: bool = False,
    averaged: bool = False,
    decoded: int = 0,
) -> TrainingMemory:
    """Measure the memory of a step of the noise loss, on one device with batch_size samples.

    precision: Lightning's name of it. gradient_checkpointing: see PortraitModel. averaged: count an
    average of the weights too. decoded: number of samples whose estimate the identity loss decodes,
    which is most of its memory. The model may be on the meta device, and cannot be used afterwards.
    """
    with _without_content(model):
        weights = _storages(model)
        blocks = [0]

        # Measure each checkpointed block by itself.
        def counted(block: Callable[..., Any], *inputs: Any) -> Any:
            recomputed = _SavedTensors(weights)
            with recomputed.hooks():
                graph = block(*inputs)
            blocks.append(recomputed.bytes)
            del graph
            return checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False)

        if gradient_checkpointing:
            model.enable_gradient_checkpointing(counted)

        # Run the forward pass and measure the tensors saved for the backward pass.
        batch = _batch(model, sizes, batch_size)
        timesteps = torch.zeros(batch_size, dtype=torch.long)
        half = _HALVES.get(precision)
        mixed = nullcontext() if half is None else torch.autocast("cpu", half)
        kept = _SavedTensors(weights)
        with cast_once(model, precision), model.backbone.computing(), mixed, kept.hooks():
            weights |= _storages(model)
            prediction = model(batch, batch.latents, timesteps).float()
            loss = prediction.square().mean()
            if decoded:
                loss = loss + model.backbone.decode(prediction[:decoded]).mean()
        activations = kept.bytes
        del loss
    trained = sum(each.numel() for each in model.trained_parameters())
    return TrainingMemory(
        weights=sum(weights.values()),
        gradients=4 * trained,
        optimiser=8 * trained,
        average=4 * trained if averaged else 0,
        activations=activations,
        recomputed=max(blocks),
    )


@dataclass(frozen=True, eq=False)
class _Saved:
    tensor: Tensor


class _SavedTensors:
    """The tensors that a graph saves for its backward pass, without the storages in `excluded`.

    They are counted while the graph lives. A checkpointed block without gradients saves nothing.
    """

    def __init__(self, excluded: Container[int]) -> None:
        self.excluded = excluded
        self._alive: WeakSet[_Saved] = WeakSet()

    def hooks(self) -> saved_tensors_hooks:
        """Return the context manager in which saved tensors are counted."""

        def pack(tensor: Tensor) -> _Saved:
            saved = _Saved(tensor)
            self._alive.add(saved)
            return saved

        return saved_tensors_hooks(pack, lambda saved: saved.tensor)

    @property
    def bytes(self) -> int:
        """Bytes of the tensors that are saved now, each storage once."""
        storages = {_place(saved.tensor): saved.tensor.untyped_storage() for saved in self._alive}
        return sum(each.nbytes() for place, each in storages.items() if place not in self.excluded)


@contextmanager
def _without_content(model: PortraitModel, whole: bool = False) -> Iterator[None]:
    """Make all tensors created inside `with`, and those of the model for good, fake tensors.

    whole: True uses single precision, so that no weight is cast: a cast copy is not recognised.
    """
    if whole:
        model.float()
        model.backbone.precision = torch.float32
    with FakeTensorMode(allow_non_fake_inputs=True), AllKnown():
        replaced: dict[int, Tensor] = {}
        for module in model.modules():
            held: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
            for tensors in held:
                for name, tensor in tensors.items():
                    if tensor is not None:
                        tensors[name] = replaced.setdefault(id(tensor), _emptied(tensor))
        yield


def _emptied(tensor: Tensor) -> Tensor:
    empty = torch.empty(tensor.shape, dtype=tensor.dtype)
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(empty, requires_grad=tensor.requires_grad)
    return empty


class AllKnown(TorchDispatchMode):
    """A mode in which boolean masks select everything, since fake masks have no content."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten.index.Tensor and _is_mask(args[1]):
            return args[0].flatten(0, args[1][0].dim() - 1)
        if func is torch.ops.aten.index_put_.default and _is_mask(args[1]):
            return args[0].copy_(args[2].view(args[0].shape))
        return func(*args, **(kwargs or {}))


def _is_mask(indices: Any) -> bool:
    return len(indices) == 1 and indices[0] is not None and indices[0].dtype == torch.bool


def _batch(model: PortraitModel, sizes: Sizes, count: int) -> Batch:
    """Build a batch of the right shapes, with all references present."""
    backbone, refs = model.backbone, sizes.references
    edge = backbone.latent_size
    cells = backbone.latent_channels, edge, edge
    latents = torch.zeros(count, *cells)
    points = FaceGeometry(torch.zeros(count, 5, 2), torch.ones(count))
    size = backbone.image_size
    person, pixels = torch.ones(count, 1, edge, edge), torch.zeros(count, 3, size, size)
    prompted, seed = torch.ones(count, dtype=torch.bool), torch.zeros(count, dtype=torch.long)
    batch = Batch.to_draw(
        cells,
        backbone.encode_text(["words"] * count),
        FaceFeatures(
            local_=torch.zeros(count, refs, sizes.local_length, sizes.local_dim),
            global_=torch.zeros(count, refs, sizes.global_dim),
            mask=torch.ones(count, refs, dtype=torch.bool),
            latents=latents[:, None].expand(-1, refs, -1, -1, -1) if model.net.latents else None,
        ),
        points,
        points,
        drawing=torch.zeros(count, *model.drawing_shape) if model.net.control else None,
        pictures=Pictures(pixels, pixels, latents, person, prompted, seed),
    )
    return model.transform.lay_out(batch)


def _cost(
    modules: list[nn.Module], use: Callable[[], Any], weights: set[int], seen: set[int]
) -> PartCost:
    own = [each for module in modules for each in module.parameters() if id(each) not in seen]
    seen |= {id(each) for each in own}
    counter = FlopCounterMode(display=False)
    with counter, _Products(counter, weights) as products:
        use()
    attends = [module for each in modules for module in each.modules() if _attends(module)]
    assert products.attention or not attends, (
        f"{type(attends[0]).__name__} ran and no product of attention was counted: "
        f"this version of torch attends by an operation that {__name__} does not know"
    )
    return PartCost(
        trained=sum(each.numel() for each in own if each.requires_grad),
        frozen=sum(each.numel() for each in own if not each.requires_grad),
        layers=products.layers,
        attention=products.attention,
    )


def _attends(module: nn.Module) -> bool:
    return type(module).__name__.endswith("Attention")


class _Products(TorchDispatchMode):
    """A counter of multiply-adds: of layers (products with weights) and of attention.

    A fused attention is counted by its shapes, whatever the operation's name, since torch's counter
    knows only some of them. All other products are counted by torch's counter.
    weights: storages of the model's weights (see _place).
    """

    def __init__(self, counter: FlopCounterMode, weights: set[int]) -> None:
        super().__init__()
        self.counter = counter
        self.weights = weights
        self.layers = 0
        self.attention = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        before = self.counter.get_total_flops()
        result = func(*args, **(kwargs or {}))
        if "scaled_dot_product" in func.__name__:
            self.attention += attention_products(*(each.shape for each in args[:3]))
            return result
        # The counter counts a multiply-add as two operations.
        count = (self.counter.get_total_flops() - before) // 2
        if any(isinstance(each, Tensor) and _place(each) in self.weights for each in args):
            self.layers += count
        else:
            self.attention += count
        return result


def attention_products(query: torch.Size, key: torch.Size, value: torch.Size) -> int:
    """Count the multiply-adds of attention: queries by keys, then the weights by values.

    query [..., Q, d], key [..., K, d], value [..., K, e]: shapes, with equal leading dimensions.
    """
    pairs = query.numel() // query[-1] * key[-2]
    return pairs * (query[-1] + value[-1])


def _storages(model: nn.Module) -> dict[int, int]:
    """Map the storages of a model's parameters and buffers to their bytes, each once."""
    held = (*model.parameters(), *model.buffers())
    return {_place(each): each.untyped_storage().nbytes() for each in held}


def _place(tensor: Tensor) -> int:
    """Return a number that identifies a tensor's storage, equal for all its views."""
    return tensor.untyped_storage()._cdata
