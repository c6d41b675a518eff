"""Loops over pixels and vertices, compiled by numba, for which numpy needs several passes.

None is compiled with fastmath: results equal those of numpy's operations in the same order, bit by
bit.
"""

from __future__ import annotations

import numpy as np

from portraitlab.world.compiled import compiled
from portraitlab.world.mesh import Array


@compiled()
def blend(image: Array, alpha: Array, colour: Array) -> None:
    """Paint colour [3] over image [H, W, 3 or more] in place; alpha [H, W] in [0, 1]."""
    for row in range(alpha.shape[0]):
        for column in range(alpha.shape[1]):
            share = alpha[row, column]
            if share != 0.0:
                for k in range(3):
                    over = colour[k] - image[row, column, k]
                    image[row, column, k] += share * over


@compiled()
def block_means(fine: Array, side: int) -> Array:
    """Average blocks of an image [H, W, C] to [H / side, W / side, C]; side: a power of two."""
    height, width, channels = fine.shape
    means = np.zeros((height // side, width // side, channels), np.float32)
    share = np.float32(1.0 / (side * side))
    for row in range(height):
        for column in range(width):
            for k in range(channels):
                means[row // side, column // side, k] += fine[row, column, k]
    return means * share


@compiled()
def covered(labels: np.ndarray, side: int) -> np.ndarray:
    """Return True for blocks [H / side, W / side] of labels [H, W] that are mostly not 0."""
    height, width = labels.shape
    counts = np.zeros((height // side, width // side), np.int32)
    for row in range(height):
        for column in range(width):
            counts[row // side, column // side] += labels[row, column] > 0
    return 2 * counts > side * side


@compiled()
def owners(labels: np.ndarray, side: int, parts: int, people: int) -> np.ndarray:
    """Return the person who fills most of each block [H / side, W / side] of labels [H, W].

    Labels of person number n start at n * parts; the background's label is 0.
    """
    height, width = labels.shape[0] // side, labels.shape[1] // side
    most = np.zeros((height, width), np.int64)
    counts = np.zeros(people, np.int64)
    for row in range(height):
        for column in range(width):
            counts[:] = 0
            for down in range(side):
                for right in range(side):
                    label = labels[row * side + down, column * side + right]
                    if label > 0:
                        counts[label // parts] += 1
            most[row, column] = np.argmax(counts)
    return most


@compiled()
def placed(turned: Array, x: float, y: float, scale: float, size: float, nearer: float) -> Array:
    """Convert vertices [V, 3] in head units to pixel x, y (down) and depth [V, 3].

    x, y: head's centre, and scale: head unit, in image fractions; size: pixels per side.
    """
    points = np.empty_like(turned)
    for v in range(len(turned)):
        points[v, 0] = (x + scale * turned[v, 0]) * size
        points[v, 1] = (y - scale * turned[v, 1]) * size
        points[v, 2] = scale * turned[v, 2] + nearer
    return points
