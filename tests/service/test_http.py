"""The endpoints over real HTTP: answers, refusals, limits, metrics, OpenAPI."""

from __future__ import annotations

import copy
import threading

import pandas as pd
import pytest

for needed in ("fastapi", "uvicorn"):
    pytest.importorskip(needed, reason="needs palate[serve]")
httpx = pytest.importorskip("httpx", reason="needs httpx")
metrics_parser = pytest.importorskip("prometheus_client.parser", reason="needs palate[serve]")


@pytest.fixture(scope="module")
def _module_state(tmp_path_factory, text_model, publish):
    folder = tmp_path_factory.mktemp("service") / "state"
    publish(text_model, folder)
    return folder


@pytest.fixture(scope="module")
def running(_module_state, start_for_module):
    """One service for the tests that leave it as it is."""
    return start_for_module(_module_state, max_k=12, max_users=4, max_events=3, max_items=2)


def rows_of(answer, user):
    """Return what the model answers one user, as the service writes it."""
    mine = answer[answer["user_id"] == user]
    return [
        {"item_id": item, "score": pytest.approx(score, abs=1e-5), "rank": rank}
        for item, score, rank in zip(mine["item_id"], mine["score"], mine["rank"], strict=True)
    ]


def test_users_get_the_lists_of_the_model_in_the_order_of_the_request(running, text_model):
    users = ["u3", "u1", "u3"]
    answer = running.post("/recommend", {"users": users, "k": 5})
    assert answer.status_code == 200
    expected = text_model.recommend(["u3", "u1"], k=5)
    assert answer.json() == {
        "model_version": "00000001",
        "recommendations": [{"user_id": u, "items": rows_of(expected, u)} for u in users],
    }


def test_histories_may_mix_items_and_words(running, text_model):
    from palate import Text

    answer = running.post(
        "/recommend", {"histories": [["i1", {"text": "a red lamp"}], ["i2"]], "k": 3}
    )
    expected = text_model.recommend(histories=[["i1", Text("a red lamp")], ["i2"]], k=3)
    found = answer.json()["recommendations"]
    assert found == [{"user_id": n, "items": rows_of(expected, n)} for n in (0, 1)]


def test_histories_in_words(running, text_model):
    answer = running.post("/recommend", {"texts": [["i bought a book"], ["a garden"]], "k": 2})
    expected = text_model.recommend(texts=[["i bought a book"], ["a garden"]], k=2)
    found = answer.json()["recommendations"]
    assert found == [{"user_id": n, "items": rows_of(expected, n)} for n in (0, 1)]


def test_filters(running, text_model):
    viewed = running.lists(users=["u1"], k=12, filter_viewed=False)[0]
    fresh = running.lists(users=["u1"], k=12)[0]
    assert len(viewed) == 12
    assert len(fresh) < len(viewed)
    only = running.lists(users=["u1"], k=5, items_to_recommend=["i1", "i2"], filter_viewed=False)
    assert sorted(item for item, _ in only[0]) == ["i1", "i2"]
    rest = running.lists(users=["u1"], k=12, items_to_exclude=[viewed[0][0]], filter_viewed=False)
    assert [item for item, _ in rest[0]][:11] == [item for item, _ in viewed[1:]]


def test_unknown_users_and_items_are_skipped_on_demand(running):
    lists = running.lists(users=["nobody", "u1"], k=1, on_unsupported_targets="ignore")
    assert [len(each) for each in lists] == [0, 1]
    lists = running.lists(histories=[["nothing"], ["i1"]], k=1, on_unsupported_targets="ignore")
    assert [len(each) for each in lists] == [0, 1]


UNKNOWN = "Pass on_unsupported_targets='warn' or 'ignore' to skip them."
UNANSWERED = f"{UNKNOWN[:-1]}, or 'popular' to answer by what is popular."
EVENT = {"user_id": "u1", "item_id": "i1", "timestamp": 99}
REFUSED = [
    ("/recommend", {"users": ["x"]}, f"users unknown to the model: 'x'. {UNANSWERED}"),
    (
        "/recommend",
        {"histories": [["x"]]},
        f"items in histories unknown to the model: 'x'. {UNANSWERED}",
    ),
    ("/recommend", {}, "one of users, histories and texts must be given; got none."),
    (
        "/recommend",
        {"users": ["u1"], "texts": [["a"]]},
        "one of users, histories and texts must be given; got users and texts.",
    ),
    ("/recommend", {"users": ["u1"], "k": 13}, "k must be at most 12; got 13."),
    (
        "/recommend",
        {"users": ["u1"] * 5},
        "the number of users must be at most 4; got 5.",
    ),
    (
        "/recommend",
        {"users": ["u1"], "k": 0},
        "k is not valid: Input should be greater than or equal to 1; got 0.",
    ),
    (
        "/recommend",
        {"users": ["u1"], "K": 3},
        "K is not valid: Extra inputs are not permitted; got 3.",
    ),
    (
        "/recommend",
        {"users": []},
        "users is not valid: List should have at least 1 item after validation, not 0; got [].",
    ),
    (
        "/observe",
        {"events": [EVENT | {"item_id": "x"}]},
        f"items in X unknown to the model: 'x'. {UNKNOWN}",
    ),
    ("/observe", {"events": [EVENT] * 4}, "the number of events must be at most 3; got 4."),
    (
        "/observe",
        {"events": [EVENT, EVENT | {"timestamp": "2026-11-24T10:00:00Z"}]},
        "timestamp must be of one kind in all events, or in none.",
    ),
    (
        "/observe",
        {"events": [{"user_id": "u1", "item_id": "i1"}]},
        "X must have a column 'timestamp', as the events learned before had one.",
    ),
    (
        "/observe",
        {"events": [EVENT | {"weight": -1.0}]},
        "events.0.weight is not valid: Input should be greater than or equal to 0; got -1.0.",
    ),
    (
        "/items",
        {"items": [{"item_id": "i1", "title": "a"}]},
        "items must be new to the catalogue; row 0 names 'i1', which is in it.",
    ),
    (
        "/items",
        {"items": [{"item_id": "n1"}]},
        "items must have a column 'title', as the items learned before had; its columns are none.",
    ),
    (
        "/items",
        {"items": [{"item_id": "n1", "title": "a"}, {"item_id": "n2"}]},
        "items must all have the same fields, item_id, title; item 1 has item_id.",
    ),
    (
        "/items",
        {"items": [{"item_id": "n", "title": "a"}] * 3},
        "the number of items must be at most 2; got 3.",
    ),
]


@pytest.mark.parametrize(("path", "body", "sentence"), REFUSED)
def test_a_bad_request_is_refused_in_one_sentence_and_changes_nothing(
    running, path, body, sentence
):
    before = running.http.get("/healthz").json()
    answer = running.post(path, body)
    assert (answer.status_code, answer.json()) == (422, {"detail": sentence})
    assert running.http.get("/healthz").json() == before


def test_a_body_that_is_no_json_is_refused(running):
    answer = running.http.post(
        "/recommend", content=b"{", headers={"content-type": "application/json"}
    )
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("the body must be JSON: ")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_body_is_refused(running, chunked):
    pieces = [b" " * 100_000] * 12
    content = iter(pieces) if chunked else b"".join(pieces)
    answer = httpx.post(running.url + "/recommend", content=content, timeout=30)
    assert answer.status_code == 413
    assert answer.json() == {"detail": "the body must have at most 1000000 bytes."}


def test_events_count_from_the_next_request_on(start, state, id_model):
    server = start(state)
    new = [("u1", "i3", 200), ("u1", "i9", 201), ("fresh", "i2", 5)]
    answer = server.observe(*new)
    assert (answer.status_code, answer.json()) == (200, {"accepted": 3, "sequence": 1})
    twin = copy.copy(id_model)
    twin.observe(pd.DataFrame(new, columns=["user_id", "item_id", "timestamp"]))
    answer = server.post("/recommend", {"users": ["u1", "fresh"], "k": 13}).json()
    expected = twin.recommend(["u1", "fresh"], k=13)
    assert [row["items"] for row in answer["recommendations"]] == [
        rows_of(expected, user) for user in ("u1", "fresh")
    ]
    health = server.http.get("/healthz").json()
    assert (health["sequence"], health["unsaved"]) == (1, 3)


def test_new_items_are_found_by_their_text_and_survive_a_crash(start, text_state, text_model):
    new = pd.DataFrame({"item_id": ["n1", "n2"], "title": ["blue garden", "red book"]})
    twin = copy.copy(text_model)
    twin.add_items(new)
    twin.observe(pd.DataFrame({"user_id": ["u1"], "item_id": ["n2"], "timestamp": [300]}))
    server = start(text_state)
    answer = server.post("/items", {"items": new.to_dict("records")})
    assert (answer.status_code, answer.json()) == (200, {"accepted": 2, "sequence": 1})
    assert server.observe(("u1", "n2", 300)).json() == {"accepted": 1, "sequence": 2}
    expected = twin.recommend(["u1", "u2"], k=15)
    for _ in range(2):
        answer = server.post("/recommend", {"users": ["u1", "u2"], "k": 15}).json()
        assert [row["items"] for row in answer["recommendations"]] == [
            rows_of(expected, user) for user in ("u1", "u2")
        ]
        server.kill()
        server = start(text_state)


def test_one_bad_question_of_a_batch_does_not_spoil_the_others(start, state):
    server = start(state)
    good = {"users": ["u1"], "k": 3}
    expected = server.post("/recommend", good).json()
    found = []

    def ask(body):
        found.append((body, httpx.post(server.url + "/recommend", json=body, timeout=30)))

    bodies = [good if n % 3 else {"users": ["x"], "k": 3} for n in range(24)]
    threads = [threading.Thread(target=ask, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 24
    for body, answer in found:
        assert answer.status_code == (200 if body == good else 422)
        if body == good:
            assert answer.json()["recommendations"][0]["items"] == [
                row | {"score": pytest.approx(row["score"], abs=1e-5)}
                for row in expected["recommendations"][0]["items"]
            ]


def test_a_full_queue_answers_503_and_the_rest_is_served(start, state):
    server = start(state, max_waiting=1, max_batch=1)
    codes, sentences = [], set()

    def ask():
        with httpx.Client(timeout=30) as http:
            for _ in range(10):
                answer = http.post(server.url + "/recommend", json={"users": ["u1"] * 9})
                codes.append(answer.status_code)
                if answer.status_code == 503:
                    assert answer.headers["retry-after"] == "1"
                    sentences.add(answer.json()["detail"].split(";")[1])

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(codes) == {200, 503}
    assert sentences == {" try again soon."}
    assert server.post("/recommend", {"users": ["u1"]}).status_code == 200


def test_without_a_model_it_lives_and_says_what_is_missing(start, tmp_path, id_model, publish):
    server = start(tmp_path / "empty", ready=False)
    assert server.http.get("/healthz/live").status_code == 200
    health = server.http.get("/healthz")
    assert health.status_code == 503
    for path, body in (("/recommend", {"users": ["u1"]}), ("/observe", {"events": [EVENT]})):
        answer = server.post(path, body)
        assert (answer.status_code, answer.json()) == (
            503,
            {"detail": "no model is loaded yet; try again soon."},
        )
    assert server.post("/reload").status_code == 409
    sentence = f"{str(tmp_path / 'empty' / 'models')!r} holds no model yet: publish one."
    assert server.http.get("/healthz").json()["detail"] == sentence
    publish(id_model, tmp_path / "empty")
    assert server.post("/reload").json() == {"model_version": "00000001", "watermark": 0}
    assert server.http.get("/healthz").json()["ready"] is True
    assert server.post("/recommend", {"users": ["u1"]}).status_code == 200


def samples(server):
    text = server.http.get("/metrics").text
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in metrics_parser.text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_count_what_happened(start, state):
    server = start(state)
    server.post("/recommend", {"users": ["u1"]})
    server.post("/recommend", {"users": ["x"]})
    server.observe(("u1", "i1", 200), ("u1", "i2", 201))
    server.http.get("/no/such/path")
    found = samples(server)
    assert found["palate_requests_total", "/recommend", "200"] == 1
    assert found["palate_requests_total", "/recommend", "422"] == 1
    assert found["palate_requests_total", "404", "other"] == 1
    assert found["palate_request_seconds_count", "/recommend"] == 2
    assert found["palate_request_seconds_bucket", "+Inf", "/recommend"] == 2
    assert 0 < found["palate_request_seconds_sum", "/recommend"] < 60
    assert found["palate_observed_events_total",] == 2
    assert found["palate_log_lag_rows",] == 2
    assert found["palate_log_sequence",] == 1
    assert found["palate_log_bytes",] > 0
    assert found["palate_ready",] == 1
    assert found["palate_model_info", "00000001"] == 1
    server.post("/save")
    found = samples(server)
    assert found["palate_log_lag_rows",] == 0
    assert found["palate_saves_total", "ok"] == 1
    assert found["palate_model_info", "00000002"] == 1
    assert ("palate_model_info", "00000001") not in found


def test_openapi_describes_every_endpoint_and_its_examples_work(running):
    described = running.http.get("/openapi.json").json()
    expected = {"/recommend", "/observe", "/items", "/healthz", "/healthz/live", "/metrics"}
    assert set(described["paths"]) == expected | {"/reload", "/save"}
    for methods in described["paths"].values():
        for operation in methods.values():
            assert operation["description"]
    refusals = described["paths"]["/recommend"]["post"]["responses"]
    assert {"200", "413", "422", "503"} <= set(refusals)
    for code in ("413", "422", "503"):
        reference = refusals[code]["content"]["application/json"]["schema"]["$ref"]
        assert reference == "#/components/schemas/Problem"
    from service import schemas

    for name in ("RecommendRequest", "ObserveRequest", "ItemsRequest"):
        examples = described["components"]["schemas"][name]["examples"]
        assert examples
        for example in examples:
            getattr(schemas, name).model_validate(example)
    assert running.http.get("/docs").status_code == 200
