"""Weights files: only sound ones of the right architecture are loaded, and the reason is said."""

import json
import pickle
import struct

import pytest
import torch
from safetensors.torch import save_file

from restorepix.errors import ExitCode, WeightsError
from restorepix.models.generator import Generator, GeneratorConfig
from restorepix.models.loading import ARCHITECTURE, find_weights, load_generator, read_manifest

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
    path = write_weights(tmp_path / "w.safetensors", architecture="lama")
    with pytest.raises(WeightsError, match=r"'lama', expected 'restorepix"):
        load_generator(path, CPU)


def test_a_config_with_unknown_fields_is_refused(tmp_path):
    path = write_weights(tmp_path / "w.safetensors", config={**SIZES, "gates": True})
    with pytest.raises(WeightsError, match="gates"):
        load_generator(path, CPU)


def hostile_files():
    yield "pickle", pickle.dumps({"x": 1}), "pickle"
    yield "zip", b"PK\x03\x04" + bytes(64), "pickle"
    yield "empty", b"", "no safetensors"
    yield "short", b"\x10\x00", "no safetensors"
    yield "huge header", struct.pack("<Q", 10**13) + b"{}", "no safetensors"
    yield "header past the end", struct.pack("<Q", 500) + b"{}", "no safetensors"
    yield "no json", struct.pack("<Q", 4) + b"abcd", "no JSON"
    yield "nonsense offsets", _offsets(0, 10**12), "architecture|do not fit"
    yield "backward offsets", _offsets(8, 0), "architecture|do not fit"


def _offsets(start, end):
    tensor = {"dtype": "F32", "shape": [2], "data_offsets": [start, end]}
    about = {"architecture": ARCHITECTURE, "config": json.dumps(SIZES)}
    header = json.dumps({"__metadata__": about, "coarse.stem.bias": tensor}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(8)


@pytest.mark.parametrize(("name", "data", "reason"), list(hostile_files()))
def test_hostile_files_are_refused_with_the_reason(tmp_path, name, data, reason):
    path = tmp_path / "w.safetensors"
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=reason) as caught:
        load_generator(path, CPU)
    assert str(path) in str(caught.value), name
    assert caught.value.exit_code == ExitCode.UNAVAILABLE


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(WeightsError, match=r"nowhere\.safetensors: cannot read"):
        find_weights(tmp_path / "nowhere.safetensors")


def test_a_truncated_file_is_refused(tmp_path):
    path = write_weights(tmp_path / "w.safetensors")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="do not fit"):
        load_generator(path, CPU)


def test_a_broken_manifest_is_named(tmp_path):
    (tmp_path / "manifest.toml").write_text("models = [")
    with pytest.raises(WeightsError, match="not a readable manifest"):
        read_manifest(tmp_path)
