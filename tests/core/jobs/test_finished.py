"""Ended jobs are kept for an hour while there is room, and delivered and older ones are evicted first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kyma_proxy.core.accounts.accounts import Account
from kyma_proxy.core.jobs.finished import MAX_BYTES, RETENTION_S, FinishedJobs
from kyma_proxy.core.jobs.job import Job, Picture

NOW = 1_750_000_000


def ended(name: str, at: int = NOW, size: int = 0) -> Job:
    job = Job(name, account=None, model="picture", n=1, price=0, created=float(at))
    job.completed = at
    if size:
        job.pictures = (Picture(b64_json=b'"' + b"A" * (size - 2) + b'"'),)
    return job


def owned(name: str, owner: str, size: int = 0) -> Job:
    job = ended(name, size=size)
    job.account = Account(owner, f"{owner}@a.example", 0)
    return job


def names(jobs: FinishedJobs) -> list[str]:
    return [job.id for job in jobs]


def test_ended_jobs_are_found_by_id_and_listed_newest_first() -> None:
    jobs = FinishedJobs()
    for at in range(3):
        assert jobs.add(ended(f"j{at}", NOW + at), NOW + at) == []
    assert names(jobs) == ["j2", "j1", "j0"]
    assert len(jobs) == 3
    found = jobs.get("j1")
    assert found is not None
    assert found.id == "j1"
    assert jobs.get("j9") is None


def test_jobs_that_ended_an_hour_ago_are_dropped_by_a_sweep_and_by_the_next_job() -> None:
    jobs = FinishedJobs()
    jobs.add(ended("old", NOW), NOW)
    jobs.add(ended("young", NOW + 10), NOW + 10)
    jobs.sweep(NOW + RETENTION_S)
    assert names(jobs) == ["young", "old"]
    jobs.sweep(NOW + RETENTION_S + 1)
    assert (names(jobs), jobs.get("old")) == (["young"], None)
    assert jobs.add(ended("new", NOW + 2 * RETENTION_S, size=9), NOW + 2 * RETENTION_S) == []
    assert names(jobs) == ["new"]


def test_the_only_job_is_dropped_too_after_an_hour() -> None:
    jobs = FinishedJobs()
    jobs.add(ended("only", size=9), NOW)
    jobs.sweep(NOW + RETENTION_S + 1)
    jobs.sweep(NOW + 9 * RETENTION_S)
    assert len(jobs) == 0


def test_the_oldest_jobs_are_evicted_beyond_the_limit_of_jobs() -> None:
    jobs = FinishedJobs(max_jobs=3)
    lost = [job.id for at in range(5) for job in jobs.add(ended(f"j{at}", size=9 if at else 0), NOW)]
    assert lost == ["j1"]  # j0 has no pictures
    assert names(jobs) == ["j4", "j3", "j2"]


def test_delivered_jobs_are_evicted_before_undelivered_ones() -> None:
    jobs = FinishedJobs(max_bytes=1000)
    for name in ("first", "second", "third"):
        jobs.add(ended(name, size=300), NOW)
    second = jobs.get("second")
    assert second is not None
    second.is_delivered = True
    assert jobs.add(ended("fourth", size=300), NOW) == []
    assert names(jobs) == ["fourth", "third", "first"]
    assert [job.id for job in jobs.add(ended("fifth", size=300), NOW)] == ["first"]


def test_the_oldest_jobs_are_evicted_beyond_the_limit_of_bytes() -> None:
    jobs = FinishedJobs(max_bytes=1000)
    gone = [job.id for at in range(4) for job in jobs.add(ended(f"j{at}", size=400), NOW)]
    assert gone == ["j0", "j1"]
    assert names(jobs) == ["j3", "j2"]
    assert [job.id for job in jobs.add(ended("large", size=999), NOW)] == ["j2", "j3"]
    assert jobs.add(ended("none"), NOW) == []


def test_the_newest_job_stays_even_if_it_is_too_large_and_is_evicted_for_the_next() -> None:
    jobs = FinishedJobs(max_bytes=1000)
    jobs.add(ended("small", size=10), NOW)
    assert [job.id for job in jobs.add(ended("huge", size=5000), NOW)] == ["small"]
    assert names(jobs) == ["huge"]
    assert [job.id for job in jobs.add(ended("next", size=10), NOW)] == ["huge"]
    assert jobs.add(ended("beside", size=990), NOW) == []
    assert names(jobs) == ["beside", "next"]


def test_the_size_of_a_job_is_that_at_its_arrival() -> None:
    jobs = FinishedJobs(max_bytes=1000)
    first = ended("first", size=600)
    jobs.add(first, NOW)
    first.pictures = ()
    assert jobs.add(ended("second", size=600), NOW) == []
    assert names(jobs) == ["second"]
    assert jobs.add(ended("third", size=400), NOW) == []


def test_by_default_a_quarter_of_a_gibibyte_is_kept_for_an_hour() -> None:
    assert (MAX_BYTES, RETENTION_S) == (256 * 2**20, 3600)


def test_an_account_over_its_own_limit_evicts_only_its_own_jobs() -> None:
    one, other = (Account(name, f"{name}@a.example", 0) for name in ("one", "other"))
    jobs = FinishedJobs(max_bytes=1000, max_bytes_per_account=600)
    theirs = ended("theirs", size=300)
    theirs.account = other
    jobs.add(theirs, NOW)
    lost: list[str] = []
    for at in range(4):
        mine = ended(f"mine{at}", size=300)
        mine.account = one
        lost += [job.id for job in jobs.add(mine, NOW)]
    assert (names(jobs), lost) == (["mine3", "mine2", "theirs"], ["mine0", "mine1"])


def test_beyond_the_limit_of_all_the_account_with_most_bytes_loses_jobs() -> None:
    jobs = FinishedJobs(max_bytes=1000, max_bytes_per_account=900)
    for name, sizes in (("much", [300, 300]), ("little", [100, 100, 100]), ("new", [200])):
        account = Account(name, f"{name}@a.example", 0)
        for at, size in enumerate(sizes):
            job = ended(f"{name}{at}", size=size)
            job.account = account
            lost = [gone.id for gone in jobs.add(job, NOW)]
    assert lost == ["much0"]


def test_an_account_that_keeps_more_than_its_share_loses_its_own_older_jobs_to_its_newest() -> None:
    jobs = FinishedJobs(max_bytes=1000, max_bytes_per_account=900)
    jobs.add(owned("much", "much", 500), NOW)
    jobs.add(owned("mine0", "mine", 300), NOW)
    assert [job.id for job in jobs.add(owned("mine1", "mine", 300), NOW)] == ["mine0"]  # 600 of a share of 500
    assert [job.id for job in jobs.add(owned("mine2", "mine", 300), NOW)] == ["mine1"]
    assert jobs.get("much") is not None


def test_jobs_without_pictures_evict_no_pictures_of_another_account() -> None:
    jobs = FinishedJobs(max_jobs=4)
    jobs.add(owned("theirs", "theirs", 9), NOW)
    for at in range(9):
        assert jobs.add(owned(f"mine{at}", "mine"), NOW) == []
    assert names(jobs) == ["mine8", "mine7", "mine6", "theirs"]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 400), st.booleans()), max_size=60))
def test_memory_is_bounded_and_nobody_within_his_share_loses_pictures_to_another(arrivals: list[tuple[int, int, bool]]) -> None:
    jobs = FinishedJobs(max_bytes=1000, max_bytes_per_account=500)
    for at, (account, size, is_delivered) in enumerate(arrivals):
        before = list(jobs)
        newest = owned(f"j{at}", f"a{account}", size)
        newest.is_delivered = is_delivered
        jobs.add(newest, NOW)
        kept = list(jobs)

        def held(by: str, among: list[Job]) -> int:
            return sum(picture.size_bytes for job in among if job.owner == by for picture in job.pictures)

        owners = {job.owner for job in (*before, newest)}
        assert sum(held(owner, kept) for owner in owners) <= 1000 + size
        assert all(held(owner, kept) <= 500 for owner in owners)
        for gone in (job for job in before if job not in kept and job.owner != newest.owner):
            assert held(gone.owner, before) * len(owners) > 1000
