"""Windows to and from a device: shared calls, one answer each, little memory, any thread."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from restorepix.batching import BatchCaller, ThreadCaller, begin_fetch, is_out_of_memory


class FakeDevice:
    """Adds one to each picture; remembers its calls, and runs out of memory on demand."""

    def __init__(self, most_px: int = 1 << 40, seconds: float = 0.0) -> None:
        self.most_px = most_px
        self.seconds = seconds
        self.calls: list[tuple[int, ...]] = []
        self.flying = 0
        self.most_flying = 0
        self.lock = threading.Lock()
        self.trouble: Exception | None = None

    def launch(self, images, masks):
        assert images.shape[:3] == masks.shape
        if images.shape[0] * images.shape[1] * images.shape[2] > self.most_px:
            raise torch.OutOfMemoryError("no room")
        with self.lock:
            self.calls.append(images.shape[:3])
            self.flying += 1
            self.most_flying = max(self.most_flying, self.flying)

        def wait():
            time.sleep(self.seconds)
            with self.lock:
                self.flying -= 1
            if self.trouble is not None:
                raise self.trouble
            return images + 1

        return wait


def submit_all(caller, count, side=8, start=0):
    """Answers of windows that each hold their own number, and what they should be."""
    image = np.ones((side, side, 3), np.float32)
    mask = np.ones((side, side), np.bool_)
    waits = [caller.submit(image * (start + n), mask) for n in range(count)]
    return [float(wait()[0, 0, 0]) for wait in waits], [start + n + 1.0 for n in range(count)]


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_call_one_window_each(threads):
    device = FakeDevice(seconds=0.01)
    found, expected = submit_all(ThreadCaller(device.launch, threads), 9)
    assert found == expected
    assert set(device.calls) == {(1, 8, 8)}
    assert device.most_flying == (1 if threads == 1 else device.most_flying) <= threads


def test_a_batch_is_filled_and_the_rest_is_not_left_behind():
    device = FakeDevice()
    caller = BatchCaller(device.launch, 4 * 64, "gpu")
    found, expected = submit_all(caller, 10)
    assert found == expected
    assert sorted(call[0] for call in device.calls) == [2, 4, 4]


def test_windows_of_several_pictures_share_calls_and_the_next_call_is_begun_early():
    device = FakeDevice(seconds=0.005)
    caller = BatchCaller(device.launch, 8 * 64, "gpu")
    answers = {}

    def work(number):
        for turn in range(5):
            key = 100 * number + 10 * turn
            answers[key] = submit_all(caller, 3, start=key)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(answers) == 40
    assert all(found == expected for found, expected in answers.values())
    assert max(call[0] for call in device.calls) > 3
    assert len(device.calls) < 40
    assert device.most_flying == 2


def test_shapes_are_not_mixed_and_none_waits_for_ever():
    device = FakeDevice(seconds=0.001)
    caller = BatchCaller(device.launch, 4 * 64, "gpu")
    results = []
    threads = [
        threading.Thread(target=lambda s=side: results.append(submit_all(caller, 7, side=s)))
        for side in (8, 16, 4, 8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [found == expected for found, expected in results] == [True] * 4
    # A window larger than the limit still goes, by itself.
    assert {call for call in device.calls if call[1] == 16} == {(1, 16, 16)}


def test_too_little_memory_halves_the_batch_once_for_all_and_says_so(caplog):
    device = FakeDevice(most_px=2 * 64)
    caller = BatchCaller(device.launch, 8 * 64, "cuda:7")
    for _ in range(3):
        found, expected = submit_all(caller, 16)
        assert found == expected
    assert max(call[0] for call in device.calls) == 2
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert lines[-1].startswith("cuda:7 has too little memory for 4 windows of 8 x 8 px at a time")
    assert lines[-1].endswith("2 from now on.")


def test_one_window_that_does_not_fit_is_told_to_who_asked():
    caller = BatchCaller(FakeDevice(most_px=64).launch, 8 * 64, "gpu")
    with pytest.raises(torch.OutOfMemoryError):
        submit_all(caller, 1, side=16)
    assert submit_all(caller, 3)[0] == [1.0, 2.0, 3.0]


def test_an_error_reaches_everybody_who_waits_and_the_next_call_works():
    device = FakeDevice()
    caller = BatchCaller(device.launch, 4 * 64, "gpu")
    device.trouble = RuntimeError("CUDA error: an illegal memory access was encountered")
    mask = np.ones((8, 8), np.bool_)
    waits = [caller.submit(np.ones((8, 8, 3), np.float32), mask) for _ in range(3)]
    for wait in waits:
        with pytest.raises(RuntimeError, match="illegal memory access"):
            wait()
    device.trouble = None
    assert submit_all(caller, 2)[0] == [1.0, 2.0]


def test_a_thread_that_rests_is_replaced(monkeypatch):
    monkeypatch.setattr("restorepix.batching._IDLE_S", 0.05)
    caller = BatchCaller(FakeDevice().launch, 4 * 64, "gpu")
    assert submit_all(caller, 2)[0] == [1.0, 2.0]
    deadline = time.monotonic() + 10
    while caller._thread is not None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert caller._thread is None
    assert submit_all(caller, 2)[0] == [1.0, 2.0]


class FakeStream:
    """What a GPU is asked to do, in order; what is waited for is done, with all before it."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.queue: list[str] = []
        self.done = 0

    def record_event(self):
        place = len(self.queue)

        def synchronize():
            self.done = max(self.done, place)

        return SimpleNamespace(synchronize=synchronize)


def test_waiting_for_a_call_is_not_waiting_for_the_next_one(monkeypatch):
    device = torch.device("cuda", 1)
    stream = FakeStream(device)

    class Pinned:
        def __init__(self, shape, dtype, pin_memory):
            assert pin_memory and dtype == torch.float32
            self.content = np.zeros(shape, np.float32)

        def copy_(self, tensor, non_blocking):
            assert non_blocking
            stream.queue.append(f"copy {tensor.number}")
            self.content += tensor.number

        def numpy(self):
            return self.content

    def find_stream(wanted):
        assert wanted == device
        return stream

    def launch(images, masks):
        number = int(images[0, 0, 0, 0])
        assert all_are_there.wait(30)
        stream.queue.append(f"call {number}")
        on_gpu = SimpleNamespace(
            device=device, shape=images.shape, dtype=torch.float32, number=number
        )
        waits = begin_fetch(on_gpu)

        def wait():
            rgb = waits()
            seen.append((number, stream.queue[: stream.done], len(stream.queue) > stream.done))
            return rgb

        return wait

    monkeypatch.setattr(torch, "empty", Pinned)
    monkeypatch.setattr(torch.cuda, "current_stream", find_stream)
    seen: list[tuple[int, list[str], bool]] = []
    all_are_there = threading.Event()
    caller = BatchCaller(launch, 64, "cuda:1")
    image, mask = np.ones((8, 8, 3), np.float32), np.ones((8, 8), np.bool_)
    waits = [caller.submit(image * number, mask) for number in (1, 2, 3)]
    all_are_there.set()
    assert [float(wait()[0, 0, 0]) for wait in waits] == [1.0, 2.0, 3.0]
    order = ["call 1", "copy 1", "call 2", "copy 2", "call 3", "copy 3"]
    assert stream.queue == order
    assert [(number, done) for number, done, _ in seen] == [
        (1, order[:2]),
        (2, order[:4]),
        (3, order),
    ]
    # While the first two answers are taken, the device has the next call already.
    assert [busy for _, _, busy in seen] == [True, True, False]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("x"), True),
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"), True),
        (RuntimeError("shapes do not match"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_counts_as_out_of_memory(error, expected):
    assert is_out_of_memory(error) == expected
