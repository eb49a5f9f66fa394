from pathlib import Path

from task import run


def make_plate(*, zarr_dir, plate="plate", wells=("B/03", "B/04")):
    updates = []
    for well in wells:
        image = Path(zarr_dir) / f"{plate}.zarr" / well / "0"
        image.mkdir(parents=True, exist_ok=True)
        attributes = {"plate": plate, "well": well.replace("/", "")}
        updates.append({"zarr_url": str(image), "attributes": attributes})
    return {"image_list_updates": updates}


if __name__ == "__main__":
    run(make_plate)
