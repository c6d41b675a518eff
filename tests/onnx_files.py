"""Writes tiny onnx files in published formats: the same inputs and outputs, weights of our own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

EYES_NOSE_MOUTH = [-1, -1, 1, -1, 0, 0, -1, 1, 1, 1]
"""Keypoints of every face that `write_yunet` finds, in cells of 8 pixels from its own."""


def _save(path: Path, nodes: list, inputs: list, outputs: list, weights: dict) -> Path:
    graph = helper.make_graph(
        nodes,
        path.stem,
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    opsets = [helper.make_opsetid("", 11)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=6), path)
    return path


def write_yunet(path: Path, *, dynamic: bool = False) -> Path:
    """YuNet's twelve outputs; a cell of 8 x 8 pure blue pixels is a face of four cells.

    dynamic: the input has no size of its own, as in 2026may; else 640 x 640, as in 2023mar.
    """
    nodes, weights, outputs = [], {}, []
    heads = {
        "cls": ([[0.2, -0.2, -0.2]], [-10.0]),
        "obj": ([[0, 0, 0]], [10.0]),
        "bbox": ([[0, 0, 0]] * 4, [0.5, 0.5, np.log(4), np.log(4)]),
        "kps": ([[0, 0, 0]] * 10, EYES_NOSE_MOUTH),
    }
    for stride in (8, 16, 32):
        nodes.append(
            helper.make_node(
                "AveragePool",
                ["input"],
                [f"cells_{stride}"],
                kernel_shape=[stride, stride],
                strides=[stride, stride],
            )
        )
        for head, (slope, offset) in heads.items():
            name = f"{head}_{stride}"
            coarse = -100.0 if head == "cls" and stride > 8 else 0.0
            weights[f"w_{name}"] = np.array(slope, np.float32)[:, :, None, None]
            weights[f"b_{name}"] = np.array(offset, np.float32) + np.float32(coarse)
            weights[f"r_{name}"] = np.array([1, -1, len(offset)], np.int64)
            maps = f"{name}_maps"
            nodes.append(
                helper.make_node("Conv", [f"cells_{stride}", f"w_{name}", f"b_{name}"], [maps])
            )
            if head in ("cls", "obj"):
                nodes.append(helper.make_node("Sigmoid", [maps], [f"{name}_share"]))
                maps = f"{name}_share"
            nodes.append(helper.make_node("Transpose", [maps], [f"{name}_last"], perm=[0, 2, 3, 1]))
            nodes.append(helper.make_node("Reshape", [f"{name}_last", f"r_{name}"], [name]))
    for head, (_, offset) in heads.items():
        for stride in (8, 16, 32):
            cells = f"cells_{stride}" if dynamic else (640 // stride) ** 2
            outputs.append((f"{head}_{stride}", [1, cells, len(offset)]))
    size = ["height", "width"] if dynamic else [640, 640]
    return _save(path, nodes, [("input", [1, 3, *size])], outputs, weights)


def write_sface(path: Path, seed: int = 0) -> Path:
    """SFace 2021dec's input and output: raw RGB crops to 128 numbers."""
    random = np.random.default_rng(seed)
    weights = {
        "mean": np.float32(127.5),
        "scale": np.float32(1 / 128),
        "matrix": random.normal(size=(3 * 7 * 7, 128)).astype(np.float32),
        "flat": np.array([1, -1], np.int64),
    }
    nodes = [
        helper.make_node("Sub", ["data", "mean"], ["centred"]),
        helper.make_node("Mul", ["centred", "scale"], ["scaled"]),
        helper.make_node(
            "AveragePool", ["scaled"], ["cells"], kernel_shape=[16, 16], strides=[16, 16]
        ),
        helper.make_node("Reshape", ["cells", "flat"], ["row"]),
        helper.make_node("MatMul", ["row", "matrix"], ["fc1"]),
    ]
    return _save(path, nodes, [("data", [1, 3, 112, 112])], [("fc1", [1, 128])], weights)


def write_matting(path: Path, size: int | str = 512, channels: int = 1, gain: float = 1.0) -> Path:
    """MODNet's input and output, or with two channels PP-HumanSeg's: green pixels are the person.

    gain: other than 1 gives values that are no shares.
    """
    slope = np.zeros((channels, 3), np.float32)
    slope[-1, 1] = 0.5 * gain
    weights = {
        "w": slope[:, :, None, None],
        "b": np.array([0.0] * (channels - 1) + [0.5 * gain], np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["input", "w", "b"], ["output"]),
        helper.make_node("Neg", ["output"], ["other"]),
    ]
    shape = [1, 3, size, size]
    outputs = [("output", [1, channels, size, size]), ("other", [1, channels, size, size])]
    return _save(path, nodes, [("input", shape)], outputs, weights)
