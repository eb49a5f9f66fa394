from pathlib import Path

from task import ends_with_one_of, note_run, run


def project_compute(*, zarr_url, init_args, fail_for=(), fail_until="", output=None):
    Path(zarr_url).mkdir(parents=True, exist_ok=True)
    note_run(zarr_url, init_args["origin"])
    mended = fail_until and Path(fail_until).exists()
    if ends_with_one_of(zarr_url, fail_for) and not mended:
        raise ValueError(f"{zarr_url} is out of focus")
    return output or {"image_list_updates": [{"zarr_url": zarr_url, "origin": init_args["origin"]}]}


if __name__ == "__main__":
    run(project_compute)
