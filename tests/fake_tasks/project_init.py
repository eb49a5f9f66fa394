from task import run


def project_init(*, zarr_urls, zarr_dir, nothing_to_do=False, fail=False, suffix="_mip"):
    if fail:
        raise ValueError("no plane to project")
    urls = [] if nothing_to_do else zarr_urls
    return {
        "parallelization_list": [{"zarr_url": f"{url}{suffix}", "init_args": {"origin": url}} for url in urls]
    }


if __name__ == "__main__":
    run(project_init)
