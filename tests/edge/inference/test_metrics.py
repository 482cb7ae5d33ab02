"""The queue in front of each model can be scraped."""

import aiohttp
from prometheus_client import generate_latest

from edge.inference.gate import GateHealth
from edge.inference.metrics import queue_registry
from edge.observability.serving import serving_metrics

BUSY = GateHealth(queued=3, running=2, waited_p95_s=0.25, started=10, refused=1, expired=4, cancelled=5)


def test_a_model_shows_its_queue_and_what_became_of_requests() -> None:
    text = generate_latest(queue_registry(lambda: [("asr", "whisper", BUSY)])).decode()
    assert 'borough_inference_queued{kind="asr",model="whisper"} 3.0' in text
    assert 'borough_inference_running{kind="asr",model="whisper"} 2.0' in text
    assert 'borough_inference_queue_wait_p95_seconds{kind="asr",model="whisper"} 0.25' in text
    assert 'borough_inference_requests_total{fate="refused",kind="asr",model="whisper"} 1.0' in text
    assert 'borough_inference_requests_total{fate="expired",kind="asr",model="whisper"} 4.0' in text


async def test_it_is_read_anew_at_every_scrape() -> None:
    loads = [("asr", "whisper", BUSY)]
    async with serving_metrics(queue_registry(lambda: loads), "127.0.0.1", 0) as port, aiohttp.ClientSession() as web:
        for expected in (True, False):
            async with web.get(f"http://127.0.0.1:{port}/metrics", timeout=aiohttp.ClientTimeout(total=5)) as response:
                assert ('model="whisper"' in await response.text()) is expected
            loads.clear()
