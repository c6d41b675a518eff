"""The dataclasses through which components meet.

Every tensor's shape is written beside its name: B batch, N references, L tokens of one
reference, T identity tokens of one reference, d the width of identity tokens, d1 and d2 the widths
of local and global face features, H and W pixels, c, h and w the latents' channels and size, P
people of one picture. A picture of one person has no dimension P.

Images are floats in [-1, 1], channels first. Points are fractions of the image, (x, y) from the
top-left corner. Angles are radians. Masks are boolean and True where something is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class TensorRecord:
    """A frozen dataclass of tensors, or of records of tensors, that is moved and indexed as one."""

    def changed(self, function: Any) -> Self:
        """Return the record with a function applied to each of its tensors, at any depth."""
        changed: dict[str, Any] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, Tensor):
                changed[each.name] = function(value)
            elif isinstance(value, TensorRecord):
                changed[each.name] = value.changed(function)
        return replace(self, **changed)

    def to(self, device: torch.device | str) -> Self:
        """Move the record to a device."""
        return self.changed(lambda tensor: tensor.to(device))

    def __getitem__(self, index: Any) -> Self:
        """Index every tensor along its first dimension."""
        return self.changed(lambda tensor: tensor[index])

    def folded(self) -> Self:
        """Join the first two dimensions of every tensor: [B, P, …] to [B·P, …]."""
        return self.changed(lambda tensor: tensor.flatten(0, 1))

    def __len__(self) -> int:
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, Tensor | TensorRecord):
                return len(value)
        raise TypeError(f"{type(self).__name__} has no tensor, so it has no length")

    @classmethod
    def cat(cls, records: Sequence[Self]) -> Self:
        """Join records along the first dimension; a field that is None must be None in all."""
        joined: dict[str, Any] = {}
        for each in (each for each in fields(cls) if each.init):
            values = [getattr(record, each.name) for record in records]
            if isinstance(values[0], Tensor):
                joined[each.name] = torch.cat(values)
            elif isinstance(values[0], TensorRecord):
                joined[each.name] = type(values[0]).cat(values)
            else:
                joined[each.name] = values[0]
        return cls(**joined)


@dataclass(frozen=True)
class TextFeatures(TensorRecord):
    """Prompts encoded by the backbone's text encoders.

    words [B, K, dt]: token features for cross-attention. pooled [B, p] and sizes [B, 6] are added
    to the time embedding of a backbone such as SDXL (Podell et al., 2023, Sec. 2.2), None for
    others: pooled is the prompt's embedding; sizes are the original's height and width, the corner
    of its crop, and the height and width to draw, all in pixels.
    """

    words: Tensor
    pooled: Tensor | None = None
    sizes: Tensor | None = None

    @property
    def added(self) -> dict[str, Tensor] | None:
        """Inputs to add to the time embedding, by diffusers' names; None without them."""
        if self.pooled is None or self.sizes is None:
            return None
        return {"text_embeds": self.pooled, "time_ids": self.sizes}

    def expand(self, count: int) -> TextFeatures:
        """Repeat the features of one prompt [1, …] for `count` samples."""
        return self.changed(lambda tensor: tensor.expand(count, *tensor.shape[1:]))

    def where(self, chosen: Tensor, other: TextFeatures) -> TextFeatures:
        """Take these features where chosen bool [B], else the other's; each [B, …] or [1, …]."""

        def pick(one: Tensor, two: Tensor) -> Tensor:
            return torch.where(chosen.view(-1, *[1] * (one.dim() - 1)), one, two)

        words = pick(self.words, other.words)
        if self.pooled is None or self.sizes is None:
            return TextFeatures(words)
        assert other.pooled is not None
        assert other.sizes is not None
        return TextFeatures(words, pick(self.pooled, other.pooled), pick(self.sizes, other.sizes))


@dataclass(frozen=True)
class FaceCoefficients(TensorRecord):
    """Coefficients of a 3D morphable model (HiFi-Portrait, Sec. 3.2, landmark generator).

    shape [B, S] and expression [B, E]: coefficients of the model's bases, of about unit variance.
    pose [B, 6]: yaw, pitch, roll in radians, then the weak-perspective camera: scale (image
    fraction per head unit) and the x, y of the head's origin as image fractions.
    """

    shape: Tensor
    expression: Tensor
    pose: Tensor


@dataclass(frozen=True)
class BodyJoints(TensorRecord):
    """OpenPose's 18 joints of a body.

    points [B, 18, 2]: nose, neck, then shoulder, elbow, wrist of the person's right arm and of the
    left, hip, knee, ankle of the right leg and of the left, right and left eye, right and left ear.
    visible [B, 18]: 1 for a joint in the picture that nothing hides, else 0.
    """

    points: Tensor
    visible: Tensor


@dataclass(frozen=True)
class FaceGeometry(TensorRecord):
    """Position of the face in each photo, and of the body where it is known.

    keypoints [B, 5, 2]: image-left eye, image-right eye, nose tip, image-left and image-right
    mouth corner (the order of the ArcFace template). score [B] in [0, 1]: the detector's
    confidence that there is a face; 0 for a person who is not there. coefficients: None where no
    3DMM was fitted. body: None where no joints were found.
    """

    keypoints: Tensor
    score: Tensor
    coefficients: FaceCoefficients | None = None
    body: BodyJoints | None = None


@dataclass(frozen=True)
class Candidates:
    """The references of B samples, among which a selection chooses the shape, and their targets.

    references: geometry [B, N]. mask [B, N]: False where a sample has fewer. target: geometry [B].
    quality [B, N] in [0, 1]: a face quality model's scores of the references; None without such a
    model. identities: B names. photos: N names for each of them, and target_photos one; names are
    empty where they are not needed.
    """

    references: FaceGeometry
    mask: Tensor
    target: FaceGeometry
    quality: Tensor | None = None
    identities: Sequence[str] = ()
    photos: Sequence[Sequence[str]] = ()
    target_photos: Sequence[str] = ()


@dataclass(frozen=True)
class FaceFeatures(TensorRecord):
    """Features of N references of one identity by frozen encoders (HiFi-Portrait, Sec. 3.2).

    local_ [B, N, L, d1]: patch tokens of the image encoder. global_ [B, N, d2]: recogniser
    embeddings, unit length. mask [B, N]: False where a sample has fewer references than N; masked
    features are zero and must have no influence. latents [B, N, c, h, w]: the whole photos encoded
    by the autoencoder, for a net that reads them; None for all others.
    """

    local_: Tensor
    global_: Tensor
    mask: Tensor
    latents: Tensor | None = None

    def padded(self, references: int) -> Self:
        """Append masked references of zeros, so that there are N = `references`."""

        def pad(tensor: Tensor) -> Tensor:
            shape = len(tensor), references - tensor.shape[1], *tensor.shape[2:]
            return torch.cat([tensor, tensor.new_zeros(shape)], dim=1)

        return self.changed(pad)


@dataclass(frozen=True)
class Regions(TensorRecord):
    """The regions of a picture in which identity tokens act (FPGA, Sec. 3.1).

    areas [B, P, h, w] bool: one region for each person, in latent cells. owner [B, K] long: the
    person whose region each token acts in; -1 for a token that acts everywhere. masks: computed
    from these by the number of an attention's queries, once for all layers and noise levels.
    """

    areas: Tensor
    owner: Tensor
    masks: dict[int, Tensor] = field(init=False, default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class IdentityTokens(TensorRecord):
    """Identity tokens [B, N·T, d] of a fusion; mask [B, N·T] is False for masked references.

    regions: where each token acts; None is everywhere. Of P people there are P·N·T tokens.
    """

    tokens: Tensor
    mask: Tensor
    regions: Regions | None = None

    def after(self, words: Tensor) -> IdentityTokens:
        """Append the tokens to a prompt's features [B, K, d], which act everywhere."""
        known = self.mask.new_ones(words.shape[:2])
        regions = self.regions
        if regions is not None:
            everywhere = regions.owner.new_full(words.shape[:2], -1)
            owner = torch.cat([everywhere, regions.owner], dim=1)
            regions = Regions(regions.areas, owner)
        return IdentityTokens(
            torch.cat([words, self.tokens], dim=1), torch.cat([known, self.mask], dim=1), regions
        )


@dataclass(frozen=True)
class ReferenceMaps(TensorRecord):
    """Feature maps of the references, one for each attention that reads them.

    layers: IdentityTokens [B, N·T, C], each with its own T cells per reference and width C.
    """

    layers: tuple[IdentityTokens, ...]

    def changed(self, function: Any) -> Self:
        """Return the record with a function applied to each of its tensors."""
        return replace(self, layers=tuple(layer.changed(function) for layer in self.layers))

    def __len__(self) -> int:
        return len(self.layers[0])


@dataclass(frozen=True)
class Pictures(TensorRecord):
    """The pictures that are laid side by side (IC-Portrait, eqs. 1 and 2).

    style [B, 3, H, W]: the target in training; in drawing the picture whose light, pose and
    surroundings are kept. profile [B, 3, H, W]: a photo of the person, with its latents
    [B, c, h, w] and person [B, 1, h, w], the share of each latent cell that shows the person.
    prompted bool [B]: False where the profile is dropped as a prompt, as guidance needs. seed [B]
    long: seed of the pixels that are sampled from the style.
    """

    style: Tensor
    profile: Tensor
    latents: Tensor
    person: Tensor
    prompted: Tensor
    seed: Tensor


@dataclass(frozen=True)
class Batch(TensorRecord):
    """Training or scoring samples: one target and up to N references of the same identity.

    latents [B, c, h, w]: the target encoded by the autoencoder, scaled. text [B]: its prompt (the
    empty one where it is dropped). references: features of the references. shape_geometry:
    geometry of the one reference whose 3D shape draws the landmarks (Sec. 3.3). target_geometry:
    geometry of the target. identity [B, d2']: mean unit embedding of the references by the
    recogniser of the identity loss (F_id of eq. 7). person [B, 1, h, w] in [0, 1]: share of each
    latent cell that shows the person. target_index [B] long: the target's row in the photo store.
    drawing: the control image in the form that the net reads (see Condition), where precomputed.
    face_mask [B, h, w] in [0, 1]: share of each latent cell that shows the target's face.
    pictures: pixels of the target and of a reference. Both are None unless a part of the method
    wants them.

    Of a picture of several people, references, shape_geometry and target_geometry have a dimension
    P after B, and regions [B, P, h, w] bool are the latent cells in which each person's tokens act.
    All references of a person who is not there are masked. regions is None for one person.

    clones [B, 2, 4]: boxes of the two copies of each face, left, top, right and bottom as fractions
    of the picture, where a transform has laid the pictures beside themselves; else None.
    """

    latents: Tensor
    text: TextFeatures
    references: FaceFeatures
    shape_geometry: FaceGeometry
    target_geometry: FaceGeometry
    identity: Tensor
    person: Tensor
    target_index: Tensor
    drawing: Tensor | None = None
    face_mask: Tensor | None = None
    pictures: Pictures | None = None
    regions: Tensor | None = None
    clones: Tensor | None = None

    @classmethod
    def to_draw(
        cls,
        cells: tuple[int, int, int],
        text: TextFeatures,
        references: FaceFeatures,
        shape_geometry: FaceGeometry,
        target_geometry: FaceGeometry,
        **further: Any,
    ) -> Batch:
        """Make a batch to draw from; the fields that only losses read are zeros.

        cells: c, h and w of the latents. further: fields that may be None.
        """
        latents = target_geometry.keypoints.new_zeros(len(target_geometry), *cells)
        return cls(
            latents=latents,
            text=text,
            references=references,
            shape_geometry=shape_geometry,
            target_geometry=target_geometry,
            identity=latents.new_zeros(len(latents), 0),
            person=latents[:, :1],
            target_index=latents.new_zeros(len(latents), dtype=torch.long),
            **further,
        )


@dataclass(frozen=True)
class Condition(TensorRecord):
    """The inputs that steer the backbone and are the same at all noise levels.

    text [B]. tokens: None with fusion=none. drawing: the control image in the form that the net
    reads, latents [B, c, h, w] or pixels [B, 3, H, W], or features of it by a net that encodes it
    once for all noise levels; None with cond=none. references: maps by a net that reads the
    references' latents, None for all others.
    """

    text: TextFeatures
    tokens: IdentityTokens | None
    drawing: Tensor | None
    references: ReferenceMaps | None = None


@dataclass(frozen=True)
class Injection:
    """The additions of a net to the frozen backbone at one noise level.

    down and mid: residuals added to the UNet's skip connections and middle block (ControlNet).
    attention: input of the UNet's attentions that a net has adapted: the same identity tokens for
    all, beside the text (IP-Adapter) or appended to it (PhotoMaker, TextConcat), or each
    attention's layer of the references' maps (FlashFace). gate [B]: weight of what this adds to an
    attention's output; None is 1. unet: a UNet of diffusers' that runs in place of the backbone's
    (RepControlNet). features [B, C, h, w]: added to the output of that UNet's first convolution,
    which takes them as further channels of its input. All None changes nothing.

    attended [B, h'·w', C]: identity output of the branch's first cross-attention, for terms of the
    objective; the backbone does not read it.
    """

    down: tuple[Tensor, ...] | None = None
    mid: Tensor | None = None
    attention: IdentityTokens | ReferenceMaps | None = None
    gate: Tensor | None = None
    attended: Tensor | None = None
    unet: nn.Module | None = None
    features: Tensor | None = None


@dataclass(frozen=True)
class View(TensorRecord):
    """The judge's measurements of B images.

    identity [B, e]: the judging recogniser's unit embedding of the aligned face. face [B, e']: the
    CLIP pair's unit embedding of the aligned face. picture [B, e']: that of the whole image.
    features [B, f]: the whole image's features for FID. expression [B, E]: coefficients.
    pose [B, 3]: yaw, pitch, roll in radians. has_face [B] bool: where it is False, only picture,
    features and dino are meaningful. further [B, J, e'']: unit embeddings by J further recognisers,
    each padded with zeros to the longest. faces [B] long: number of faces found in the whole image.

    shading [B, K, K] in [0, 1]: mean luminance in a grid of cells of the aligned face, see
    portraitlab.scoring.shading. dino [B, f']: a self-supervised encoder's unit embedding of the
    whole image. face_features [B, f]: features for FID of the close-up of the face, which is the
    whole image of a portrait. All three are None where no metric reads them.

    Of an image of several people, B counts the people: each has a view of their face in it, and
    has_face is False where no face is found at the person's place.
    """

    identity: Tensor
    face: Tensor
    picture: Tensor
    features: Tensor
    expression: Tensor
    pose: Tensor
    has_face: Tensor
    further: Tensor
    faces: Tensor
    shading: Tensor | None = None
    dino: Tensor | None = None
    face_features: Tensor | None = None


@dataclass(frozen=True)
class Population:
    """M real photos as a set, which all samples are measured against alike.

    features [M, f]: FID's features of the whole photos. deviation [E]: standard deviation of each
    expression coefficient over the photos. face_features [F, f]: FID's features of close-ups of all
    faces that are found in the photos; None where no metric reads them.
    """

    features: Tensor
    deviation: Tensor
    face_features: Tensor | None = None


@dataclass(frozen=True)
class DrawingCost:
    """The cost of drawing one picture alone on this machine.

    gigabytes: peak GPU memory in 10^9 bytes; NaN on a CPU. unet_calls: number of UNet calls.
    """

    seconds: float
    gigabytes: float
    unet_calls: int


@dataclass(frozen=True)
class Judged(TensorRecord):
    """The input of metrics: B generated images with the images that they are compared with.

    generated, target: views [B]. references: views [B, R] of up to R real photos of the same
    identity, neither conditioned on nor the target; has_face is False where there are fewer.
    conditioned: views [B, N] of the references conditioned on. text [B, e']: the prompt's unit
    embedding by the CLIP pair. identity [B] long: a number for each person. alone [B, e']: the unit
    embedding of the backbone's image without a net, from the same prompt and noise; NaN where it
    was not drawn. image [B] long: number of the image that a person is in; the people of an image
    follow each other. population: real photos of other people, the same for all rows. cost: cost of
    one image; None for photos, and where no metric reads it. light [B, 3]: unit vector to the
    directional light that the target was rendered in, in the camera's frame (x to the image's
    right, y up, z at the viewer); None for other photos, and where no metric reads it.
    """

    generated: View
    target: View
    references: View
    conditioned: View
    text: Tensor
    identity: Tensor
    alone: Tensor
    image: Tensor
    population: Population
    cost: DrawingCost | None = None
    light: Tensor | None = None

    @property
    def first(self) -> Tensor:
        """True for the first person of each image, bool [B]: for what counts images once."""
        before = functional.pad(self.image, (1, 0), value=-1)[:-1]
        return self.image != before
