"""Admin requests that arrive at once are decided as if they had come one after the other."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from evenflow.testing import document, request

if TYPE_CHECKING:
    from tests.conftest import StartEvenflow, StartOrigins


def test_backends_added_at_once_without_an_id_all_get_one(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    balancer = evenflow(document({"id": "a", "url": a.url}, health_check={"enabled": False}))
    with ThreadPoolExecutor(18) as threads:
        added = threads.map(
            lambda _: balancer.api("POST", "/admin/backends", {"url": a.url}, expect=201), range(18)
        )
        ids = [each["id"] for each in added]
    assert sorted(ids) == sorted(f"backend-{number}" for number in range(1, 19))
    listed = balancer.api("GET", "/admin/backends")["backends"]
    assert {each["id"] for each in listed} == {"a", *ids}


def test_wrong_tokens_sent_at_once_lock_their_client_out(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    hashing = [sys.executable, "-m", "evenflow", "token", "hash"]
    hashed = subprocess.run(
        hashing, input="the right one\n", capture_output=True, text=True, check=True
    ).stdout.strip()
    admin = {"tokens": [{"name": "ops", "role": "admin", "token": hashed}]}
    balancer = evenflow(document({"id": "a", "url": a.url}, admin=admin))

    def attempt(number: int) -> int:
        token = "the right one" if number == 59 else f"wrong {number}"
        fields = [("Authorization", f"Bearer {token}")]
        return request(balancer.port, target="/api/v1/admin/backends", headers=fields).status

    with ThreadPoolExecutor(60) as threads:
        statuses = [threads.submit(attempt, number) for number in range(60)]
        found = Counter(each.result() for each in statuses[:59])
    # Five wrong ones are free, the sixth locks; a right one between them ends the count once.
    assert found[401] <= 12, found
    assert found[429] == 59 - found[401], json.dumps(found)
