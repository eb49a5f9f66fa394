"""Images as they lie in the database.

Attributes and types are JSON text, which tells 1, 1.0 and true apart where Python takes them for equal.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, overload

from fractal_airflow.exceptions import ImageListError
from fractal_airflow.fractal.images import Image

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode


class ImageRow(NamedTuple):
    """One row of the image table; two rows tell of the same state if all but their ids are equal."""

    id: int
    position: int
    zarr_url: str
    origin: str | None
    attributes: str
    types: str


def to_row(image: Image, position: int, row_id: int = 0) -> ImageRow:
    """The image as a row.

    :raises ImageListError: if it holds something that cannot be stored.
    """
    check_text(image.zarr_url)
    check_text(image.origin or "")
    try:
        attributes, types = _encode(image.attributes), _encode(image.types)
    except (TypeError, ValueError) as error:
        raise ImageListError(f"Image {image.zarr_url!r} cannot be stored: {error}.") from error
    return ImageRow(row_id, position, image.zarr_url, image.origin, attributes, types)


def check_text(url: str) -> None:
    """Refuse a path that no database stores: with a NUL character, or from a file name that is not UTF-8.

    :raises ImageListError: if it is one.
    """
    if url.isascii() and "\x00" not in url:
        return
    try:
        url.encode()
    except UnicodeEncodeError:
        pass
    else:
        if "\x00" not in url:
            return
    raise ImageListError(
        f"Image {url!r} cannot be stored: its path is not valid Unicode text. Rename the folder."
    )


@overload
def storable(text: str) -> str: ...
@overload
def storable(text: str | None) -> str | None: ...
def storable(text: str | None) -> str | None:
    """Text as every database takes it: what a program printed may hold anything."""
    if text is None:
        return None
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()


def to_images(rows: Iterable[ImageRow]) -> list[Image]:
    """The images of these rows, each with dictionaries of its own."""
    load = _cached_loader()
    return [Image(url, origin, load(attrs), load(types)) for _, _, url, origin, attrs, types in rows]


def _cached_loader() -> Callable[[str], dict[str, Any]]:
    """Parse each different text once: images of a well share theirs, and a copy is quick and small."""
    seen: dict[str, dict[str, Any]] = {}

    def load(text: str) -> dict[str, Any]:
        parsed = seen.get(text)
        if parsed is None:
            parsed = seen[text] = json.loads(text)
        return parsed.copy()

    return load
