"""Paths of images and folders: absolute paths, or ``s3://bucket/key``."""

from __future__ import annotations

import posixpath
from collections.abc import Callable

S3 = "s3://"


def normalise_url(url: object) -> str:
    """
    Return a path in its one normal form: no trailing or doubled slash, no ``.`` part.

    :raises ValueError: for anything but an absolute path or ``s3://bucket/key``, and for ``..`` in it.
    """
    if not isinstance(url, str):
        raise ValueError(f"{url!r} is not a path: it must be a text")
    if url.startswith("/"):
        return _normal_path(url, url)
    if url.startswith(S3):
        path = _normal_path("/" + url[len(S3) :], url)
        if path == "/":
            raise ValueError(f"{url!r} names no S3 bucket: write s3://bucket/key")
        return S3 + path[1:]
    raise ValueError(f"{url!r} is neither an absolute path (/…) nor s3://bucket/key")


def is_below(url: str, folder: str) -> bool:
    """Tell whether a path lies strictly below a folder; both are in normal form."""
    return url.startswith(folder if folder.endswith("/") else folder + "/")


def below(folder: str) -> Callable[[str], bool]:
    """Return :func:`is_below` for one folder, for use on many paths."""
    prefix = folder if folder.endswith("/") else folder + "/"
    return lambda url: url.startswith(prefix)


def _normal_path(path: str, url: str) -> str:
    if "\0" in path:
        raise ValueError(f"{url!r} has a null character in it")
    if "//" not in path and "/." not in path:
        return path.rstrip("/") or "/"
    if ".." in path.split("/"):
        raise ValueError(f"{url!r} has '..' in it: write the path that it stands for")
    return posixpath.normpath("/" + path.lstrip("/"))
