from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from starlette.datastructures import Headers

from minuet.engine import bound
from minuet.errors import MinuetError, StoreUnavailable
from minuet.runtime.view import RejectionView, WaitingView
from minuet.server.app import make_server
from minuet.server.guard import check
from minuet.server.problem import STATUS, Refusal, status_of
from tests.fake_control import FakeControl

JSON = {"Content-Type": "application/json"}
STARTS = "/api/v1/workflows/greet/runs"


class Api:
    """The application, asked as a program on this machine would ask it."""

    def __init__(self) -> None:
        self.control = FakeControl()
        self.transport = httpx.ASGITransport(make_server(self.control), raise_app_exceptions=False)

    def ask(self, method: str, path: str, content: Any = None, headers: dict[str, str] | None = None) -> httpx.Response:
        async def asking() -> httpx.Response:
            async with httpx.AsyncClient(transport=self.transport, base_url="http://127.0.0.1:8640") as client:
                return await client.request(method, path, content=content, headers=headers)

        return asyncio.run(asking())

    def get(self, path: str) -> httpx.Response:
        return self.ask("GET", path)

    def post(self, path: str, body: Any) -> httpx.Response:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.ask("POST", path, raw, JSON)

    def started(self, key: str = "o-1") -> str:
        return str(self.post(STARTS, {"key": key, "input": "you"}).json()["run"])


@pytest.fixture
def api() -> Api:
    return Api()


def assert_problem(answer: httpx.Response, status: int, code: str, reason: str | None = None) -> dict[str, Any]:
    said: dict[str, Any] = answer.json()
    assert (answer.status_code, said["code"], said["status"]) == (status, code, status), said
    assert answer.headers["content-type"] == "application/problem+json"
    assert said["detail"]
    assert said["remedy"]
    if reason is not None:
        assert said["subject"]["reason"] == reason
    return said


# starting


def test_a_new_run_is_created_and_the_same_again_is_the_same_run(api: Api) -> None:
    first = api.post(STARTS, {"key": "o-1", "input": "you"})
    again = api.post(STARTS, {"key": "o-1", "input": "you"})
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["run"] == again.json()["run"]
    assert first.headers["location"] == f"/api/v1/runs/{first.json()['run']}"


def test_the_same_key_with_another_input_is_a_conflict(api: Api) -> None:
    api.started()
    assert_problem(api.post(STARTS, {"key": "o-1", "input": "me"}), 409, "key-conflict")
    assert_problem(api.post(STARTS, {"key": "o-1", "input": "you", "on_duplicate": "refuse"}), 409, "key-conflict")


def test_an_input_that_does_not_fit_is_unprocessable(api: Api) -> None:
    said = assert_problem(api.post(STARTS, {"input": {"no": "text"}}), 422, "invalid-payload")
    assert said["subject"]["path"] == "$"
    assert api.control.known == {}


def test_the_input_reaches_the_program_as_it_was_written(api: Api) -> None:
    api.post(STARTS, b'{"input": "\\u00e9"  , "key": "k"}')
    assert api.control.asked[-1] == ("start", "greet", b'"\\u00e9"', "k", "same", False)


def test_an_unknown_workflow_is_not_found(api: Api) -> None:
    assert_problem(api.post("/api/v1/workflows/gret/runs", {"input": "x"}), 404, "not-found")


def test_no_room_is_said_with_when_to_come_again(api: Api) -> None:
    api.control.room = 0
    answer = api.post(STARTS, {"input": "x"})
    assert_problem(answer, 429, "busy")
    assert answer.headers["retry-after"] == "1"


def test_waiting_is_bounded_and_gives_the_run_as_it_is_then(api: Api) -> None:
    assert api.post(STARTS + "?wait=5s", {"input": "x"}).json()["state"] == "running"
    assert api.control.asked[-1][2] == 5
    api.post(STARTS + "?wait=1h", {"input": "x"})
    assert api.control.asked[-1][2] == 60
    assert_problem(api.post(STARTS + "?wait=soon", {"input": "x"}), 400, "bad-request")


def test_an_idempotency_key_beside_another_key_is_refused(api: Api) -> None:
    body = json.dumps({"key": "o-1", "input": "x"}).encode()
    assert api.ask("POST", STARTS, body, {**JSON, "Idempotency-Key": "o-1"}).status_code == 201
    assert_problem(api.ask("POST", STARTS, body, {**JSON, "Idempotency-Key": "o-2"}), 400, "bad-request")
    assert len(api.control.known) == 1


# bad input: a code each, and nothing half done

BAD_BODIES = [
    (b"", "malformed"),
    (b"{", "malformed"),
    (b"\xff\xfe", "malformed"),
    (b'{"input": "x"} {}', "malformed"),
    (b'{"input": NaN}', "not-finite"),
    (b'{"input": Infinity}', "not-finite"),
    (b'{"input": 1e999}', "not-finite"),
    (b'{"input": "x", "input": "y"}', "duplicate-key"),
    (b'{"input": {"a": 1, "\\u0061": 2}}', "duplicate-key"),
    (b'{"input": ' + b"[" * 65 + b"]" * 65 + b"}", "too-deep"),
    (b'{"input": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "too-deep"),
    (b'{"input": "\\ud800"}', "lone-surrogate"),
    (b'{"input": "\\u0000"}', "null-character"),
    (b'{"input": ' + b"9" * 5_000 + b"}", "integer-too-long"),
    (b"[]", "shape"),
    (b'"x"', "shape"),
    (b'{"key": 7, "input": "x"}', "shape"),
    (b'{"input": "x", "again": "yes"}', "shape"),
    (b'{"input": "x", "on_duplicate": "replace"}', "shape"),
    (b'{"inputs": "x"}', "shape"),
]


@pytest.mark.parametrize(("body", "reason"), BAD_BODIES, ids=[f"{r}-{i}" for i, (_, r) in enumerate(BAD_BODIES)])
def test_a_bad_body_is_refused_with_its_reason_before_anybody_is_asked(api: Api, body: bytes, reason: str) -> None:
    assert_problem(api.post(STARTS, body), 400, "invalid-payload", reason)
    assert api.control.asked == []


def test_a_body_over_the_limit_is_refused_by_its_announced_length(api: Api) -> None:
    assert_problem(api.post(STARTS, b" " * (bound.INPUT_BYTES + 1)), 413, "invalid-payload", "too-large")
    assert api.control.asked == []


def test_a_body_over_the_limit_is_refused_while_it_is_read(api: Api) -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while taken < 10_000_000:
            taken += 65_536
            yield b" " * 65_536

    async def asking() -> httpx.Response:
        async with httpx.AsyncClient(transport=api.transport, base_url="http://localhost") as client:
            return await client.post(STARTS, content=endless(), headers=JSON)

    assert_problem(asyncio.run(asking()), 413, "invalid-payload", "too-large")
    assert taken < 2 * bound.INPUT_BYTES
    assert api.control.asked == []


def test_a_body_at_the_limit_is_taken(api: Api) -> None:
    body = json.dumps({"input": "x"}).encode()
    assert api.post(STARTS, body + b" " * (bound.INPUT_BYTES - len(body))).status_code == 201


# reading


def test_runs_are_listed_newest_first_with_a_cursor(api: Api) -> None:
    started = [api.started(f"o-{i}") for i in range(5)]
    page = api.get("/api/v1/runs?limit=2").json()
    assert [r["run"] for r in page["runs"]] == [started[4], started[3]]
    last = api.get(f"/api/v1/runs?limit=3&before={page['next']}").json()
    assert [r["run"] for r in last["runs"]] == started[2::-1]
    assert api.get(f"/api/v1/runs?limit=3&before={last['next']}").json() == {"runs": [], "next": None}


def test_filters_are_handed_on(api: Api) -> None:
    api.get("/api/v1/runs?state=stuck,quarantined&workflow=greet&key=o%201&since_ms=7")
    assert api.control.asked[-1] == ("runs", ("stuck", "quarantined"), "greet", "o 1", 7, None, 50)


def test_late_runs_can_be_asked_for_alone(api: Api) -> None:
    run, _ = api.started("o-1"), api.started("o-2")
    late = WaitingView(position="1", what="action", needs="a.b", owner="a", since_ms=1, expected_ms=2, late=True)
    api.control.change(run, waiting=[late])
    (found,) = api.get("/api/v1/runs?late=true").json()["runs"]
    assert found["run"] == run
    assert {k: found["waiting"][0][k] for k in ("usual_ms", "expected_ms", "late")} == {
        "usual_ms": None, "expected_ms": 2, "late": True
    }  # fmt: skip


@pytest.mark.parametrize(
    "query", ["stat=stuck", "state=unhappy", "limit=0", "limit=501", "limit=x", "since_ms=-1", "key=a&key=b", "limit=²"]
)
def test_a_wrong_filter_is_refused_rather_than_ignored(api: Api, query: str) -> None:
    assert_problem(api.get(f"/api/v1/runs?{query}"), 400, "bad-request")


def test_a_misspelt_filter_names_the_one_that_was_meant(api: Api) -> None:
    assert api.get("/api/v1/runs?stat=stuck").json()["remedy"] == "Did you mean state?"


def test_a_run_is_shown_with_its_facts_or_without(api: Api) -> None:
    run = api.started()
    assert api.get(f"/api/v1/runs/{run}").json()["facts"][0]["place"] == "hello.py:12"
    assert api.get(f"/api/v1/runs/{run}?facts=false").json()["facts"] == []
    assert api.get(f"/api/v1/runs/{run}/facts").json()["facts"][0]["value"] == "hello"
    assert_problem(api.get("/api/v1/runs/NOSUCHRUN"), 404, "not-found")


def test_a_result_is_accepted_while_it_runs_and_there_once_it_has_ended(api: Api) -> None:
    run = api.started()
    assert api.get(f"/api/v1/runs/{run}/result").status_code == 202
    api.control.change(run, state="completed", result={"id": "p-1"}, ended_at_ms=1)
    answer = api.get(f"/api/v1/runs/{run}/result?wait=1s")
    assert (answer.status_code, answer.json()["result"]) == (200, {"id": "p-1"})
    api.control.change(run, state="compensated", rejection=RejectionView(code="out-of-stock", position="2b"))
    assert api.get(f"/api/v1/runs/{run}/result").json()["rejection"]["code"] == "out-of-stock"


# verbs


@pytest.mark.parametrize("verb", ["cancel", "terminate", "pause", "retry"])
def test_a_verb_is_acknowledged_in_a_sentence(api: Api, verb: str) -> None:
    run = api.started()
    assert api.post(f"/api/v1/runs/{run}/{verb}", b"").json() == {
        "outcome": "accepted",
        "message": f"{verb} is recorded",
    }
    answer = api.post(f"/api/v1/runs/{run}/{verb}", {"who": "ada", "note": "asked by phone"})
    assert answer.status_code == 200
    assert api.control.asked[-1][-2:] == ("ada", "asked by phone")


def test_a_verb_that_does_not_fit_the_state_is_a_conflict(api: Api) -> None:
    run = api.started()
    answer = api.post(f"/api/v1/runs/{run}/resume", {})
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")


def test_resolve_and_skip_name_their_position(api: Api) -> None:
    run = api.started()
    api.post(f"/api/v1/runs/{run}/resolve", {"position": "2a", "result": {"id": 1}, "note": "n", "who": "w"})
    assert api.control.asked.pop() == ("resolve", run, "2a", b'{"id": 1}', None, "w", "n")
    api.post(f"/api/v1/runs/{run}/skip", {"position": "2a"})
    assert api.control.asked[-1] == ("skip", run, "2a", "", None)
    assert_problem(api.post(f"/api/v1/runs/{run}/skip", {}), 400, "invalid-payload", "shape")


def test_events_are_accepted_once(api: Api) -> None:
    body = {"key": "p-1", "data": {"parcel": "p-1"}, "id": "e-1", "source": "carrier"}
    assert api.post("/api/v1/events/greetings.returned", body).status_code == 202
    again = api.post("/api/v1/events/greetings.returned", body)
    assert (again.status_code, again.json()["outcome"]) == (200, "duplicate")
    assert_problem(api.post("/api/v1/events/greetings.returned", {"key": "p-1"}), 400, "invalid-payload", "shape")
    missing = api.post("/api/v1/events/nothing", body)
    assert (missing.status_code, missing.json()["code"]) == (404, "not-found")


def test_plans_and_failures_are_listed(api: Api) -> None:
    api.control.plan_texts["7c1e03d591ab77c0"] = b'{"format":1}'
    assert api.get("/api/v1/plans").json()["plans"][0]["digest"] == "7c1e03d591ab77c0"
    assert api.get("/api/v1/plans/7c1e03d5").content == b'{"format":1}'
    assert api.get("/api/v1/failed?limit=3").json() == {"failed": []}


# health


def test_alive_and_ready_say_nothing_but_that(api: Api) -> None:
    assert api.get("/healthz").json() == {"status": "alive"}
    assert api.get("/readyz").json() == {"status": "ready"}
    api.control.drain()
    assert (api.get("/readyz").status_code, api.get("/readyz").json()) == (503, {"status": "unready"})
    assert api.get("/healthz").status_code == 200
    assert api.get("/api/v1/health").json()["draining"] is True


# who may ask


@pytest.mark.parametrize(
    "host", ["example.com", "127.0.0.1.example.com:8640", "localhost.example.com", "0.0.0.0", "[::2]", ""]
)
def test_a_request_for_another_host_is_refused(api: Api, host: str) -> None:
    answer = api.ask("GET", "/healthz", headers={"Host": host})
    assert_problem(answer, 403, "forbidden-host")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:8640", "LOCALHOST", "[::1]:8640"])
def test_a_request_for_this_machine_is_let_in(api: Api, host: str) -> None:
    assert api.ask("GET", "/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("origin", ["https://example.com", "null", "http://localhost.example.com", "file://"])
def test_a_page_of_another_origin_is_refused(api: Api, origin: str) -> None:
    assert_problem(api.ask("POST", STARTS, b'{"input":"x"}', {**JSON, "Origin": origin}), 403, "forbidden-origin")
    assert api.control.asked == []


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_what_a_form_could_send_is_refused(api: Api, kind: str) -> None:
    answer = api.ask("POST", STARTS, b'{"input":"x"}', {"Content-Type": kind} if kind else {})
    assert_problem(answer, 415, "unsupported-media-type")
    assert api.control.asked == []


def test_a_charset_beside_the_content_type_is_no_harm() -> None:
    check("POST", Headers({"host": "localhost", "content-type": "application/json; charset=utf-8"}))
    with pytest.raises(Refusal):
        check("DELETE", Headers({"host": "localhost"}))


def test_no_answer_is_kept_by_a_cache_or_taken_for_another_type(api: Api) -> None:
    for answer in (api.get("/healthz"), api.get("/nowhere"), api.ask("GET", "/healthz", headers={"Host": "x"})):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"


# what is not there, and what goes wrong


def test_an_unknown_route_and_a_wrong_method_are_problems_too(api: Api) -> None:
    assert_problem(api.get("/api/v1/nothing"), 404, "no-route")
    answer = api.ask("PUT", "/api/v1/runs", b"{}", JSON)
    assert_problem(answer, 405, "method-not-allowed")
    assert_problem(api.get("/healthz/"), 404, "no-route")


def test_a_mistake_of_ours_reveals_nothing(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken() -> Any:
        raise RuntimeError("secret")

    monkeypatch.setattr(api.control, "health", broken)
    answer = api.get("/api/v1/health")
    assert_problem(answer, 500, "internal")
    assert "secret" not in answer.text


def kinds(root: type[MinuetError]) -> Iterator[type[MinuetError]]:
    yield root
    for kind in root.__subclasses__():
        yield from kinds(kind)


def test_each_error_has_a_status() -> None:
    for kind in kinds(MinuetError):
        error = kind.__new__(kind)
        assert 400 <= status_of(error) < 600
    assert status_of(StoreUnavailable("x")) == 503
    assert all(issubclass(kind, MinuetError) for kind in STATUS)
