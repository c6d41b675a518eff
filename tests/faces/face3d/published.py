"""Writes files in the formats that FLAME, DECA and 3DDFA publish, with random numbers.

FLAME's model is a pickle of Python 2, which no Python of today writes, so its instructions are
written out here one by one.
"""

from __future__ import annotations

import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csc_matrix

from portraitlab.faces.face3d.deca import CoarseEncoder
from portraitlab.faces.face3d.mobilenet import MobileNet

VERTICES, FACES, JOINTS = 40, 60, 5
PARENTS = (-1, 0, 1, 1, 1)


def python2_pickle(content: dict[str, Any]) -> bytes:
    """A pickle of protocol 2 as Python 2, numpy 1, scipy and chumpy wrote it."""
    return b"\x80\x02" + _dict(content) + b"."


class Chumpy:
    """Marks an array that is written as a chumpy.Ch."""

    def __init__(self, x: NDArray[Any]) -> None:
        self.x = x


def _dict(content: dict[str, Any]) -> bytes:
    return b"}(" + b"".join(_text(name) + _value(value) for name, value in content.items()) + b"u"


def _text(text: str | bytes) -> bytes:
    raw = text if isinstance(text, bytes) else text.encode("latin1")
    return b"T" + struct.pack("<i", len(raw)) + raw


def _value(value: Any) -> bytes:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Chumpy):
        state = _dict({"x": value.x, "_status": "new"})
        dirty = _text("_dirty_vars") + b"c__builtin__\nset\n]\x85R"
        return b"cchumpy.ch\nCh\n)\x81" + state[:-1] + dirty + b"ub"
    if isinstance(value, csc_matrix):
        shape = _text("_shape") + b"".join(map(_int, value.shape)) + b"\x86"
        parts = {"data": value.data, "indices": value.indices, "indptr": value.indptr}
        state = _dict({"format": "csc", **parts})
        return b"cscipy.sparse.csc\ncsc_matrix\n)\x81" + state[:-1] + shape + b"ub"
    return _array(value)


def _array(array: NDArray[Any]) -> bytes:
    order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
    empty = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + _text("b") + b"\x87R"
    )
    kind = array.dtype.str
    dtype = b"cnumpy\ndtype\n" + _text(kind[1:]) + b"K\x00K\x01\x87R"
    dtype += b"(K\x03" + _text(kind[0]) + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    shape = b"(" + b"".join(map(_int, array.shape)) + b"t"
    fortran = b"\x88" if order == "F" else b"\x89"
    return empty + b"(K\x01" + shape + dtype + fortran + _text(array.tobytes(order)) + b"tb"


def _int(number: int) -> bytes:
    return b"J" + struct.pack("<i", number)


def flame_arrays(generator: np.random.Generator) -> dict[str, Any]:
    """Make the arrays of generic_model.pkl for a small head."""
    sparse = np.zeros((JOINTS, VERTICES))
    for joint in range(JOINTS):
        chosen = generator.choice(VERTICES, 6, replace=False)
        sparse[joint, chosen] = generator.dirichlet(np.ones(6))
    tree = np.array([PARENTS, range(JOINTS)], dtype=np.int64).astype(np.uint32)
    return {
        "f": generator.integers(0, VERTICES, (FACES, 3)).astype(np.uint32),
        "v_template": generator.normal(size=(VERTICES, 3)) * 0.1,
        "shapedirs": generator.normal(size=(VERTICES, 3, 400)) * 0.01,
        "posedirs": np.asfortranarray(generator.normal(size=(VERTICES, 3, 36)) * 0.01),
        "J_regressor": csc_matrix(sparse),
        "J": np.zeros((JOINTS, 3)),
        "kintree_table": tree,
        "weights": generator.dirichlet(np.ones(JOINTS), VERTICES),
        "bs_style": "lbs",
        "bs_type": "lrotmin",
    }


def embedding_arrays(generator: np.random.Generator) -> dict[str, Any]:
    """Make the content of landmark_embedding.npy, a part of it as torch's tensors."""

    def faces(*shape: int) -> NDArray[np.int64]:
        return generator.integers(0, FACES, shape)

    def shares(*shape: int) -> NDArray[np.float64]:
        return generator.dirichlet(np.ones(3), shape)

    return {
        "full_lmk_faces_idx": faces(1, 68),
        "full_lmk_bary_coords": shares(1, 68),
        "dynamic_lmk_faces_idx": torch.from_numpy(faces(79, 17)),
        "dynamic_lmk_bary_coords": torch.from_numpy(shares(79, 17)),
        "static_lmk_faces_idx": faces(51),
        "static_lmk_bary_coords": shares(51),
    }


def write_flame(folder: Path, seed: int = 0) -> tuple[dict[str, Any], dict[str, Any]]:
    """generic_model.pkl and landmark_embedding.npy; returns what is in them."""
    generator = np.random.default_rng(seed)
    model, embedding = flame_arrays(generator), embedding_arrays(generator)
    written = {**model, "shapedirs": Chumpy(model["shapedirs"])}
    (folder / "generic_model.pkl").write_bytes(python2_pickle(written))
    np.save(folder / "landmark_embedding.npy", np.array(embedding, dtype=object))
    return model, embedding


def write_deca(folder: Path, seed: int = 0) -> CoarseEncoder:
    """deca_model.tar; returns the coarse encoder that is in it."""
    torch.manual_seed(seed)
    encoder = CoarseEncoder().eval().requires_grad_(False)
    torch.nn.init.normal_(encoder.layers[2].bias, std=0.5)  # numbers of the size of real ones
    parts = {"E_flame": encoder.state_dict(), "E_detail": {}, "D_detail": {}}
    torch.save(parts, folder / "deca_model.tar")
    return encoder


def write_tddfa(folder: Path, seed: int = 0) -> tuple[MobileNet, dict[str, NDArray[np.float32]]]:
    """The network, scales and bases of 3DDFA; returns the network and the arrays."""
    generator = np.random.default_rng(seed)
    torch.manual_seed(seed)
    network = MobileNet(8, 62).eval().requires_grad_(False)
    weights = {
        f"module.{name.replace('fc.', 'fc_param.')}": weight
        for name, weight in network.state_dict().items()
    }
    more = {"module.fc_lm.weight": torch.zeros(136, 256), "module.fc_lm.bias": torch.zeros(136)}
    torch.save({"epoch": 1, "state_dict": weights | more}, folder / "mb05_120x120.pth")

    def normal(*shape: int, scale: float) -> NDArray[np.float32]:
        return (generator.normal(size=shape) * scale).astype(np.float32)

    # A head of 15 cm that fills most of the crop, as of the published numbers.
    camera = np.array([7e-4, 0, 0, 60, 0, 7e-4, 0, 60, 0, 0, 7e-4, 0], np.float32)
    arrays = {
        "mean": np.concatenate([camera, normal(50, scale=1.0)]),
        "std": np.concatenate([np.abs(camera) * 0.05 + 1e-6, np.abs(normal(50, scale=1.0))]),
        "u": normal(600, 1, scale=5e4),
        "w_shp": normal(600, 40, scale=1e3),
        "w_exp": normal(600, 10, scale=1e3),
        "keypoints": np.concatenate(
            [3 * vertex + np.arange(3) for vertex in generator.choice(200, 68, replace=False)]
        ),
    }
    scales = {name: arrays[name].astype(np.float32) for name in ("mean", "std")}
    (folder / "param_mean_std_62d_120x120.pkl").write_bytes(pickle.dumps(scales, protocol=3))
    rows = arrays["keypoints"]
    np.savez(
        folder / "bfm_68_landmarks.npz",
        u_base=arrays["u"][rows, 0],
        w_shp_base=arrays["w_shp"][rows],
        w_exp_base=arrays["w_exp"][rows],
    )
    return network, arrays
