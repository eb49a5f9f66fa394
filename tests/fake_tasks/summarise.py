import json
from pathlib import Path

from task import ends_with_one_of, run


def summarise(*, zarr_urls, zarr_dir, remove=(), fail=False, file="summary.json"):
    Path(zarr_dir, file).write_text(json.dumps(zarr_urls), encoding="utf-8")
    if fail:
        raise ValueError("nothing to summarise")
    if remove:
        return {"image_list_removals": [url for url in zarr_urls if ends_with_one_of(url, remove)]}
    return None


if __name__ == "__main__":
    run(summarise)
