"""Reads embeddings: npz as ``mqmha embed`` writes it, Kaldi archives, folders of .npy. Nothing is ever unpickled."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mqmha_jax.atomic import replacing
from mqmha_jax.data.ids import check_id, plain_id
from mqmha_jax.data.kaldi_vectors import read_archive, read_script
from mqmha_jax.errors import UserError
from mqmha_jax.npz_file import open_npz, read_npy
from mqmha_jax.types import Embeddings

_VALID = "an .npz with ids and vectors, a Kaldi .ark or .scp, or a folder of .npy files"


def read_embeddings(path: str | Path) -> Embeddings:
    """Reads embeddings of utterances.

    Args:
      path: an npz with ``ids [N]`` and ``vectors [N, E]``; a Kaldi archive ``.ark`` or its table ``.scp``; or a folder
        of files ``id.npy`` with one vector each; the id is the path below the folder without ``.npy``.

    Returns:
      Embeddings in the order of the file, or for a folder in the order of the ids; float32.

    Raises:
      UserError: the path cannot be read, an id appears twice or is not valid, the sizes differ, or a value is not
        finite.
    """
    path = Path(path)
    if path.is_dir():
        return _stack_vectors(path, _folder_vectors(path))
    if not path.is_file():
        raise UserError(f"{path}: no such file or folder; valid: {_VALID}.")
    match path.suffix:
        case ".npz":
            return _npz_embeddings(path)
        case ".ark":
            return _stack_vectors(path, read_archive(path))
        case ".scp":
            return _stack_vectors(path, read_script(path))
    raise UserError(f"{path}: embeddings cannot be read from a file that ends in {path.suffix!r}; valid: {_VALID}.")


def read_mean(path: Path) -> Float[np.ndarray, " E"]:
    """The mean embedding that a run keeps (``mean_embedding-STEP.npz``), or the mean of a file of embeddings.

    Raises:
      UserError: the file cannot be read, or its mean is not finite.
    """
    if path.suffix == ".npz":
        with open_npz(path, advice=f"No mean can be read; valid: {_VALID}, or a run's mean embedding.") as archive:
            if "mean" in archive.files:
                mean = archive["mean"]
                if mean.ndim != 1 or mean.dtype.kind != "f" or not np.isfinite(mean).all():
                    raise UserError(f"{path} holds no mean [E] of finite numbers, but {mean.dtype} {mean.shape}.")
                return mean
    return read_embeddings(path).vectors.mean(axis=0)


def write_embeddings(path: Path, embeddings: Embeddings) -> None:
    """Writes an npz file that ``read_embeddings`` reads, under exactly this name.

    Args:
      path: replaced if it exists; written whole or not at all.
      embeddings: their ids are unique.

    Raises:
      UserError: ids and vectors differ in number, an id appears twice or is not valid, or the file cannot be written.
    """
    if np.ndim(embeddings.vectors) != 2 or len(embeddings.vectors) != len(embeddings.ids):
        raise UserError(
            f"{path}: {len(embeddings.ids)} ids and vectors of shape {np.shape(embeddings.vectors)}; valid: N ids and "
            "shape [N, E]."
        )
    for utterance, count in Counter(embeddings.ids).items():
        check_id(utterance, "The utterance")
        if count > 1:
            raise UserError(f"{path}: {utterance!r} appears twice; give each utterance one embedding.")
    ids = np.asarray(embeddings.ids, np.str_)
    with replacing(path) as temporary, temporary.open("wb") as file:  # numpy adds .npz to a name, not to a file
        np.savez(file, ids=ids, vectors=embeddings.vectors)


def _npz_embeddings(path: Path) -> Embeddings:
    with open_npz(path, advice=f"No embeddings can be read; valid: {_VALID}.") as archive:
        ids, vectors = archive["ids"], archive["vectors"]
    if ids.ndim != 1 or vectors.ndim != 2 or len(ids) != len(vectors) or ids.dtype.kind != "U":
        raise UserError(
            f"{path}: ids {ids.shape} of type {ids.dtype} and vectors {vectors.shape}; valid: ids [N], "
            "strings, and vectors [N, E]."
        )
    return _stack_vectors(path, zip(ids.tolist(), vectors, strict=True))


def _folder_vectors(directory: Path) -> Iterable[tuple[str, np.ndarray]]:
    for path in sorted(directory.rglob("*.npy")):
        vector = read_npy(path, advice="Write it again with numpy.save.")
        yield path.relative_to(directory).with_suffix("").as_posix(), vector


def _stack_vectors(path: Path, named: Iterable[tuple[str, np.ndarray]]) -> Embeddings:
    """Checks all vectors and stacks them into one array."""
    vectors: dict[str, np.ndarray] = {}
    for name, array in named:
        utterance = check_id(plain_id(name), f"{path}: the utterance")
        vector = array.reshape(-1) if array.ndim == 2 and len(array) == 1 else array
        if vector.ndim != 1 or vector.dtype.kind != "f" or not vector.size:
            raise UserError(
                f"{path}: {utterance!r} is an array {array.shape} of type {array.dtype}; valid: one vector of "
                "floating-point numbers per utterance."
            )
        size = len(next(iter(vectors.values()), vector))
        if len(vector) != size:
            raise UserError(
                f"{path}: the embedding of {utterance!r} has size {len(vector)}, that of {next(iter(vectors))!r} has "
                f"{size}; valid: one size, that of one network."
            )
        if utterance in vectors:
            raise UserError(f"{path}: {utterance!r} appears twice; give each utterance one embedding.")
        vectors[utterance] = vector
    if not vectors:
        raise UserError(f"{path}: holds no embeddings; valid: {_VALID}.")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite and is refused below
        stacked = np.stack(list(vectors.values())).astype(np.float32)
    if broken := [name for name, vector in zip(vectors, stacked, strict=True) if not np.isfinite(vector).all()]:
        raise UserError(
            f"{path}: {len(broken)} of {len(vectors)} embeddings are not finite, the first is {broken[0]!r}; check "
            "its audio and the network."
        )
    return Embeddings(tuple(vectors), stacked)
