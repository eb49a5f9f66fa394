"""Paths of images and folders: absolute paths, or ``s3://bucket/key``."""

from __future__ import annotations

import posixpath

S3 = "s3://"


def normalise_url(url: object) -> str:
    """
    Return a path in its one normal form: no trailing or doubled slash, no ``.`` part.

    A bucket without a key passes, too: it may be a whole ``zarr_dir``.

    :raises ValueError: for anything but an absolute path or ``s3://bucket/key``, and for ``..`` in it.
    """
    if not isinstance(url, str):
        raise ValueError(f"{url!r:.200} is not a path: it must be a text")
    if url.startswith("/"):
        return _normal_path(url, url)
    if url.startswith(S3):
        bucket_and_key = url[len(S3) :]
        if bucket_and_key.partition("/")[0] in ("", "."):
            raise ValueError(f"{url!r} names no S3 bucket: write s3://bucket/key")
        return S3 + _normal_path("/" + bucket_and_key, url)[1:]
    raise ValueError(f"{url!r} is neither an absolute path (/…) nor s3://bucket/key")


def check_text(text: str) -> None:
    """
    Check that a text can be written to a file or a database.

    :raises ValueError: where it has half a character in it: so Python reads file names that are not UTF-8.
    """
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{text!r} has half a character in it: it is no Unicode text") from error


def is_below(url: str, folder: str) -> bool:
    """Tell whether a path lies strictly below a folder; both are in normal form."""
    prefix = folder if folder.endswith("/") else folder + "/"
    return url.startswith(prefix) and url != prefix


def _normal_path(path: str, url: str) -> str:
    """
    Return the normal form of a path that begins with a slash.

    :param url: the path as it was given, for errors.
    """
    if "\0" in path:
        raise ValueError(f"{url!r} has a null character in it")
    check_text(url)
    if "//" not in path and "/." not in path:  # as nearly all are
        return path.rstrip("/") or "/"
    if ".." in path.split("/"):
        raise ValueError(f"{url!r} has '..' in it: write the path that it stands for")
    return posixpath.normpath("/" + path.lstrip("/"))
