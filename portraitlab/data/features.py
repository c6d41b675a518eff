"""Features of all photos by the frozen models, computed once and cached.

The backbone's UNet is the only frozen network of a training step: latents, text, face features,
identity embeddings and geometry are read from the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import torch
from rich.progress import track
from torch import Tensor, nn

from portraitlab.data.face_masks import draw_face_masks
from portraitlab.data.photos import Photos
from portraitlab.data.schema import encoded
from portraitlab.data.shards import write_shard
from portraitlab.data.table import Rows, ShardTable, records
from portraitlab.diffusion.backbone import Backbone
from portraitlab.faces.alignment import face_crops
from portraitlab.faces.encoder.face_encoder import FaceEncoder, matted
from portraitlab.faces.encoder.models import Recogniser
from portraitlab.support.hashes import weights_fingerprint
from portraitlab.support.precision import frozen_precision
from portraitlab.support.side_by_side import side_by_side
from portraitlab.support.tensor_cache import cached, named
from portraitlab.types import BodyJoints, FaceCoefficients, FaceFeatures, FaceGeometry, TextFeatures

_BATCH = 64

_Columns = dict[str, Tensor]


@dataclass(frozen=True)
class Frozen:
    """The frozen models that encode photos, all on `device`.

    recogniser: of the identity loss (E_id of eq. 7). precision: of FeatureStore's computations, see
    portraitlab.support.precision.frozen_precision.
    """

    encoder: FaceEncoder
    backbone: Backbone
    recogniser: Recogniser
    device: str = "cpu"
    precision: str = "32-true"


@dataclass(frozen=True)
class FeatureStore:
    """Features of the P photos of a store, by row, on the CPU: in memory, or mapped from disk.

    latents [P, c, h, w]; person [P, 1, h, w], the share of each latent cell that shows the person;
    local [P, L, d1]; global_ [P, d2]; identity [P, d2']; geometry [P]; face_masks bool [P, S, S];
    text_features [1 + C] of the empty prompt and the C distinct captions; caption_index [P] long;
    empty_text [1]: the empty prompt's.
    """

    latents: Rows[Tensor]
    person: Rows[Tensor]
    local: Rows[Tensor]
    global_: Rows[Tensor]
    identity: Rows[Tensor]
    geometry: Rows[FaceGeometry]
    face_masks: Rows[Tensor]
    text_features: Rows[TextFeatures]
    caption_index: Rows[Tensor]
    empty_text: TextFeatures

    def text(self, rows: Tensor) -> TextFeatures:
        """Return text features [B] of the captions of photos [B]."""
        return self.text_features[self.caption_index[rows]]

    def references(self, rows: Tensor, mask: Tensor, latents: bool = False) -> FaceFeatures:
        """Return features of references, rows [B, N]; zero where mask [B, N] is False.

        latents: include the latents of the photos.
        """
        return FaceFeatures(
            # Indexing has copied the rows, which are 100 MB at full size: change them in place.
            local_=self.local[rows].float().mul_(mask[..., None, None]),
            global_=self.global_[rows] * mask[..., None],
            mask=mask,
            latents=self.latents[rows] * mask[..., None, None, None] if latents else None,
        )

    def mean_identity(self, rows: Tensor, mask: Tensor) -> Tensor:
        """Return the unit mean identity embedding [B, d2'] of references [B, N] (F_id, eq. 7)."""
        total = (self.identity[rows] * mask[..., None]).sum(dim=-2)
        return nn.functional.normalize(total, dim=-1)

    @classmethod
    def of(
        cls, photos: Mapping[str, Rows[Tensor]], captions: Mapping[str, Rows[Tensor]]
    ) -> FeatureStore:
        """Collect the features from columns by name (portraitlab.data.schema), in any files."""
        text = records(TextFeatures, *(captions.get(name) for name in ("text", "pooled", "sizes")))
        return cls(
            latents=photos["latents"],
            person=photos["person"],
            local=photos["local"],
            global_=photos["global"],
            identity=photos["recogniser"],
            geometry=geometry_of(photos),
            face_masks=photos["face_mask"],
            text_features=text,
            caption_index=photos["caption"],
            empty_text=text[[0]],
        )

    @classmethod
    def cached(cls, cache: Path, store: Photos, frozen: Frozen) -> FeatureStore:
        """Read the features of a store from the cache, or compute and cache them in batches.

        Encoder, backbone and recogniser have a file each, so that changing one of them repeats only
        its own work; another precision repeats all. A damaged file is made again.
        """
        encoder, backbone = frozen.encoder.fingerprint, frozen.backbone.fingerprint
        recogniser = weights_fingerprint(frozen.recogniser)
        precision = frozen_precision(frozen.precision, torch.device(frozen.device))
        about, count = [store.key, precision], len(store)

        def kept(
            recipe: list[str], rows: int, title: str, describe: Callable[[Tensor], _Columns]
        ) -> dict[str, Rows[Tensor]]:
            return cached(
                cache / "features" / f"{named(recipe)}.arrow",
                lambda path: ShardTable([path]).check().loaded(),
                lambda path: write_shard(path, _in_batches(rows, title, describe, frozen)),
            )

        # Encode faces, pictures and captions.
        faces = kept(
            ["faces", *about, encoder], count, "Encoding faces", partial(_faces, store, frozen)
        )
        pictures = kept(
            ["pictures", *about, backbone],
            count,
            "Encoding pictures",
            lambda rows: describe_pictures(store.images(rows), store.person_masks(rows), frozen),
        )
        captions = store.captions.all("caption")
        order = sorted(range(len(captions)), key=captions.__getitem__)  # the empty prompt first
        texts = kept(
            ["texts", *about, backbone],
            len(order),
            "Encoding captions",
            lambda rows: describe_prompts([captions[order[int(row)]] for row in rows], frozen),
        )

        # Embed the identities, by the close-ups where there are some.
        points, see = faces["keypoints"], store.views if store.close_ups else store.images
        identity = kept(
            ["identity", *about, encoder, recogniser],
            count,
            "Embedding identities",
            lambda rows: describe_identity(see(rows), store.view_masks(rows), points[rows], frozen),
        )
        caption = torch.tensor(order).argsort()[store.caption_index]
        stored = store.table.columns()
        # Joints are small, and read in every step: keep them in memory.
        stored |= {
            name: stored[name][range(count)] for name in ("joints", "visible") if name in stored
        }
        known = stored | faces | pictures | identity | {"caption": caption}
        if store.close_ups:
            known |= _placed(stored, range(count))
        return cls.of(known, texts)


def _placed(stored: Mapping[str, Rows[Tensor]], rows: range) -> dict[str, Tensor]:
    """Return the geometry of faces in pictures whose views are close-ups, as they were rendered.

    The shape stays that of the view, where it was fitted.
    """
    return {
        "keypoints": stored["scene_keypoints"][rows],
        "score": torch.ones(len(rows)),
        "expression": stored["true_expression"][rows],
        "pose": stored["true_pose"][rows],
    }


def _in_batches(
    count: int, title: str, describe: Callable[[Tensor], _Columns], frozen: Frozen
) -> list[pa.RecordBatch]:
    """Describe `count` rows in batches, as many at once as the device allows."""
    parts = torch.arange(count).split(_BATCH)
    done = side_by_side(
        lambda rows: encoded({name: tensor.cpu() for name, tensor in describe(rows).items()}),
        parts,
        torch.device(frozen.device),
        frozen.precision,
        frozen.encoder.concurrent,
    )
    return list(track(done, description=title, total=len(parts)))


def _faces(store: Photos, frozen: Frozen, rows: Tensor) -> dict[str, Tensor]:
    views = store.views(rows).to(frozen.device)
    masks = store.view_masks(rows).to(frozen.device)
    geometry = frozen.encoder.analyse(views)
    faces = describe_faces(frozen.encoder, views, masks, geometry)
    if "face_mask" not in store.table:
        faces["face_mask"] = draw_face_masks(frozen.encoder, geometry, masks)
    return faces


@torch.no_grad()
def describe_faces(
    encoder: FaceEncoder, views: Tensor, masks: Tensor, geometry: FaceGeometry
) -> dict[str, Tensor]:
    """Encode the faces of views [B, 3, V, V] in [-1, 1] with person masks bool [B, S, S].

    geometry [B]: of the faces, by the encoder's `analyse` or `fit`. Returns by name: local
    [B, L, d1] in half precision, global [B, d2], and the geometry's tensors.
    """
    local, global_ = encoder.encode(views, masks, geometry)
    described = {"local": local.half(), "global": global_.float()}
    described |= {"keypoints": geometry.keypoints.float(), "score": geometry.score.float()}
    if geometry.coefficients is not None:
        described |= {name: each.float() for name, each in vars(geometry.coefficients).items()}
    return described


def geometry_of(photos: Mapping[str, Rows[Tensor]]) -> Rows[FaceGeometry]:
    """Join the columns of photos, or the output of describe_faces, to geometry."""
    fitted = [photos.get(name) for name in ("shape", "expression", "pose")]
    coefficients = None if fitted[0] is None else records(FaceCoefficients, *fitted)
    joints = [photos.get(name) for name in ("joints", "visible")]
    body = None if joints[0] is None else records(BodyJoints, *joints)
    return records(FaceGeometry, photos["keypoints"], photos["score"], coefficients, body)


@torch.no_grad()
def describe_pictures(images: Tensor, masks: Tensor, frozen: Frozen) -> dict[str, Tensor]:
    """Encode photos [B, 3, S, S], masks [B, S, S] to latents [B, c, h, w], person [B, 1, h, w]."""
    latents = frozen.backbone.encode(images.to(frozen.device)).float()
    size = (latents.shape[-2], latents.shape[-1])
    person = nn.functional.adaptive_avg_pool2d(masks[:, None].float(), size)
    return {"latents": latents, "person": person}


@torch.no_grad()
def describe_prompts(prompts: list[str], frozen: Frozen) -> dict[str, Tensor]:
    """Return text [C, K, dt] of C prompts and, if the backbone has them, pooled and sizes."""
    text = frozen.backbone.encode_text(prompts)
    described = {"text": text.words, "pooled": text.pooled, "sizes": text.sizes}
    return {name: tensor for name, tensor in described.items() if tensor is not None}


@torch.no_grad()
def describe_identity(
    images: Tensor, masks: Tensor, keypoints: Tensor, frozen: Frozen
) -> dict[str, Tensor]:
    """Return recogniser [B, d2'] of the faces with keypoints [B, 5, 2] in photos [B, 3, S, S]."""
    person = matted(images, masks).to(frozen.device)
    crops = face_crops(person, keypoints.to(frozen.device), frozen.recogniser)
    return {"recogniser": frozen.recogniser(crops).float()}
