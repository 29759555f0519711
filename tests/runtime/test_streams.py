"""Works at once: what is asked of a CUDA device, and what each of them finds kept."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from conftest import FakeStream

from progan.ops.weight_cache import cached, weight_cache
from progan.runtime import streams
from progan.runtime.streams import run_concurrently

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def cuda_calls(monkeypatch):
    """What is asked of torch.cuda, in order."""
    log = []
    here, beside = FakeStream("here", log), FakeStream("beside", log)

    @contextmanager
    def on(stream):
        log.append(f"on {stream.name}")
        yield
        log.append(f"off {stream.name}")

    monkeypatch.setattr(streams, "stream_for", lambda device, purpose: beside)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: here)
    monkeypatch.setattr(torch.cuda, "stream", on)
    return log


def test_the_second_has_a_stream_that_waits_for_what_was_before_and_is_waited_for(cuda_calls):
    assert run_concurrently(
        CUDA, lambda: cuda_calls.append("first") or 1, lambda: cuda_calls.append("second") or 2
    ) == (1, 2)
    assert cuda_calls == [
        "beside waits for here",
        "first",
        "on beside",
        "second",
        "off beside",
        "here waits for beside",
    ]


def test_elsewhere_one_follows_the_other(cuda_calls):
    assert run_concurrently(CPU, lambda: cuda_calls.append("first") or 1, lambda: cuda_calls.append("second") or 2) == (
        1,
        2,
    )
    assert cuda_calls == ["first", "second"]


@pytest.mark.usefixtures("cuda_calls")
@pytest.mark.parametrize(("device", "made"), [(CUDA, ["before", "first", "second"]), (CPU, ["before", "first"])])
def test_neither_uses_what_the_other_may_not_have_made_yet(device, made):
    """What is made on one stream is there for the other only once it has waited; on the CPU it is used again."""
    log, owner = [], [torch.zeros(1)]

    def work(name):
        cached("earlier", owner, lambda: log.append(f"anew by {name}"))
        cached("later", owner, lambda: log.append(name))

    with weight_cache():
        cached("earlier", owner, lambda: log.append("before"))
        run_concurrently(device, lambda: work("first"), lambda: work("second"))
    assert log == made


@pytest.mark.usefixtures("cuda_calls")
def test_an_error_in_one_is_raised():
    with weight_cache():
        with pytest.raises(ZeroDivisionError):
            run_concurrently(CUDA, lambda: None, lambda: 1 // 0)
        owner = [torch.zeros(1)]
        assert [cached("a", owner, lambda: 1), cached("a", owner, lambda: 2)] == [1, 1]
