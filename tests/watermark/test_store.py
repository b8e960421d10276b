"""``restorepix remove-watermark`` on photographs in a store."""

from __future__ import annotations

from tests.watermark.conftest import blend, draw_alpha
from tests.watermark.test_remove import run, save


def test_a_folder_in_a_store_gives_what_one_on_the_disk_does(photos, tmp_path, s3, bucket):
    folder = save(tmp_path / "in", blend(photos[:7], draw_alpha(0.5)))
    s3.put(f"{folder}/", f"{bucket}/in/", recursive=True)
    here, _ = run(folder, "-o", tmp_path / "out")
    there, records = run(f"s3://{bucket}/in", "-o", f"s3://{bucket}/out")
    assert here.exit_code == there.exit_code == 0, there.output
    assert {record["method"] for record in records} == {"unblended"}
    for path in (tmp_path / "out").glob("*.png"):
        assert s3.cat_file(f"{bucket}/out/{path.name}") == path.read_bytes()
    assert len(s3.glob(f"{bucket}/out/*.png")) == 7
