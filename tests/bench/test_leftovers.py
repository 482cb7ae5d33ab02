"""What the node holds is counted with its children, and growth is named."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from bench.processes import CpuMeter, family, usage_of
from bench.recognition import loop_s
from bench.recording import Samples
from bench.soak import Service, Snapshot, growth
from bench.voices import CallerVoice, LineCache, cough, tightened, voice_of


def held(memory_mib: int, *, descriptors: int = 20, pid: int = 7, slots: int = 0) -> Snapshot:
    service = Service(name="calls-1", pid=pid, resident_bytes=memory_mib << 20, descriptors=descriptors, threads=9)
    return Snapshot(services=(service,), channels=0, bridges=0, slots_in_use=slots)


def test_steady_figures_are_no_growth() -> None:
    """A few pages and a pooled socket are not a leak."""
    assert growth(held(200), held(203, descriptors=22)) == []


def test_what_grew_is_named() -> None:
    """Memory, descriptors, a restart and a slot that is still held each fail by name."""
    assert "memory" in growth(held(200), held(260))[0]
    assert "descriptors" in growth(held(200), held(200, descriptors=60))[0]
    assert "restarted" in growth(held(200), held(200, pid=8))[0]
    assert "1 slots" in growth(held(200), held(200, slots=1))[0]


def test_cpu_of_children_is_counted() -> None:
    """A busy child counts with its parent, and what was used before the meter does not."""
    meter = CpuMeter([os.getpid()])
    child = subprocess.Popen(
        [sys.executable, "-c", "import time\nt=time.process_time\nwhile t()<0.3: pass\ninput()"], stdin=subprocess.PIPE
    )
    try:
        while meter.sample() < 0.25:
            assert child.poll() is None
        assert child.pid in family([os.getpid()])
        assert meter.sample() < 20
    finally:
        child.communicate(b"\n", timeout=10)
    assert usage_of(child.pid) is None


def test_loops_are_measured_and_digits_are_not() -> None:
    """A repeated phrase is a loop; "five five five five five" is a telephone number."""
    assert loop_s("thank you thank you thank you thank you thank you") > 1
    assert loop_s("call five five five five five") == 0
    assert loop_s("we are open from nine to five") == 0


def test_lines_are_spoken_once(tmp_path: Path) -> None:
    """A cached line is read back as it was spoken, and another voice is another line."""

    class Counter:
        spoken = 0

        def speak(self, text: str, voice: CallerVoice) -> Samples:
            self.spoken += 1
            return np.full(100, round(100 * voice.tempo) + len(text), np.int16)

    speaker = Counter()
    cache = LineCache(tmp_path, speaker)
    first, second = CallerVoice(tempo=1.0, pitch=1.0), CallerVoice(tempo=1.1, pitch=1.0)
    assert np.array_equal(cache.line("hello", first), cache.line("hello", first))
    assert cache.has("hello", first)
    assert not cache.has("hello", second)
    cache.line("hello", second)
    assert speaker.spoken == 2


def test_a_seed_is_a_voice() -> None:
    """The same seed gives the same caller and the same cough."""
    assert voice_of(5) == voice_of(5)
    assert len({voice_of(seed) for seed in range(20)}) > 3
    assert np.array_equal(cough(3), cough(3))


def test_lines_are_cut_tight_and_levelled() -> None:
    """Silence around speech goes, speech comes to the usual level."""
    t = np.arange(16000) / 16000
    speech = np.concatenate([np.zeros(8000), 0.05 * np.sin(2 * np.pi * 300 * t), np.zeros(8000)]).astype(np.float32)
    samples = tightened(speech, 16000)
    assert 16000 <= len(samples) <= 16000 + 2 * 0.03 * 16000
    assert len(tightened(np.zeros(10, np.float32), 16000)) == 0
