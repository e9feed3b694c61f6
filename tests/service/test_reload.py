"""A new model takes over under load: no request fails, no event is lost."""

from __future__ import annotations

import copy
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

for needed in ("fastapi", "uvicorn", "prometheus_client"):
    pytest.importorskip(needed, reason="needs palate[serve]")
httpx = pytest.importorskip("httpx", reason="needs httpx")

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def newer(id_model, shop_events):
    """The model after another night of training."""
    model = copy.copy(id_model)
    return model.partial_fit(shop_events.tail(20).assign(timestamp=np.arange(100, 120)), epochs=2)


def expect(server, model, users, events=()):
    """Check the lists of users against a model that observed these events."""
    twin = copy.copy(model)
    if events:
        twin.observe(pd.DataFrame(events, columns=["user_id", "item_id", "timestamp"]))
    lists = server.lists(users=users, k=13, filter_viewed=False)
    for user, found in zip(users, lists, strict=True):
        table = twin.recommend([user], k=13, filter_viewed=False)
        assert [item for item, _ in found] == table["item_id"].tolist()
        np.testing.assert_allclose([score for _, score in found], table["score"], atol=1e-5)


def test_reloading_under_load_fails_no_request_and_loses_no_event(
    start, state, id_model, newer, publish, record_property
):
    server = start(state)
    old_lists = server.lists(users=["u1"], k=5)
    codes, versions, events = Counter(), Counter(), []
    stop = threading.Event()

    def read():
        with httpx.Client(timeout=30) as http:
            while not stop.is_set():
                answer = http.post(server.url + "/recommend", json={"users": ["u1"], "k": 5})
                codes["recommend", answer.status_code] += 1
                if answer.status_code == 200:
                    items = str(
                        [r["item_id"] for r in answer.json()["recommendations"][0]["items"]]
                    )
                    versions[answer.json()["model_version"], items] += 1

    def write(user):
        with httpx.Client(timeout=30) as http:
            while not stop.is_set():
                event = (user, f"i{len(events) % 13}", 200 + len(events))
                row = dict(zip(("user_id", "item_id", "timestamp"), event, strict=True))
                answer = http.post(server.url + "/observe", json={"events": [row]})
                codes["observe", answer.status_code] += 1
                if answer.status_code == 200:
                    events.append(event)

    threads = [threading.Thread(target=read) for _ in range(3)]
    threads += [threading.Thread(target=write, args=(f"w{n}",)) for n in range(2)]
    for thread in threads:
        thread.start()
    served = ["00000001"]
    for model in (newer, id_model, newer):
        time.sleep(0.1)
        # Trained with nothing of the log: all of it is to be replayed on the new model.
        made = publish(model, state, watermark=0)
        assert server.post("/reload").json() == {"model_version": made.name, "watermark": 0}
        served.append(made.name)
    time.sleep(0.1)
    stop.set()
    for thread in threads:
        thread.join()
    assert set(codes) == {("recommend", 200), ("observe", 200)}
    record_property("requests", sum(codes.values()))
    record_property("reloads", len(served) - 1)
    seen = {version for version, _ in versions}
    assert seen <= set(served)
    assert {served[0], served[-1]} <= seen
    for version in seen:  # a version has one answer: none is half old, half new
        assert len({items for name, items in versions if name == version}) == 1
    assert server.lists(users=["u1"], k=5) != old_lists
    users = sorted({user for user, _, _ in events})
    expect(server, newer, users, events)
    server.kill()
    expect(start(state), newer, users, events)


def test_a_hangup_reloads(start, state, newer, publish):
    server = start(state)
    server.observe(("new", "i3", 500))
    publish(newer, state, watermark=0)
    assert server.http.get("/healthz").json()["model_version"] == "00000001"
    server.signal(signal.SIGHUP)
    end = time.monotonic() + 20
    while server.http.get("/healthz").json()["model_version"] != "00000002":
        assert time.monotonic() < end
        time.sleep(0.02)
    expect(server, newer, ["new", "u1"], [("new", "i3", 500)])


def test_the_watermark_of_a_new_model_says_what_it_was_trained_with(
    start, state, id_model, publish
):
    server = start(state)
    events = [("new", f"i{n}", 500 + n) for n in range(4)]
    for event in events:
        server.observe(event)
    trained = copy.copy(id_model)
    trained.observe(pd.DataFrame(events[:3], columns=["user_id", "item_id", "timestamp"]))
    publish(trained, state, watermark=3)
    assert server.post("/reload").json() == {"model_version": "00000002", "watermark": 3}
    expect(server, id_model, ["new"], events)


def test_a_model_that_lacks_dropped_changes_is_refused_and_the_old_one_stays(
    start, state, id_model, newer, publish
):
    server = start(state, keep_versions=1)
    server.observe(("new", "i3", 500))
    server.post("/save")
    publish(newer, state, watermark=0)
    answer = server.post("/reload")
    assert answer.status_code == 409
    assert answer.json()["detail"] == (
        "version '00000003' holds the changes up to 0, but the log begins at 2: those between "
        "would be lost."
    )
    expect(server, id_model, ["new"], [("new", "i3", 500)])
    server.observe(("new", "i4", 501))
    answer = server.post("/save")
    assert answer.status_code == 409
    assert answer.json()["detail"] == (
        "the current version must still be '00000002'; it is '00000003': reload first."
    )
    publish(newer, state, watermark=9)
    assert server.post("/reload").json()["detail"] == (
        "version '00000004' holds the changes up to 9, but the log ends at 2: it is not the log "
        "of this model."
    )


def test_a_damaged_model_is_refused_and_the_old_one_stays(start, state, id_model, newer, publish):
    server = start(state)
    version = publish(newer, state, watermark=0)
    path = version.folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    answer = server.post("/reload")
    assert answer.status_code == 409
    assert "model.safetensors" in answer.json()["detail"]
    expect(server, id_model, ["u1"])


def test_the_command_of_the_readme_serves(state, tmp_path):
    """The whole way: publish from the command line, uvicorn by its command, settings by names."""
    environment = {"PATH": "/usr/bin:/bin", "PALATE_STATE": str(tmp_path / "served")}
    environment |= {"PALATE_MAX_K": "3", "PALATE_THREADS": "1", "HOME": str(tmp_path)}
    environment["PYTHONPATH"] = str(ROOT / "src")
    model = str(state / "models" / "current" / "model")
    command = [sys.executable, "-m", "service.publish", model, environment["PALATE_STATE"]]
    done = subprocess.run(
        command, cwd=ROOT / "examples", env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "version 00000001 is current\n"), done.stderr
    options = ["--app-dir", "examples", "--factory", "service.app:create_app", "--port", "0"]
    command = [sys.executable, "-m", "uvicorn", *options]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE) as process:
        try:
            lines = iter(process.stderr.readline, b"")
            line = next(line for line in lines if b"running on" in line)
            url = line.split()[line.split().index(b"on") + 1].decode()
            end = time.monotonic() + 60
            while httpx.get(url + "/healthz").status_code != 200:
                assert time.monotonic() < end
                time.sleep(0.05)
            body = {"users": ["u1"], "k": 3}
            assert httpx.post(url + "/recommend", json=body).status_code == 200
            answer = httpx.post(url + "/recommend", json=body | {"k": 4})
            assert answer.json() == {"detail": "k must be at most 3; got 4."}
        finally:
            process.send_signal(signal.SIGTERM)
        process.stderr.read()
