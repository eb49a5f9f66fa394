from pathlib import Path

from task import run


def convert_plate_compute(*, zarr_url, init_args):
    Path(zarr_url).mkdir(parents=True, exist_ok=True)
    return {"image_list_updates": [{"zarr_url": zarr_url, "attributes": {"plate": "plate", **init_args}}]}


if __name__ == "__main__":
    run(convert_plate_compute)
