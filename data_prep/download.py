"""Downloads a file: it is whole and has the right checksum, or it does not appear."""

import hashlib
import http.client
import shutil
import urllib.error
import urllib.request
from pathlib import Path

from mqmha_jax.errors import UserError

TIMEOUT_S = 60
_BLOCK_BYTES = 1 << 20


def download(url: str, path: Path, *, md5: str) -> None:
    """Downloads a file; resumes an earlier attempt.

    Args:
      url: http or https.
      path: where the file appears when it is complete; until then, a partial file grows next to it.
      md5: the MD5 that its owners publish.

    Raises:
      UserError: there is no connection, the server has no such file, its checksum differs, or the disk is full.
    """
    if path.is_file() and _md5(path) == md5:
        return
    growing = path.with_name(f".partial-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _fetch(url, growing)
        found = _md5(growing)
        if found != md5:
            growing.unlink()
            raise UserError(
                f"{url}: the download has the MD5 {found}, but its owners publish {md5}. It was removed. Try again; if "
                "this happens twice, from another network."
            )
        growing.replace(path)
    except urllib.error.URLError as error:
        raise UserError(
            f"{url}: cannot be downloaded ({getattr(error, 'reason', error)}). Check the network and try again, or "
            f"copy the file to {path} yourself."
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise UserError(
            f"{url}: the download to {growing} broke off ({error}). Run the command again to resume."
        ) from error


def _fetch(url: str, growing: Path) -> None:
    start = growing.stat().st_size if growing.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the file is complete; the checksum decides
            return
        raise
    with response, growing.open("ab" if response.status == 206 else "wb") as file:
        shutil.copyfileobj(response, file, _BLOCK_BYTES)
        promised = response.length  # http.client counts down what the server announced
    if promised:
        raise OSError(f"{promised} bytes are missing")


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
