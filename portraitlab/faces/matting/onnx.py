"""Matting or segmentation by the user's onnx file (in place of PP-Matting, Sec. 3.2)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from portraitlab.faces.matting.base import Matting
from portraitlab.faces.sessions import damage_explained, session_providers
from portraitlab.support.hashes import file_digest
from portraitlab.support.processes import local_rank
from portraitlab.support.weights import PublishedFile, weights_file

_LOG = logging.getLogger(__name__)

_MODNET = PublishedFile(
    what="MODNet",
    fetch="`hf download Xenova/modnet onnx/model.onnx`",
    licence="Apache-2.0",
    size="26 MB",
)
_PPHUMANSEG = PublishedFile(
    what="human_segmentation_pphumanseg_2023mar.onnx (see docs/encoders.md for its settings)",
    fetch="`hf download opencv/human_segmentation_pphumanseg "
    "human_segmentation_pphumanseg_2023mar.onnx`",
    licence="Apache-2.0",
    size="6 MB",
)


class OnnxMatting(Matting):
    """A network from a square RGB image to the person's share of each pixel.

    weights: the onnx file, with one image [1, 3, size, size] as its only input. mean and std: of
    pixels in [0, 1], which are normalised by them. output: name of the matte's output; None for the
    first. channel: the matte's channel for the person. threshold: share from which a pixel counts
    as the person. providers: onnxruntime's, best first; those in use are logged.

    Raises ValueError where the file is missing, damaged, or has other inputs and outputs.
    """

    def __init__(
        self,
        weights: str | None = None,
        size: int = 512,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.5, 0.5, 0.5),
        output: str | None = None,
        channel: int = 0,
        threshold: float = 0.5,
        providers: Sequence[str] = ("CPUExecutionProvider",),
    ) -> None:
        import onnxruntime

        # Load the network.
        path = weights_file(weights, "matting.weights", _MODNET, _PPHUMANSEG)
        wanted = session_providers(providers, "matting.providers", local_rank())
        with damage_explained(path, "Download it again."):
            self._session: Any = onnxruntime.InferenceSession(str(path), providers=wanted)
        ran = ", ".join(self._session.get_providers())
        _LOG.info("matting: %s runs on %s", path.name, ran)
        # Check its inputs and outputs.
        inputs = self._session.get_inputs()
        outputs = [each.name for each in self._session.get_outputs()]
        if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].shape[1] not in (3, "3"):
            found = ", ".join(f"{each.name} {each.shape}" for each in inputs)
            raise ValueError(
                f"matting.weights={weights} has the inputs {found}; a network with one image "
                "[1, 3, H, W] is needed, such as MODNet."
            )
        fixed = [edge for edge in inputs[0].shape[2:] if isinstance(edge, int) and edge != size]
        if fixed:
            raise ValueError(
                f"matting.weights={weights} takes images {inputs[0].shape}; "
                f"give matting.size={fixed[0]} instead of {size}."
            )
        if output is not None and output not in outputs:
            raise ValueError(
                f"matting.output={output} is not an output of {weights}, which has "
                f"{', '.join(outputs)}."
            )
        # Keep the settings, and hash all that determines a mask.
        self._input, self._output = inputs[0].name, output or outputs[0]
        self.size, self.channel, self.threshold = size, channel, threshold
        self._mean, self._std = (np.array(each, np.float32)[:, None, None] for each in (mean, std))
        settings = (size, list(mean), list(std), self._output, channel, threshold)
        self.fingerprint = f"onnx {settings} {file_digest(path)}"

    def person(self, portrait: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Compute the mask [H, W] of a portrait uint8 [H, W, 3] RGB from the resized matte."""
        # Predict the matte of the resized portrait.
        height, width = portrait.shape[:2]
        square = Image.fromarray(portrait).resize((self.size, self.size), Image.Resampling.BILINEAR)
        pixels = np.asarray(square, np.float32).transpose(2, 0, 1) / 255
        (matte,) = self._session.run(
            [self._output], {self._input: ((pixels - self._mean) / self._std)[None]}
        )
        if matte.ndim != 4 or not -matte.shape[1] <= self.channel < matte.shape[1]:
            raise ValueError(
                f"matting.channel={self.channel} is not a channel of the output {self._output} "
                f"{list(matte.shape)}; [1, channels, H, W] is needed. Choose another "
                "matting.output or matting.channel."
            )
        # Resize it to the portrait.
        share = matte[0, self.channel].astype(np.float32)
        if share.min() < -0.01 or share.max() > 1.01:
            raise ValueError(
                f"The output {self._output} has values from {share.min():.3g} to "
                f"{share.max():.3g}, and a matte has values from 0 to 1. Choose another "
                "matting.output, or weights that end in a sigmoid or softmax."
            )
        enlarged = Image.fromarray(share).resize((width, height), Image.Resampling.BILINEAR)
        return np.asarray(enlarged) >= self.threshold
