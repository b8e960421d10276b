"""The Hub repository of the weights: its folder written, checked, and uploaded when asked to.

    python -m training.publish OWNER/NAME --out build/hub             # write and check the folder
    python -m training.publish OWNER/NAME --out build/hub --upload    # and upload it (HF_TOKEN)
    python -m training.publish --pin runs/inpaint.safetensors         # what the manifest pins

The folder holds every model of the manifest with its card, the manifest, the statement on the
photographs, the licence and a README with the Hub's metadata. Nothing goes up that is not what the
manifest pins. After the upload every file is asked for again and compared, and the lines that
belong into the manifest's ``[hub]`` table are printed.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
from pathlib import Path

from restorepix.errors import RestorepixError
from restorepix.weights import Model, Place, Repo, check_model, read_manifest

ROOT = Path(__file__).resolve().parents[1]

README = """\
---
license: apache-2.0
library_name: restorepix
pipeline_tag: image-to-image
tags:
- image-inpainting
- image-restoration
- photo-restoration
---

# Weights of restorepix

Networks of restorepix, a batch tool that repaints scratches, writing and stains in photographs and
changes nothing else. Fetched by `restorepix models pull`; every file is pinned by its SHA-256 in
the package.

| model | file | MB | SHA-256 | card |
|---|---|---|---|---|
{rows}

Safetensors only. The header of each file names its architecture and config. What the photographs
are that they were trained on, and under which licences: [ATTRIBUTION.md](ATTRIBUTION.md).

Use another copy of this repository with `RESTOREPIX_WEIGHTS_REPO={repo}`.
"""


def write_folder(repo: str, out: Path, weights: Path, licence: Path) -> list[Path]:
    """Write and check the repository's folder; returns its files, sorted.

    Args:
        repo: OWNER/NAME, as the README shall call it.
        out: folder to write; it must not exist yet, or hold a folder written by this before.
        weights: folder of the manifest, weights and cards.
        licence: the licence's text.

    Raises:
        WeightsError: a file is not what the manifest pins.
        ValueError: a model has no card, its card lacks a metric of the manifest, or ``out`` holds
            something else.
    """
    Repo.parse(repo, "repository")
    models = read_manifest(weights)
    for model in models.values():
        check_model(model, Place(weights / model.file, "bundled"))
        _check_card(model, weights / f"{model.name}.md")
    if out.exists() and any(out.iterdir()):
        if not (out / "manifest.toml").is_file():
            msg = f"{out}: expected an empty folder or one that publish wrote, found other files"
            raise ValueError(msg)
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    for model in models.values():
        for name in (model.file, f"{model.name}.md"):
            shutil.copyfile(weights / name, out / name)
    for name in ("manifest.toml", "ATTRIBUTION.md"):
        shutil.copyfile(weights / name, out / name)
    shutil.copyfile(licence, out / "LICENSE")
    rows = "\n".join(
        f"| {model.name} | [{model.file}]({model.file}) | {model.size / 1e6:.1f} "
        f"| `{model.sha256[:16]}...` | [{model.name}.md]({model.name}.md) |"
        for model in models.values()
    )
    (out / "README.md").write_text(README.format(rows=rows, repo=repo), "utf-8")
    return sorted(path for path in out.iterdir())


def _check_card(model: Model, card: Path) -> None:
    text = card.read_text("utf-8") if card.is_file() else ""
    if not text:
        msg = f"{card}: the model {model.name} has no card; write one before it is published"
        raise ValueError(msg)
    if "ATTRIBUTION.md" not in text:
        msg = f"{card}: expected a statement on the data that leads to ATTRIBUTION.md, found none"
        raise ValueError(msg)
    for kind in model.about.get("metrics", {}):
        if kind not in text:
            msg = f"{card}: expected the manifest's metric {kind!r}, found no such word"
            raise ValueError(msg)


def upload_folder(repo: str, files: list[Path]) -> str:
    """Upload files as one commit to a model repository, made when missing; returns the commit.

    The token is that of huggingface_hub (``HF_TOKEN``, or the one that was logged in with).

    Raises:
        ValueError: what the Hub has afterwards is not what was sent.
        Exception: as huggingface_hub raises when the Hub refuses.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, get_hf_file_metadata, hf_hub_url

    api = HfApi()
    api.create_repo(repo, exist_ok=True)
    operations = [CommitOperationAdd(path.name, path) for path in files]
    commit = api.create_commit(repo, operations, commit_message="Weights of restorepix").oid
    for path in files:
        if path.suffix != ".safetensors":
            continue
        etag = get_hf_file_metadata(hf_hub_url(repo, path.name, revision=commit)).etag
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if etag != digest:
            msg = f"{path.name}: the Hub has {etag}, expected the sha256 {digest}; upload it again"
            raise ValueError(msg)
    return commit


def describe_pin(path: Path) -> str:
    """The lines of a manifest entry that pin a weights file."""
    data = path.read_bytes()
    return (
        f'file = "{path.name}"\nsha256 = "{hashlib.sha256(data).hexdigest()}"\nsize = {len(data)}\n'
    )


def main() -> None:
    """Publish from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("repo", nargs="?", help="OWNER/NAME on the Hub")
    parser.add_argument("--out", type=Path, help="folder to write")
    parser.add_argument("--weights", type=Path, default=ROOT / "weights")
    parser.add_argument("--upload", action="store_true", help="upload the folder")
    parser.add_argument("--pin", type=Path, metavar="FILE", help="print what pins a file, and stop")
    options = parser.parse_args()
    if options.pin is not None:
        sys.stdout.write(describe_pin(options.pin))
        return
    if options.repo is None or options.out is None:
        parser.error("expected OWNER/NAME and --out")
    try:
        files = write_folder(options.repo, options.out, options.weights, ROOT / "LICENSE")
        for path in files:
            sys.stderr.write(f"{path.stat().st_size:>12,}  {path.name}\n")
        if not options.upload:
            sys.stderr.write("dry run: nothing was uploaded; pass --upload\n")
            return
        commit = upload_folder(options.repo, files)
    except (RestorepixError, ValueError, OSError) as error:
        parser.exit(4, f"{str(error).strip().splitlines()[0]}\n")
    sys.stdout.write(f'[hub]\nrepo = "{options.repo}"\nrevision = "{commit}"\n')


if __name__ == "__main__":
    main()
