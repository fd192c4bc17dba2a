"""A job is accepted at once, polled or waited for, and delivers the images that its provider made."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from kyma_proxy.web.image_pages import preferred_wait
from tests.harness import whole
from tests.jobs.image_gateway import (
    FAL,
    OPENAI,
    PATH,
    PRICE,
    URL,
    accepted,
    ended_job,
    error_answer,
    image_gateway,
    images_answer,
    play,
    queue_answers,
    queue_result,
    queue_status,
    submit,
    submitted_and_ended,
)
from tests.waiting import until


def all_on_disk(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in directory.iterdir() if path.is_file())


@pytest.mark.parametrize("has_accounts", [True, False])
@pytest.mark.parametrize(("dialect", "answers"), [(OPENAI, (images_answer(),)), (FAL, queue_answers())])
async def test_a_job_is_pending_then_succeeds_and_has_its_images(
    tmp_path: Path, dialect: str, answers: tuple[bytes, ...], has_accounts: bool
) -> None:
    async with image_gateway(tmp_path, dialect, has_accounts=has_accounts) as (images, provider):
        play(provider, *answers)
        caller = await images.caller() if has_accounts else await images.caller_without_key()
        answer = await submit(caller)
        job = answer.json
        assert (answer.status, answer.headers["location"]) == (202, f"/v1/jobs/{job['id']}")
        assert set(job) == {
            "id", "object", "status", "model", "created_at", "completed_at", "output", "error", "estimated_cost",
            "charged_amount",
        }  # fmt: skip
        assert (job["object"], job["model"], job["estimated_cost"]) == ("image.job", "pic", PRICE)
        assert (job["completed_at"], job["output"], job["error"], job["charged_amount"]) == (None, None, None, None)
        assert (job["status"], answer.headers["retry-after"]) in (("pending", "1"), ("processing", "1"))
        done = await ended_job(caller, job)
        assert (done["id"], done["status"], done["error"]) == (job["id"], "succeeded", None)
        assert done["output"] == {"created": done["completed_at"], "data": [{"url": URL}]}
        assert (done["charged_amount"], done["created_at"]) == (PRICE, job["created_at"])


async def test_an_openai_images_source_gets_a_request_of_openais_images_api(tmp_path: Path) -> None:
    async with image_gateway(tmp_path, OPENAI) as (images, provider):
        play(provider, images_answer(URL, f"{URL}?2"))
        caller = await images.caller()
        await submitted_and_ended(caller, n=2, size="512x512", extra={"seed": 7}, user="somebody")
        asked = provider.received[0]
        assert asked.line == "POST /base/images/generations HTTP/1.1"
        assert json.loads(asked.body) == {"model": "owner/app/v1", "prompt": "a cat", "n": 2, "size": "512x512", "seed": 7}
        assert asked.headers["authorization"] == "Bearer provider-key-0"
        assert caller.secret not in str(asked.headers)


async def test_a_fal_queue_source_gets_requests_of_fals_queue_api_at_its_configured_address_only(tmp_path: Path) -> None:
    async with image_gateway(tmp_path, FAL) as (images, provider):
        play(provider, *queue_answers())
        await submitted_and_ended(await images.caller(), n=2, size="512x512")
        lines = [one.line.removesuffix(" HTTP/1.1") for one in provider.received]
        at = "/base/owner/app/requests/r-1"
        assert lines == ["POST /base/owner/app/v1", *[f"GET {at}/status"] * 3, f"GET {at}"]
        body = {"prompt": "a cat", "num_images": 2, "image_size": {"width": 512, "height": 512}}
        assert json.loads(provider.received[0].body) == body
        assert {one.headers["authorization"] for one in provider.received} == {"Key provider-key-0"}


async def test_an_edit_sends_the_input_picture_in_the_form_of_each_dialect(tmp_path: Path) -> None:
    for dialect, answers, line, member in (
        (OPENAI, (images_answer(),), "POST /base/images/edits HTTP/1.1", {"images": [{"image_url": URL}]}),
        (FAL, queue_answers(), "POST /base/owner/app/v1 HTTP/1.1", {"image_url": URL}),
    ):
        (directory := tmp_path / dialect).mkdir()
        async with image_gateway(directory, dialect) as (images, provider):
            play(provider, *answers)
            assert (await submitted_and_ended(await images.caller(), model="edit", image_url=URL))["status"] == "succeeded"
            assert provider.received[0].line == line
            assert json.loads(provider.received[0].body).items() >= member.items()


async def test_with_prefer_wait_the_answer_has_the_shape_of_openais_images(tmp_path: Path) -> None:
    async with image_gateway(tmp_path, OPENAI) as (images, provider):
        play(provider, images_answer())
        answer = await submit(await images.caller(), model="picture", headers="prefer: respond-async, wait=10\r\n")
        assert answer.status == 200
        assert answer.json == {"created": answer.json["created"], "data": [{"url": URL}]}
        assert (answer.headers["preference-applied"], answer.headers["x-kyma-model"]) == ("wait=10", "pic")
        assert (answer.headers["x-kyma-alias"], "x-kyma-fallback" in answer.headers) == ("picture", False)


async def test_a_caller_whose_wait_is_over_gets_the_job_to_poll(tmp_path: Path) -> None:
    goes_on = asyncio.Event()
    async with image_gateway(tmp_path, OPENAI) as (images, provider):
        provider.plays(goes_on, images_answer())
        caller = await images.caller()
        answer = await submit(caller, headers="prefer: wait=0\r\n")
        assert (answer.status, answer.json["object"]) == (202, "image.job")
        goes_on.set()
        assert (await ended_job(caller, answer.json))["status"] == "succeeded"


async def test_base64_images_pass_byte_for_byte(tmp_path: Path) -> None:
    async with image_gateway(tmp_path, OPENAI) as (images, provider):
        play(provider, whole(b'{"created":1,"data":[{"b64_json":"aGVs\\/bG8="}]}'))
        caller = await images.caller()
        answer = await submit(caller, response_format="b64_json", headers="prefer: wait=10\r\n")
        assert b'"data":[{"b64_json":"aGVs\\/bG8="}]' in answer.body
        assert json.loads(provider.received[0].body)["response_format"] == "b64_json"


async def test_requests_with_the_same_idempotency_key_are_one_job(tmp_path: Path) -> None:
    async with image_gateway(tmp_path, OPENAI) as (images, provider):
        play(provider, images_answer())
        caller = await images.caller()
        first = await submit(caller, idempotency_key="k")
        again = await submit(caller, headers="idempotency-key: k\r\n")
        assert (first.status, again.status, again.json["id"]) == (202, 200, first.json["id"])
        done = await ended_job(caller, first.json)
        third = await submit(caller, idempotency_key="k")
        assert (third.status, third.json) == (200, done)
        other = await submit(caller, prompt="a dog", idempotency_key="k")
        assert (other.status, other.json["error"]["code"], other.json["error"]["param"]) == (409, "conflict", "idempotency_key")
        assert len(provider.received) == 1
        assert await images.ledger(caller) == [("adjustment", -PRICE), ("refund", PRICE), ("usage", -PRICE)]


@pytest.mark.parametrize("has_accounts", [True, False])
async def test_concurrent_requests_with_the_same_idempotency_key_are_one_job(tmp_path: Path, has_accounts: bool) -> None:
    async with image_gateway(tmp_path, OPENAI, has_accounts=has_accounts) as (images, provider):
        play(provider, images_answer())
        caller = await images.caller() if has_accounts else await images.caller_without_key()
        callers = [type(caller)(await images.running.client(), caller.account, caller.secret) for _ in range(8)]
        answers = await asyncio.gather(*(submit(one, idempotency_key="k") for one in callers))
        assert len({answer.json["id"] for answer in answers}) == 1
        assert sorted(answer.status for answer in answers) == [200] * 7 + [202]
        await ended_job(caller, answers[0].json)
        assert len(provider.received) == 1


async def test_concurrent_requests_with_the_same_idempotency_key_hold_credits_and_a_slot_once(tmp_path: Path) -> None:
    async with image_gateway(tmp_path, OPENAI) as (images, provider):
        play(provider, images_answer())
        caller = await images.caller(usd=PRICE)
        callers = [type(caller)(await images.running.client(), caller.account, caller.secret) for _ in range(12)]
        answers = await asyncio.gather(*(submit(one, idempotency_key="k") for one in callers))
        assert sorted(answer.status for answer in answers) == [200] * 11 + [202]
        await images.all_jobs_end()
        assert await images.ledger(caller) == [("adjustment", -PRICE), ("refund", PRICE), ("usage", -PRICE)]


async def test_the_job_of_another_account_is_not_found_and_its_idempotency_key_is_free(tmp_path: Path) -> None:
    async with image_gateway(tmp_path, OPENAI) as (images, provider):
        play(provider, images_answer(), images_answer())
        one, other = await images.caller(), await images.caller("b@example.com")
        job = await submitted_and_ended(one, idempotency_key="k")
        for method in ("GET", "DELETE"):
            answer = await other.ask(method, f"/v1/jobs/{job['id']}")
            assert (answer.status, answer.json["error"]["code"]) == (404, "not_found")
        assert (await submitted_and_ended(other, idempotency_key="k"))["id"] != job["id"]
        listed = (await one.ask("GET", "/v1/jobs")).json
        assert [entry["id"] for entry in listed["data"]] == [job["id"]]


@pytest.mark.parametrize("has_accounts", [True, False])
async def test_jobs_are_listed_newest_first_a_page_at_a_time(tmp_path: Path, has_accounts: bool) -> None:
    async with image_gateway(tmp_path, OPENAI, has_accounts=has_accounts) as (images, provider):
        play(provider, *[images_answer()] * 5)
        caller = await images.caller() if has_accounts else await images.caller_without_key()
        ids = [(await submitted_and_ended(caller))["id"] for _ in range(5)]
        page = (await caller.ask("GET", "/v1/jobs?limit=2")).json
        assert [entry["id"] for entry in page["data"]] == ids[:2:-1]
        assert (page["has_more"], page["next_before"], page["data"][0]["output"]) == (True, ids[3], None)
        page = (await caller.ask("GET", f"/v1/jobs?limit=3&before={ids[3]}")).json
        assert ([entry["id"] for entry in page["data"]], page["has_more"], page["next_before"]) == (ids[2::-1], False, None)
        assert (await caller.ask("GET", "/v1/jobs?before=job_none")).status == 400


@pytest.mark.parametrize("members", [{"prompt": "x" * 4001}, {"n": 5}, {"size": "1x1"}, {"model": "edit"}, {"model": "m"}])
async def test_an_invalid_request_is_refused_before_credits_are_held_or_a_source_is_asked(
    tmp_path: Path, members: dict[str, Any]
) -> None:
    async with image_gateway(tmp_path, OPENAI) as (images, provider):
        caller = await images.caller()
        answer = await submit(caller, **members)
        assert (answer.status, answer.json["error"]["code"]) == (400, "invalid_request")
        assert answer.json["error"]["param"]
        assert await images.ledger(caller) == []
        assert provider.received == []


async def test_the_log_has_the_request_and_the_job_and_no_content(tmp_path: Path) -> None:
    async with image_gateway(tmp_path, FAL) as (images, provider):
        play(provider, *queue_answers())
        caller = await images.caller()
        await submitted_and_ended(caller, prompt="a very private cat")
        records = await images.running.records(3)
        (record,) = [one for one in records if one["endpoint"] == "image.job"]
        submitted = next(one for one in records if one["endpoint"] == "images/generations")
        assert record["request_id"] == submitted["request_id"]
        assert (submitted["account"], submitted["key"]) == (caller.account, caller.secret[:11])
        assert (record["account"], record["key"]) == (caller.account, caller.secret[:11])
        assert (record["model"], record["provider"], record["attempts"]) == ("pic", "p0", ["p0:answered"])
        assert (record["status"], record["ending"], record["cost_usd"]) == (200, "completed", PRICE)
        assert record["provider_request_id"] == "r-1"
        on_disk = all_on_disk(tmp_path)
        assert b"private" not in on_disk
        assert URL.encode() not in on_disk


async def test_a_caller_who_polls_with_a_wait_gets_the_answer_when_the_job_ends(tmp_path: Path) -> None:
    goes_on = asyncio.Event()
    async with image_gateway(tmp_path, FAL) as (images, provider):
        play(provider, accepted(), queue_status("IN_PROGRESS"))
        provider.plays(goes_on, queue_status("COMPLETED"))
        play(provider, queue_result())
        caller, poller = await images.caller(), None
        job = (await submit(caller)).json
        poller = asyncio.create_task(ended_job(caller, job))
        await until(lambda: len(provider.received) == 3)
        assert not poller.done()
        goes_on.set()
        assert (await poller)["status"] == "succeeded"


async def test_chat_requests_and_image_jobs_share_a_connection(tmp_path: Path) -> None:
    async with image_gateway(tmp_path, OPENAI) as (images, provider):
        caller = await images.caller()
        assert (await caller.chat()).status == 200
        play(provider, images_answer())
        assert (await submitted_and_ended(caller))["status"] == "succeeded"
        answer = await caller.chat(model="pic")
        assert (answer.status, PATH in answer.json["error"]["message"]) == (400, True)


async def test_callers_who_disconnect_while_they_wait_have_no_images_and_leave_no_task_behind(tmp_path: Path) -> None:
    goes_on = asyncio.Event()
    async with image_gateway(tmp_path, OPENAI) as (images, provider):
        provider.plays(goes_on, images_answer())
        caller = await images.caller()
        job = (await submit(caller)).json
        before = len(asyncio.all_tasks())
        leavers = [await images.running.client() for _ in range(5)]
        for leaver in leavers:
            request = f"GET /v1/jobs/{job['id']} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {caller.secret}\r\n"
            leaver.send(f"{request}prefer: wait=300\r\n\r\n".encode())
            await leaver.is_read()
        await until(lambda: len(asyncio.all_tasks()) > before)
        for leaver in leavers:
            leaver.leave()
        await until(lambda: len(asyncio.all_tasks()) <= before)
        goes_on.set()
        await images.all_jobs_end()
        assert not images.scheduler.get(job["id"]).is_delivered
        await ended_job(caller, job)
        assert images.scheduler.get(job["id"]).is_delivered


async def test_an_error_after_a_wait_names_the_job_and_tells_clients_not_to_retry(tmp_path: Path) -> None:
    async with image_gateway(tmp_path, OPENAI) as (images, provider):
        play(provider, error_answer("500 Internal Server Error"))
        caller = await images.caller()
        answer = await submit(caller, headers="prefer: wait=10\r\n")
        assert (answer.status, answer.headers["x-should-retry"]) == (502, "false")
        assert (await caller.ask("GET", answer.headers["location"])).json["status"] == "failed"


async def test_an_image_job_counts_as_a_use_of_its_key(tmp_path: Path) -> None:
    async with image_gateway(tmp_path, OPENAI) as (images, provider):
        play(provider, images_answer())
        caller = await images.caller()
        await submitted_and_ended(caller)
        assert (await caller.ask("GET", "/v1/keys")).json["data"][0]["last_used"] is not None


@pytest.mark.parametrize(("fields", "seconds"), [
    ([], None), (["wait=5"], 5), (["respond-async, wait=10"], 10), (["respond-async", "Wait = 7"], 7), (['wait="9"'], 9),
    (["wait=1234567890123"], 300), (["respond-async; wait=100"], None), (["wait"], None), (["wait=-1"], None),
    (["wait=x, wait=3"], 3), (["await=4"], None),
    (["wait=1_0"], None), (["wait=+5"], None), (["wait=\u0665"], None), (["wait=\u00b2"], None), (['wait="5'], None),
    (["wait=1e1"], None), (["wait=5.0"], None), (["wait="], None), (['wait=""'], None),
])  # fmt: skip
def test_prefer_wait_is_parsed_as_rfc_7240_says(fields: list[str], seconds: int | None) -> None:
    assert preferred_wait(fields) == seconds
