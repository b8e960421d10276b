"""Pictures of attention: they show where the network looked, and are refused where it does not."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from restorepix.cli import app
from restorepix.errors import UsageError
from restorepix.flow import STEP_PX, AttentionRepair, Tracer, check_attention, place_picture
from restorepix.inpaint import Inpainter
from restorepix.models.attention import ContextualAttention, extract_patches, find_cells
from restorepix.models.generator import Generator, GeneratorConfig
from restorepix.models.lab.deepfill import DeepFill, DeepFillConfig
from restorepix.models.lab.flow import draw_flow
from restorepix.models.loading import load_generator
from restorepix.options import RestoreOptions
from restorepix.pipeline import build_repair
from restorepix.tiles import Box
from restorepix.weights import find_weights
from tests.conftest import draw_photo, encode_picture, write_picture

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def deepfill_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DeepFill file with few channels and random numbers."""
    torch.manual_seed(0)
    network = DeepFill(DeepFillConfig(channels=4))
    path = tmp_path_factory.mktemp("weights") / "deepfill.safetensors"
    metadata = {"architecture": "lab-deepfill-1", "config": json.dumps({"channels": 4})}
    save_file(network.state_dict(), path, metadata)
    return path


def save_generator(path: Path, **config: object) -> Path:
    sizes = {
        "coarse_channels": (16, 16, 16), "refine_channels": (16, 16, 16), "match_channels": 16,
    } | config  # fmt: skip
    network = Generator(GeneratorConfig(**sizes))
    save_file(
        network.state_dict(),
        path,
        {"architecture": "restorepix-two-stage-1", "config": json.dumps(sizes)},
    )
    return path


def build_tracer(path: Path) -> Tracer:
    network = load_generator(path, CPU)
    return Tracer(Inpainter(network, CPU, dtype=torch.float32), network)


@pytest.mark.parametrize(
    ("offset", "colour"),
    [
        ((0, 5), (255, 0, 0)),  # right: red
        ((0, -5), None),
        ((5, 0), None),
        ((-5, 0), None),
        ((0, 0), (255, 255, 255)),
    ],
)
def test_the_wheel(offset: tuple[int, int], colour: tuple[int, int, int] | None) -> None:
    """Baker et al.: right is red, down yellow, left cyan, up blue to violet."""
    offsets = np.zeros((2, 1, 1))
    offsets[:, 0, 0] = offset
    red, green, blue = draw_flow(offsets, largest=5)[0, 0].astype(int)
    if colour is not None:
        assert (red, green, blue) == colour
    elif offset == (0, -5):
        assert red < 64
        assert min(green, blue) > 150
    elif offset == (5, 0):
        assert min(red, green) > 150
        assert blue < 64
    else:
        assert blue > 200
        assert green < 100


def test_half_as_far_is_half_as_full() -> None:
    offsets = np.zeros((2, 1, 2))
    offsets[1, 0] = 4, 8
    half, full = draw_flow(offsets)[0].astype(int)
    assert full.tolist() == [255, 0, 0]
    assert half.tolist() == [255, 128, 128]


def test_attention_says_which_cell_it_weighs_most() -> None:
    torch.manual_seed(1)
    attention = ContextualAttention(8, 4)
    features = torch.randn(2, 8, 16, 20)
    mask = torch.zeros(2, 1, 16, 20)
    mask[0, :, 4:9, 5:11] = 1
    mask[1] = 1
    offsets = attention.find_offsets(features, mask)
    assert offsets.shape == (2, 2, 8, 10)
    assert offsets[1].isnan().all()  # nothing is known
    need, valid = find_cells(mask)
    matches, _ = extract_patches(features, attention.match(features))
    scores = (matches @ matches.transpose(1, 2)).masked_fill(~valid[:, None], -np.inf)
    for cell in range(80):
        row, column = divmod(cell, 10)
        found = offsets[0, :, row, column]
        if need[0, cell]:
            best = int(scores[0, cell].argmax())
            assert found.tolist() == [best // 10 - row, best % 10 - column]
            assert valid[0, best]
        else:
            assert found.isnan().all()


@pytest.mark.parametrize("kind", ["ours", "deepfill"])
@pytest.mark.parametrize("side", [96, 300])
def test_every_hole_pixel_points_to_a_known_cell(
    kind: str, side: int, tiny_weights: Path, deepfill_weights: Path
) -> None:
    tracer = build_tracer(tiny_weights if kind == "ours" else deepfill_weights)
    rng = np.random.default_rng(3)
    image = rng.random((side, side, 3)).astype(np.float32)
    mask = np.zeros((side, side), bool)
    mask[30:44, 20:70] = True
    mask[side // 2 : side // 2 + 5] = True
    offsets = tracer.trace(lambda box: image[box.slices()], mask)
    assert np.isfinite(offsets[:, mask]).all()
    assert np.isnan(offsets[:, ~mask]).all()
    assert (offsets[:, mask] % STEP_PX == 0).all()
    rows, columns = np.nonzero(mask)
    to_row = rows + offsets[0][mask].astype(int)
    to_column = columns + offsets[1][mask].astype(int)
    inside = (to_row >= 0) & (to_row < side) & (to_column >= 0) & (to_column < side)
    assert inside.mean() > 0.95  # cells that the border cuts reach beyond it
    cells = {(int(r) // STEP_PX, int(c) // STEP_PX) for r, c in zip(rows, columns, strict=True)}
    if side == 96:  # one window, so its cells are those of the picture
        sources = zip(to_row[inside], to_column[inside], strict=True)
        assert not any((int(r) // STEP_PX, int(c) // STEP_PX) in cells for r, c in sources)


def test_a_repeated_patch_is_found_where_it_is(tiny_weights: Path) -> None:
    """With the coarse stage's own result in the hole, a copied texture matches its source."""
    network = load_generator(tiny_weights, CPU)
    attention = network.refine.attention
    features = torch.randn(1, 16, 32, 32)
    features[..., 16:22, 4:10] = features[..., 16:22, 20:26]  # rows alike, 16 columns apart
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., 18:20, 6:8] = 1
    offsets = attention.find_offsets(features, mask)[0, :, 9, 3]
    assert offsets.tolist() == [0, 8]


def test_wide_holes_show_what_the_half_resolution_looked_at(tiny_weights: Path) -> None:
    tracer = build_tracer(tiny_weights)
    rng = np.random.default_rng(3)
    image = rng.random((256, 256, 3)).astype(np.float32)
    mask = np.zeros((256, 256), bool)
    mask[70:190, 60:200] = True
    offsets = tracer.trace(lambda box: image[box.slices()], mask)
    assert np.isfinite(offsets[:, mask]).all()
    middle = offsets[:, 122:138, 122:138]
    assert (middle % (2 * STEP_PX) == 0).all()
    assert np.hypot(*middle[:, 0, 0]) >= 50  # the nearest known pixel is 52 px away


def test_nothing_known_is_black(tiny_weights: Path) -> None:
    tracer = build_tracer(tiny_weights)
    image = np.full((40, 40, 3), 0.5, np.float32)
    offsets = tracer.trace(lambda box: image[box.slices()], np.ones((40, 40), bool))
    assert np.isnan(offsets).all()


def test_weights_without_attention_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"switched off .*design\.md.*deepfill-v1"):
        check_attention(find_weights(None))
    off = save_generator(tmp_path / "off.safetensors", attention=False)
    with pytest.raises(UsageError, match=r"off\.safetensors have their attention switched off"):
        check_attention(find_weights(off))
    network = DeepFill(DeepFillConfig(channels=4, branch="none"))
    metadata = {
        "architecture": "lab-deepfill-1",
        "config": json.dumps({"channels": 4, "branch": "none"}),
    }
    save_file(network.state_dict(), tmp_path / "blind.safetensors", metadata)
    with pytest.raises(UsageError, match="have no contextual attention"):
        check_attention(find_weights(tmp_path / "blind.safetensors"))


def test_a_wrapped_repair_stays_the_same(tmp_path: Path, tiny_weights: Path) -> None:
    options = RestoreOptions(weights=tiny_weights, device="cpu", show_attention=tmp_path / "flow")
    repair = build_repair(options)
    assert isinstance(repair, AttentionRepair)
    plain = build_repair(RestoreOptions(weights=tiny_weights, device="cpu"))
    for name in ("needs_mask", "device", "weights_sha256", "identity"):
        assert getattr(repair, name) == getattr(plain, name)
    assert options.identity() == RestoreOptions().identity()


@pytest.mark.parametrize(
    ("name", "page", "expected"),
    [
        ("photos/sub/a.jpg", None, "F/photos/sub/a.jpg.png"),
        ("/home/me/a.tif", 2, "F/home/me/a.tif.2.png"),
        ("../x/./a.png", None, "F/x/a.png.png"),
        ("stdin", None, "F/stdin.png"),
        ("s3://bucket/a.png", None, "F/s3/bucket/a.png.png"),
    ],
)
def test_pictures_lie_where_their_photographs_do(
    name: str, page: int | None, expected: str
) -> None:
    assert place_picture(Path("F"), name, page) == Path(expected)


def test_the_command_writes_one_picture_a_photograph(
    tmp_path: Path, deepfill_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    photos = [
        write_picture(Path("photos") / name, draw_photo(80, 100)) for name in ("a.png", "b.png")
    ]
    hole = np.zeros((80, 100), np.uint8)
    hole[30:40, 20:60] = 255
    write_picture(Path("masks/a.png"), hole)
    write_picture(Path("masks/b.png"), np.zeros_like(hole))
    result = CliRunner().invoke(
        app,
        f"fix photos -m masks --weights {deepfill_weights} --device cpu "
        f"--show-attention flow".split(),
    )
    assert result.exit_code == 0, result.output
    found = sorted(path.relative_to("flow").as_posix() for path in Path("flow").rglob("*.*"))
    assert found == ["photos/a.png.png"]  # b.png has no hole
    picture = np.asarray(Image.open("flow/photos/a.png.png")).astype(int)
    assert picture.shape == (80, 100, 3)
    spread = picture.max(axis=2) - picture.min(axis=2)
    assert (spread[hole == 0] == 0).all()
    assert (spread[hole > 0] > 0).all()
    plain = CliRunner().invoke(
        app, f"fix photos -m masks --weights {deepfill_weights} --device cpu -o plain".split()
    )
    assert plain.exit_code == 0
    assert Path("plain/a.png").read_bytes() == Path("photos-restored/a.png").read_bytes()
    assert photos[0].is_file()


def test_the_command_refuses_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.png").write_bytes(encode_picture(draw_photo()))
    Path("m.png").write_bytes(encode_picture(np.full((24, 32), 255, np.uint8)))
    command = ["fix", "a.png", "-m", "m.png", "--device", "cpu", "--show-attention", "f"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert "switched off" in result.output
    assert sorted(path.name for path in Path().iterdir()) == ["a.png", "m.png"]
    Path("f").write_text("a file")
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert "expected a folder" in result.output


def test_each_wide_hole_gets_its_own_offsets(tiny_weights: Path) -> None:
    tracer = build_tracer(tiny_weights)
    image = np.random.default_rng(0).random((200, 420, 3)).astype(np.float32)
    mask = np.zeros((200, 420), bool)
    mask[40:150, 20:130] = True
    mask[40:150, 290:400] = True
    offsets = tracer.trace(lambda box: image[box.slices()], mask)
    for box in (Box(40, 20, 110, 110), Box(40, 290, 110, 110)):
        down, across = offsets[(slice(None), *box.slices())]
        assert np.isfinite(down).all()
        rows = np.arange(box.top, box.bottom)[:, None] + down
        columns = np.arange(box.left, box.right)[None, :] + across
        assert rows.min() > -2 * STEP_PX
        assert rows.max() < 200 + 2 * STEP_PX
        assert columns.min() > -2 * STEP_PX
        assert columns.max() < 420 + 2 * STEP_PX
