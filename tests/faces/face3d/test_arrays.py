"""Arrays are read from every published format, and nothing else is, least of all executed."""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from published import Chumpy, python2_pickle
from scipy.sparse import csc_matrix

from portraitlab.faces.face3d import arrays
from portraitlab.faces.face3d.arrays import read_arrays
from portraitlab.support.weights import read_state_dict


@pytest.fixture
def content() -> dict[str, Any]:
    generator = np.random.default_rng(0)
    sparse = generator.normal(size=(4, 7)) * (generator.random((4, 7)) < 0.4)
    return {
        "double": generator.normal(size=(3, 4)),
        "fortran": np.asfortranarray(generator.normal(size=(3, 4, 2))),
        "big endian": generator.normal(size=5).astype(">f4"),
        "faces": generator.integers(0, 9, (6, 3)).astype(np.uint32),
        "sparse": csc_matrix(sparse),
    }


def expect(found: dict[str, Any], content: dict[str, Any]) -> None:
    assert found.keys() == content.keys()
    for name, value in content.items():
        dense = value.toarray() if isinstance(value, csc_matrix) else np.asarray(value)
        np.testing.assert_array_equal(found[name], dense)


def test_a_pickle_of_python_2_with_chumpy_and_scipy(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "generic_model.pkl"
    chumpy = content["fortran"].copy()
    path.write_bytes(python2_pickle({**content, "chumpy": Chumpy(chumpy), "bs_style": "lbs"}))
    expect(read_arrays(path), {**content, "chumpy": chumpy})


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_of_today(tmp_path: Path, content: Any, protocol: int) -> None:
    path = tmp_path / "model.pkl"
    beside = {"version": "1", "number": np.float64(1.5), "words": ["a", None]}
    path.write_bytes(pickle.dumps({**content, **beside}, protocol=protocol))
    expect(read_arrays(path), content)


def test_an_npy_of_a_dict_with_tensors_and_an_npz(tmp_path: Path) -> None:
    table = torch.arange(24).view(4, 6)
    mixed = {"array": np.eye(3), "tensor": table, "strided": table.T[1:, ::2], "half": table.half()}
    path = tmp_path / "landmark_embedding.npy"
    np.save(path, np.array(mixed, dtype=object))
    expect(read_arrays(path), mixed)
    np.savez(tmp_path / "model.npz", **{"f": np.eye(2)})
    expect(read_arrays(tmp_path / "model.npz"), {"f": np.eye(2)})


class Evil:
    """Runs a command when it is unpickled as pickles are."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_command_in_a_pickle_is_refused_by_name_and_not_executed(
    tmp_path: Path, protocol: int
) -> None:
    witness = tmp_path / "executed"
    evil = {"f": np.eye(2), "more": [Evil(f"touch {witness}")]}
    raw = pickle.dumps(evil, protocol=protocol)
    path = tmp_path / "generic_model.pkl"
    path.write_bytes(raw)
    with pytest.raises(
        ValueError, match=r"generic_model\.pkl is refused.*needs (posix|nt)\.system"
    ):
        read_arrays(path)
    assert not witness.exists()
    np.save(tmp_path / "landmark_embedding.npy", np.array(evil, dtype=object))
    with pytest.raises(ValueError, match=r"Nothing of it was executed.*landmark_embedding\.npz"):
        read_arrays(tmp_path / "landmark_embedding.npy")
    assert not witness.exists()
    pickle.loads(raw)  # it would have been, by pickle itself
    assert witness.exists()


def test_a_command_in_torch_weights_is_refused_and_not_executed(tmp_path: Path) -> None:
    witness, path = tmp_path / "executed", tmp_path / "deca_model.tar"
    torch.save({"E_flame": {"w": torch.zeros(1)}, "more": Evil(f"touch {witness}")}, path)
    with pytest.raises(ValueError, match=r"as weights alone: it needs posix\.system\. Nothing of"):
        read_state_dict(path, "face3d.root", part="E_flame")
    assert not witness.exists()
    # The numbers of a tensor inside of an npy are a file of torch's again.
    inside = (torch.storage._load_from_bytes, (path.read_bytes(),))
    hidden = type("Hidden", (), {"__reduce__": lambda self: inside})()
    np.save(tmp_path / "e.npy", np.array({"t": hidden}, dtype=object))
    with pytest.raises(ValueError, match=r"e\.npy .*cannot be read as arrays"):
        read_arrays(tmp_path / "e.npy")
    assert not witness.exists()


@pytest.mark.parametrize(
    ("raw", "named"),
    [
        (b"cbuiltins\neval\n(S'1'\ntR.", r"builtins\.eval"),
        (b"c__builtin__\ngetattr\n.", r"__builtin__\.getattr"),
        (b"(S'true'\nios\nsystem\n.", r"os\.system"),
        (b"\x80\x04\x8c\x05numpy\x8c\x0dndarray.dumps\x93.", r"numpy\.ndarray\.dumps"),
        (b"cnumpy\nload\n.", r"numpy\.load"),
        (b"ccopy_reg\n_reconstructor\n(S'x'\nNNtR.", "an object of 'x'"),
        (b"cnumpy\ndtype\n(S'V8'\ntR.", "numbers of the type 'V8'"),
    ],
)
def test_refused_content_is_named(tmp_path: Path, raw: bytes, named: str) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=f"is refused: beside arrays it needs {named}"):
        read_arrays(path)


def test_a_pickle_cannot_write_into_the_classes_that_stand_for_its_names(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    for module, name in arrays._NAMES:
        kind = arrays._NAMES[module, name]
        before = dict(vars(kind))
        target = f"c{module}\n{name}\n".encode()
        for state in (b"}S'value'\nI1\ns", b"N}S'value'\nI1\ns\x86", b"(N}S'value'\nI1\nsNNNt"):
            path.write_bytes(b"\x80\x02" + target + state + b"b.")
            with pytest.raises(ValueError, match=r"cannot be read as arrays|refused|no arrays"):
                read_arrays(path)
        assert dict(vars(kind)) == before


def test_cut_and_altered_files_end_in_one_message(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "model.pkl"
    whole = python2_pickle({**content, "chumpy": Chumpy(np.eye(2))})
    for end in range(0, len(whole), 7):
        path.write_bytes(whole[:end])
        with pytest.raises(ValueError, match=r"model\.pkl"):
            read_arrays(path)
    generator = np.random.default_rng(0)
    for _ in range(500):
        altered = bytearray(whole)
        for place in generator.integers(0, len(whole), 3):
            altered[place] = generator.integers(0, 256)
        path.write_bytes(bytes(altered))
        try:
            read_arrays(path)
        except ValueError as error:
            assert "model.pkl" in str(error)  # noqa: PT017


def test_damaged_npz_and_objects_in_one_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    np.savez_compressed(path, f=np.random.default_rng(0).normal(size=400))
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 255
    for raw in (b"", whole[:-40], whole[:9], bytes(flipped)):
        path.write_bytes(raw)
        with pytest.raises(ValueError, match=r"model\.npz .*cannot be read as arrays"):
            read_arrays(path)
    witness = tmp_path / "executed"
    np.savez(path, f=np.array(Evil(f"touch {witness}"), dtype=object))
    with pytest.raises(ValueError, match=r"model\.npz .*read as arrays: it is of another kind, or"):
        read_arrays(path)
    assert not witness.exists()


def test_an_npz_of_more_than_arrays_take_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.npz", "w") as archive:
        archive.writestr("f.npy", b"zeros")
        archive.infolist()[0].file_size = 2**29 + 2**20
    with pytest.raises(ValueError, match=r"model\.npz takes 538 MB, and 537 MB is the limit"):
        read_arrays(tmp_path / "model.npz")


@pytest.mark.parametrize("suffix", ["npy", "npz"])
@pytest.mark.parametrize("header", [b"{'descr': '|O', (", b'"""', b"{'descr': '|O'}}"])
def test_an_invalid_header_is_refused(tmp_path: Path, header: bytes, suffix: str) -> None:
    path = tmp_path / f"model.{suffix}"
    raw = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    path.write_bytes(raw)
    if suffix == "npz":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("f.npy", raw)
    with pytest.raises(ValueError, match=rf"model\.{suffix} .*cannot be read as arrays"):
        read_arrays(path)


def test_other_content_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(np.eye(2)))
    with pytest.raises(ValueError, match="has no arrays by name"):
        read_arrays(path)
    np.save(tmp_path / "plain.npy", np.eye(2))
    with pytest.raises(ValueError, match=r"an array of shape \(2, 2\) of float64"):
        read_arrays(tmp_path / "plain.npy")


_POINTER = b"version https://git-lfs.github.com/spec/v1\n"
_PROTOBUF = b"\x08\x07\x12\x07pytorch" + bytes(99)


@pytest.mark.parametrize("suffix", ["npz", "npy", "pkl", "tar", "pth", "onnx", "safetensors"])
def test_nobody_is_advised_to_read_a_file_unsafely(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model.{suffix}"
    arrays_alone = suffix in ("npz", "npy", "pkl")
    pickled = pickle.dumps(torch.zeros(1), protocol=2)
    for raw in (_POINTER, _PROTOBUF, pickled, b"\x80\x02]q\x01.", b""):
        path.write_bytes(raw)
        with pytest.raises(ValueError, match=rf"model\.{suffix} ") as caught:
            read_arrays(path) if arrays_alone else read_state_dict(path, "face3d.root")
        message = str(caught.value)
        assert not re.search("weights_only|allow_pickle|pickle.load|trust", message), message
        assert re.search(r"ownload .*(docs/face3d\.md|again|publisher)", message), message
        if raw == _POINTER:
            assert "(43 bytes) cannot be read as " in message
            assert "it is a Git LFS pointer, whose download was not completed" in message


def test_a_tensor_reaches_nothing_beyond_its_own_numbers(tmp_path: Path) -> None:
    tensor = torch.arange(4)
    rebuild, (storage, *_, hooks) = tensor.__reduce_ex__(2)
    for offset, size, stride in (
        (0, (5,), (1,)),
        (2, (3,), (1,)),
        (0, (2,), (9,)),
        (-1, (1,), (1,)),
    ):
        made = (rebuild, (storage, offset, size, stride, False, hooks))
        far = type("Far", (), {"__reduce__": lambda self, made=made: made})()
        np.save(tmp_path / "far.npy", np.array({"t": far}, dtype=object))
        with pytest.raises(ValueError, match=r"far\.npy .*cannot be read"):
            read_arrays(tmp_path / "far.npy")
