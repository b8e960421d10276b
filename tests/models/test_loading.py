"""Weights files: only sound ones of the right architecture are loaded, and the reason is said."""

import json
import pickle
import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from restorepix.errors import ExitCode, UnsafeWeightsError, WeightsError
from restorepix.models.generator import Generator, GeneratorConfig
from restorepix.models.header import read_header
from restorepix.models.loading import ARCHITECTURE, load_generator
from restorepix.weights import find_weights, read_manifest

CPU = torch.device("cpu")
SIZES = {"coarse_channels": [8, 8, 8], "refine_channels": [8, 8, 8], "match_channels": 4}


def write_weights(path, change=lambda state: None, architecture=ARCHITECTURE, config=None):
    sizes = {key: tuple(v) if isinstance(v, list) else v for key, v in SIZES.items()}
    state = Generator(GeneratorConfig(**sizes)).state_dict()
    change(state)
    header = {
        "architecture": architecture,
        "config": json.dumps(SIZES if config is None else config),
    }
    save_file(state, path, metadata=header)
    return path


def test_a_sound_file_loads(tmp_path):
    generator = load_generator(write_weights(tmp_path / "w.safetensors"), CPU)
    assert not generator.training
    assert generator.config.match_channels == 4


def test_a_header_whose_length_begins_like_a_pickle_loads(tmp_path):
    sizes = {key: tuple(v) if isinstance(v, list) else v for key, v in SIZES.items()}
    state = Generator(GeneratorConfig(**sizes)).state_dict()
    path = tmp_path / "w.safetensors"
    header = {"architecture": ARCHITECTURE, "config": json.dumps(SIZES)}
    for padding in range(0, 256 + 8, 8):
        save_file(state, path, metadata={**header, "note": "x" * padding})
        if path.read_bytes()[0] == 0x80:
            break
    assert path.read_bytes()[0] == 0x80
    assert not load_generator(path, CPU).training


def drop_a_tensor(state):
    del state["refine.head.bias"]


def add_a_tensor(state):
    state["extra"] = torch.zeros(1)


def reshape_a_tensor(state):
    state["refine.head.bias"] = torch.zeros(5)


@pytest.mark.parametrize("change", [drop_a_tensor, add_a_tensor, reshape_a_tensor])
def test_missing_extra_and_misshapen_tensors_are_refused(tmp_path, change):
    path = write_weights(tmp_path / "w.safetensors", change)
    with pytest.raises(WeightsError, match="do not fit"):
        load_generator(path, CPU)


def test_another_architecture_is_refused_by_name(tmp_path):
    path = write_weights(tmp_path / "w.safetensors", architecture="other-1")
    with pytest.raises(WeightsError, match=r"'other-1', expected 'restorepix"):
        load_generator(path, CPU)


def test_a_config_with_unknown_fields_is_refused(tmp_path):
    path = write_weights(tmp_path / "w.safetensors", config={**SIZES, "gates": True})
    with pytest.raises(WeightsError, match="gates"):
        load_generator(path, CPU)


def build_file(tensors, data=b"", metadata=None, text=None):
    """A safetensors file of (dtype, shape, begin, end) entries, sound or not."""
    about = {"architecture": ARCHITECTURE, "config": json.dumps(SIZES)}
    header = {"__metadata__": about if metadata is None else metadata}
    for name, (dtype, shape, *offsets) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
    text = json.dumps(header).encode() if text is None else text
    return struct.pack("<Q", len(text)) + text + data


TWICE = b'{"a": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}, "a": {}}'
HOSTILE = {
    "pickle": (pickle.dumps({"x": 1}), "a pickle, which could run code"),
    "zip": (b"PK\x03\x04" + bytes(64), "a zip archive, .* which could run code"),
    "empty": (b"", "no safetensors"),
    "short": (b"\x10\x00", "no safetensors"),
    "huge header": (struct.pack("<Q", 10**13) + b"{}", "no safetensors"),
    "header past the end": (struct.pack("<Q", 500) + b"{}", "no safetensors"),
    "no json": (struct.pack("<Q", 4) + b"abcd", "no JSON"),
    "no utf-8": (struct.pack("<Q", 4) + b'{"\xff}', "no JSON"),
    "nested": (struct.pack("<Q", 1 << 20) + b"[" * (1 << 20), "no JSON"),
    "long number": (build_file({}, text=b'{"a": ' + b"9" * 5000 + b"}"), "no JSON"),
    "a list": (build_file({}, text=b"[]"), "no JSON object"),
    "something twice": (build_file({}, bytes(4), text=TWICE), "names something twice"),
    "metadata that is no text": (build_file({}, metadata={"architecture": 1}), "no table of texts"),
    "a tensor that is text": (build_file({}, text=b'{"a": "b"}'), "without dtype"),
    "10 GB claim": (build_file({"a": ("F32", [50000, 50000], 0, 10**10)}), "claim 10,000,000,000"),
    "long span": (build_file({"a": ("F32", [2], 0, 10**12)}, bytes(8)), "needs 8 bytes"),
    "backward": (build_file({"a": ("F32", [2], 8, 0)}, bytes(8)), "needs 8 bytes"),
    "negative": (build_file({"a": ("F32", [2], -8, 0)}, bytes(8)), "no numbers"),
    "truth for a size": (build_file({"a": ("F32", [True], 0, 4)}, bytes(4)), "no numbers"),
    "many dimensions": (build_file({"a": ("F32", [1] * 99, 0, 4)}, bytes(4)), "no numbers"),
    "overlap": (
        build_file({"a": ("F32", [2], 0, 8), "b": ("F32", [2], 4, 12)}, bytes(12)),
        "'b', which overlaps",
    ),
    "gap": (
        build_file({"a": ("F32", [1], 0, 4), "b": ("F32", [1], 8, 12)}, bytes(12)),
        "'b', which leaves a gap",
    ),
    "more behind": (build_file({"a": ("F32", [1], 0, 4)}, bytes(64)), "claim 4 bytes"),
    "unknown dtype": (build_file({"a": ("Q4", [1], 0, 4)}, bytes(4)), "unknown dtype 'Q4'"),
    "config no json": (
        build_file({}, metadata={"architecture": ARCHITECTURE, "config": "{"}),
        "config is no JSON",
    ),
    "config no object": (
        build_file({}, metadata={"architecture": ARCHITECTURE, "config": "[1]"}),
        "config is no JSON object",
    ),
    "config of a giant": (
        build_file(
            {},
            metadata={
                "architecture": ARCHITECTURE,
                "config": json.dumps({**SIZES, "coarse_channels": [10**6] * 3}),
            },
        ),
        "far larger than the file",
    ),
    "config of nonsense": (
        build_file(
            {},
            metadata={
                "architecture": ARCHITECTURE,
                "config": json.dumps({**SIZES, "coarse_channels": "abc"}),
            },
        ),
        "does not fit",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_with_the_reason(tmp_path, name):
    data, reason = HOSTILE[name]
    path = tmp_path / "w.safetensors"
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=reason) as caught:
        load_generator(path, CPU)
    assert str(path) in str(caught.value)
    assert caught.value.exit_code == ExitCode.UNAVAILABLE
    assert isinstance(caught.value, UnsafeWeightsError) == (name in {"pickle", "zip"})


def test_a_file_that_no_model_could_fill_is_refused_unread(tmp_path):
    path = tmp_path / "w.safetensors"
    with path.open("wb") as file:
        file.truncate(10 << 30)  # sparse
    with pytest.raises(WeightsError, match=r"10\.7 GB"):
        load_generator(path, CPU)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_damaged_header_is_an_error_of_ours_or_none(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("damaged") / "w.safetensors"
    sound = build_file({"a": ("F32", [2, 3], 0, 24), "b": ("F16", [], 24, 26)}, bytes(26))
    damaged = bytearray(sound)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        damaged[place] = data.draw(st.integers(0, 255))
    path.write_bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    with path.open("rb") as file:
        try:
            header = read_header(path, file)
        except WeightsError:
            return
        # What passes is what the reference implementation reads too.
        with safe_open(path, "np") as reference:
            assert set(reference.keys()) == set(header.tensors)


def change_dtype(state):
    state["refine.head.bias"] = state["refine.head.bias"].to(torch.int32)


def test_whole_numbers_in_place_of_floats_are_refused(tmp_path):
    path = write_weights(tmp_path / "w.safetensors", change_dtype)
    with pytest.raises(WeightsError, match=r"refine\.head\.bias is int32, expected float32"):
        load_generator(path, CPU)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(WeightsError, match=r"nowhere\.safetensors: cannot read"):
        find_weights(tmp_path / "nowhere.safetensors")


def test_a_truncated_file_is_refused(tmp_path):
    path = write_weights(tmp_path / "w.safetensors")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="tensors that claim"):
        load_generator(path, CPU)


def test_a_broken_manifest_is_named(tmp_path):
    (tmp_path / "manifest.toml").write_text("models = [")
    with pytest.raises(WeightsError, match="not a readable manifest"):
        read_manifest(tmp_path)
