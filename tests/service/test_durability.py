"""kill -9 at any moment: what was acknowledged is there after the restart, once."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time

import numpy as np
import pytest

for needed in ("fastapi", "uvicorn", "prometheus_client"):
    pytest.importorskip(needed, reason="needs palate[serve]")
httpx = pytest.importorskip("httpx", reason="needs httpx")

N_ITEMS = 13
# For a long run, with the figures shown:
# PALATE_KILLS=100 python -m pytest -o log_cli=true --log-level=INFO tests/service
N_KILLS = int(os.environ.get("PALATE_KILLS", "6"))

_log = logging.getLogger(__name__)


class Client(threading.Thread):
    """Observes event after event and remembers what was acknowledged.

    Every ten events are of a new user, so that each history is short enough to be read whole.
    """

    def __init__(self, name: str, acknowledged: list[str]) -> None:
        super().__init__(name=name, daemon=True)
        self.acknowledged = acknowledged
        self.in_flight: str | None = None
        self.url = ""
        self._random = np.random.default_rng(len(acknowledged))

    def run(self) -> None:
        with httpx.Client(timeout=30) as http:
            while True:
                self.in_flight = f"i{self._random.integers(N_ITEMS)}"
                time_ = len(self.acknowledged)
                user = f"{self.name}.{time_ // 10}"
                event = {"user_id": user, "item_id": self.in_flight, "timestamp": time_}
                try:
                    answer = http.post(self.url + "/observe", json={"events": [event]})
                except httpx.TransportError:
                    return  # killed: this one may have been taken or not
                assert answer.status_code == 200, answer.text
                self.acknowledged.append(self.in_flight)

    def again(self) -> Client:
        """Return a client that goes on where this one stopped."""
        return Client(self.name, self.acknowledged)


def settle(server, model, clients):
    """Check the history of every user; note for each client whether its last event was taken.

    Returns how many were taken without an answer.
    """
    unanswered = 0
    for client in clients:
        if client.in_flight is not None:
            last = f"{client.name}.{len(client.acknowledged) // 10}"
            longer = [*client.acknowledged, client.in_flight]
            found = ask(server, [last])[0]
            if answers(model, longer[len(client.acknowledged) // 10 * 10 :], found):
                client.acknowledged.append(client.in_flight)
                unanswered += 1
        starts = range(0, len(client.acknowledged), 10)
        lists = ask(server, [f"{client.name}.{start // 10}" for start in starts])
        for start, found in zip(starts, lists, strict=True):
            history = client.acknowledged[start : start + 10]
            assert answers(model, history, found), f"{client.name}, events from {start} on"
    return unanswered


def ask(server, users):
    query = {"k": N_ITEMS, "filter_viewed": False, "on_unsupported_targets": "ignore"}
    parts = [users[start : start + 50] for start in range(0, len(users), 50)]
    return [found for part in parts for found in server.lists(users=part, **query)]


def answers(model, history, found) -> bool:
    expected = model.recommend(histories=[history], k=N_ITEMS, filter_viewed=False)
    same = [item for item, _ in found] == expected["item_id"].tolist()
    return same and np.allclose([score for _, score in found], expected["score"], atol=1e-5)


def test_the_check_itself_tells_histories_apart(id_model):
    """One event more, one less or one twice changes the answer, so the tests below can fail."""
    history = ["i1", "i5", "i5", "i2"]
    found = id_model.recommend(histories=[history], k=N_ITEMS, filter_viewed=False)
    found = list(zip(found["item_id"], found["score"], strict=True))
    assert answers(id_model, history, found)
    for place in range(4):
        assert not answers(id_model, history[:place] + history[place + 1 :], found)
        twice = history[: place + 1] + history[place:]
        assert not answers(id_model, twice, found)


@pytest.mark.parametrize("saving", [False, True], ids=["observe", "observe and save"])
def test_nothing_acknowledged_is_lost_by_kills_at_random_moments(
    start, state, id_model, saving, record_property
):
    random = np.random.default_rng(11 + saving)
    clients = [Client(f"c{number}", []) for number in range(4)]
    total, unanswered, versions = 0, 0, set()
    for _ in range(N_KILLS):
        server = start(state, keep_versions=1)
        versions.add(server.http.get("/healthz").json()["model_version"])
        unanswered += settle(server, id_model, clients)
        clients = [client.again() for client in clients]
        for client in clients:
            client.url = server.url
            client.start()
        if saving:
            threading.Thread(target=save_on, args=(server.url,), daemon=True).start()
        end = time.monotonic() + 60
        while count(clients) == total:
            assert time.monotonic() < end
            time.sleep(0.001)
        time.sleep(random.uniform(0, 0.4))
        server.kill()
        for client in clients:
            client.join()
        total = count(clients)
    total -= unanswered  # of the rounds before
    unanswered += settle(start(state), id_model, clients)
    assert count(clients) == total + unanswered  # what the last check found in the histories
    for name, value in (("kills", N_KILLS), ("acknowledged", total), ("unanswered", unanswered)):
        record_property(name, value)
    _log.info("%d kills, %d events acknowledged, none lost or doubled", N_KILLS, total)
    assert len(versions) > 1 if saving else len(versions) == 1


def count(clients) -> int:
    return sum(len(client.acknowledged) for client in clients)


def save_on(url: str) -> None:
    """Save again and again until the service is gone."""
    with httpx.Client(timeout=30) as http:
        while True:
            try:
                answer = http.post(url + "/save")
            except httpx.TransportError:
                return
            assert answer.status_code == 200, answer.text


def test_a_save_shortens_the_log_and_replays_nothing_twice(start, state, id_model):
    server = start(state, keep_versions=1)
    history = ["i1", "i2", "i2", "i7"]
    for time_, item in enumerate(history[:2]):
        server.observe(("new", item, time_))
    assert server.post("/save").json() == {"model_version": "00000002", "watermark": 2}
    assert [path.stat().st_size for path in (state / "events").glob("*.log")] == [0]
    assert [p.name for p in (state / "models").glob("0*")] == ["00000002"]
    assert server.post("/save").json() == {"model_version": "00000002", "watermark": 2}
    for time_, item in enumerate(history[2:], start=2):
        server.observe(("new", item, time_))
    for _ in range(2):
        found = server.lists(users=["new"], k=N_ITEMS, filter_viewed=False)[0]
        assert answers(id_model, history, found)
        server.kill()
        server = start(state, keep_versions=1)
    assert server.http.get("/healthz").json()["unsaved"] == 2


def test_a_model_is_saved_by_itself_when_it_has_unsaved_events(start, state):
    server = start(state, save_seconds=0.2)
    time.sleep(0.5)
    assert server.http.get("/healthz").json()["model_version"] == "00000001"
    server.observe(("new", "i1", 1))
    end = time.monotonic() + 20
    while server.http.get("/healthz").json()["unsaved"]:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert server.http.get("/healthz").json()["model_version"] == "00000002"


def test_a_polite_stop_answers_what_is_in_flight(start, state, id_model):
    server = start(state)
    client = Client("c9", [])
    client.url = server.url
    client.start()
    while len(client.acknowledged) < 5:
        time.sleep(0.01)
    server.signal(signal.SIGTERM)
    server.process.join(timeout=20)
    assert server.process.exitcode is not None
    client.join(timeout=20)
    settle(start(state), id_model, [client])


def test_a_second_service_on_the_same_folder_is_not_ready(start, state):
    first = start(state)
    second = start(state, ready=False)
    end = time.monotonic() + 20
    while "in use" not in second.http.get("/healthz").json()["detail"]:
        assert time.monotonic() < end
        time.sleep(0.05)
    folder = str(state / "events")
    assert second.http.get("/healthz").json()["detail"] == (
        f"{folder!r} is in use by another process."
    )
    first.kill()
    assert second.post("/reload").status_code == 200
    assert second.http.get("/healthz").json()["ready"] is True
