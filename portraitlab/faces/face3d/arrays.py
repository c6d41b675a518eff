"""Read arrays from published model files without executing anything in them.

FLAME, DECA and 3DDFA publish arrays as pickles, and a pickle is a program: it names functions and
calls them. This reader looks every name up in one table of inert classes, which only store their
arguments; a name that is not in the table raises an error before anything is called.
"""

from __future__ import annotations

import io
import math
import pickle
import re
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray

from portraitlab.support.weights import check_unpacked, unreadable

_MOST_BYTES = 2**29
"""Largest content of an .npz; the arrays of published models take up to 250 MB."""
_MALFORMED = (
    pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError,
    RuntimeError, OverflowError, MemoryError, zipfile.BadZipFile, zlib.error,
    SyntaxError, tokenize.TokenError,  # numpy reads a header as Python's text
)  # fmt: skip
"""Errors that a truncated or forged file raises while it is read."""


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read the arrays of a file by name: .npz, .npy of a dict, or else a pickle of a dict.

    Sparse matrices become dense; chumpy's and torch's arrays become numpy's. Entries that are not
    arrays, such as a string with the model's type, are skipped. Raises ValueError where the file
    is damaged, is not a dict, or names anything but arrays.
    """
    try:
        with path.open("rb") as file:
            if path.suffix == ".npz":
                with np.load(file, allow_pickle=False) as archive:
                    check_unpacked(archive.zip, path, _MOST_BYTES)
                    return {name: archive[name] for name in archive.files}
            found = _read_npy(file) if path.suffix == ".npy" else _Reader(file).load()
    except _Refused as refusal:
        raise ValueError(
            f"{path} is refused: beside arrays it needs {refusal}, which no model file should. "
            "Nothing of it was executed. Download the file from its publisher, or save its arrays "
            f"as {path.with_suffix('.npz').name} with numpy.savez."
        ) from refusal
    except (*_MALFORMED, OSError) as error:
        raise ValueError(
            f"{path} ({path.stat().st_size if path.is_file() else 0} bytes) cannot be read as "
            f"arrays: {unreadable(path, error)}. Download it again (see docs/face3d.md)."
        ) from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} has no arrays by name; download the published file again.")
    # Keep the entries that are arrays.
    arrays = {str(name): _as_array(value) for name, value in found.items()}
    return {name: array for name, array in arrays.items() if array is not None}


class _Refused(pickle.UnpicklingError):
    """A pickle names something that is not in the table."""


class _Inert:
    """A stand-in for a name in a pickle, which accepts any arguments and does nothing with them.

    All stand-ins define `__setstate__`: without it, pickle would write attributes into whatever
    object the file points at, our classes included.
    """

    def __new__(cls, *_: Any) -> _Inert:
        return object.__new__(cls)

    def __setstate__(self, state: Any) -> None:
        """Ignore the state."""


class _Dtype(_Inert):
    """A stand-in for numpy.dtype, of plain numbers or of objects."""

    code: str
    order = "="

    def __new__(cls, code: Any = "", *_: Any) -> _Dtype:
        if not re.fullmatch(r"[biuf]\d+|O\d*", str(code)):
            raise _Refused(f"numbers of the type {code!r}")
        dtype = object.__new__(cls)
        dtype.code = str(code)
        return dtype

    def __setstate__(self, state: Any) -> None:
        self.order = _text(state[1])

    def numbers(self) -> np.dtype[Any]:
        """Return numpy's dtype of plain numbers."""
        if self.order not in ("<", ">", "=", "|"):
            raise _Refused(f"numbers of the byte order {self.order!r}")
        return np.dtype(self.order + self.code)


class _Array(_Inert):
    """A stand-in for numpy.ndarray, and for numpy's function that makes an empty one."""

    value: NDArray[Any] | None = None
    objects: Any = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        if not isinstance(dtype, _Dtype):
            raise _Refused("an array without a type")
        if dtype.code.startswith("O"):
            self.objects = data
            return
        raw = data.encode("latin1") if isinstance(data, str) else bytes(data)  # str: Python 2's
        flat = np.frombuffer(raw, dtype.numbers())
        self.value = flat.reshape(shape, order="F" if fortran else "C").copy()


class _Buffer(_Inert):
    """A stand-in for numpy's function that makes an array of bytes, in pickles since Python 3.8."""

    def __new__(  # type: ignore[misc]
        cls, data: Any = b"", dtype: Any = None, shape: Any = (), order: Any = "C", *_: Any
    ) -> _Array:
        array = _Array()
        array.__setstate__((1, shape, dtype, order == "F", data))
        return array


class _Sparse(_Inert):
    """A stand-in for scipy.sparse.csc_matrix."""

    value: NDArray[Any] | None = None

    def __setstate__(self, state: Any) -> None:
        from scipy.sparse import csc_array

        parts = [_as_array(state[name]) for name in ("data", "indices", "indptr")]
        matrix = csc_array(tuple(parts), shape=tuple(state["_shape"]))
        matrix.check_format(full_check=True)
        self.value = matrix.toarray()


class _Chumpy(_Inert):
    """A stand-in for chumpy.Ch, a differentiable array: its content is its `x`."""

    value: NDArray[Any] | None = None

    def __setstate__(self, state: Any) -> None:
        self.value = _as_array(state["x"])


class _Storage(_Inert):
    """A stand-in for the storage of a torch tensor, saved as a torch file of its own."""

    flat: torch.Tensor

    def __new__(cls, data: Any = b"", *_: Any) -> _Storage:
        storage = object.__new__(cls)
        kept = torch.load(io.BytesIO(bytes(data)), map_location="cpu", weights_only=True)
        storage.flat = torch.empty(0, dtype=kept.dtype).set_(kept)
        return storage


class _Tensor(_Inert):
    """A stand-in for torch.Tensor, of a storage, offset, size and strides."""

    value: NDArray[Any]

    def __new__(
        cls, storage: Any = None, offset: Any = 0, size: Any = (), stride: Any = (), *_: Any
    ) -> _Tensor:
        if not isinstance(storage, _Storage):
            raise _Refused("a tensor without a storage")
        tensor = object.__new__(cls)
        tensor.value = storage.flat.as_strided(size, stride, offset).numpy().copy()
        return tensor


class _Rebuilt(_Inert):
    """A stand-in for Python's function that makes an empty object, here of an inert class only."""

    def __new__(cls, kind: Any = None, *_: Any) -> _Inert:  # type: ignore[misc]
        if not (isinstance(kind, type) and issubclass(kind, _Inert)):
            raise _Refused(f"an object of {kind!r}")
        return object.__new__(kind)


class _Encoded(_Inert):
    """A stand-in for `_codecs.encode`, Python 3's notation of bytes in pickles of Python 2."""

    def __new__(cls, text: Any = "", encoding: Any = "latin1") -> bytes:  # type: ignore[misc]
        if encoding != "latin1":
            raise _Refused(f"bytes encoded as {encoding!r}")
        return str(text).encode("latin1")


_NAMES: dict[tuple[str, str], type[_Inert]] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy.core.numeric", "_frombuffer"): _Buffer,
    ("numpy._core.numeric", "_frombuffer"): _Buffer,
    ("scipy.sparse.csc", "csc_matrix"): _Sparse,
    ("scipy.sparse._csc", "csc_matrix"): _Sparse,
    ("chumpy.ch", "Ch"): _Chumpy,
    ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
    ("torch.storage", "_load_from_bytes"): _Storage,
    ("_codecs", "encode"): _Encoded,
    ("copy_reg", "_reconstructor"): _Rebuilt,
    ("copyreg", "_reconstructor"): _Rebuilt,
    # Entries beside the arrays, which are skipped.
    ("numpy.core.multiarray", "scalar"): _Inert,
    ("numpy._core.multiarray", "scalar"): _Inert,
    ("collections", "OrderedDict"): _Inert,
    ("__builtin__", "object"): _Inert,
    ("builtins", "object"): _Inert,
    ("__builtin__", "set"): _Inert,
    ("builtins", "set"): _Inert,
}


class _Reader(pickle.Unpickler):
    """An unpickler that looks names up in the table only."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, encoding="latin1")

    def find_class(self, module: str, name: str) -> type[_Inert]:
        """Look a name up. Raises _Refused for one that is not in the table."""
        if (module, name) not in _NAMES:
            raise _Refused(f"{module}.{name}")
        return _NAMES[module, name]


def _read_npy(file: BinaryIO) -> Any:
    """Read the one object of a .npy file with a zero-dimensional array of objects."""
    version = npy.read_magic(file)
    header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = header(file)
    if math.prod(shape) != 1 or not dtype.hasobject:
        raise ValueError(f"an array of shape {shape} of {dtype} instead of a dict of arrays")
    array = _Reader(file).load()
    if not (isinstance(array, _Array) and isinstance(array.objects, list) and array.objects):
        raise ValueError("not an array of one object")
    return array.objects[0]


def _as_array(value: Any) -> NDArray[Any] | None:
    if isinstance(value, _Array | _Sparse | _Chumpy | _Tensor):
        return value.value
    return None


def _text(value: Any) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)
