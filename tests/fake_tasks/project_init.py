from task import run


def project_init(*, zarr_urls, zarr_dir, nothing_to_do=False):
    urls = [] if nothing_to_do else zarr_urls
    return {"parallelization_list": [{"zarr_url": f"{url}_mip", "init_args": {"origin": url}} for url in urls]}


if __name__ == "__main__":
    run(project_init)
