from task import run


def convert_plate_init(*, zarr_dir, wells):
    return {
        "parallelization_list": [
            {"zarr_url": f"{zarr_dir}/plate.zarr/{well}/0", "init_args": {"well": well.replace("/", "")}}
            for well in wells
        ]
    }


if __name__ == "__main__":
    run(convert_plate_init)
