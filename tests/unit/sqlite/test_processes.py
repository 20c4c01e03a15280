"""Several processes on one file."""

import json
import sqlite3
from contextlib import closing

COMMITTERS = 3
EXECUTIONS = 6

COMMIT_WITH_REPEATS = """
import asyncio, random, sys
from perdure.backends.sqlite import SqliteStore
from perdure.storage import Answer, Commit, Committed, Draft, Tip

async def main():
    path, name, seed = sys.argv[1:]
    chance = random.Random(seed)
    store = SqliteStore(path, synchronous="normal")
    await store.open()
    ids = (await asyncio.to_thread(sys.stdin.readline)).split()
    acknowledged = []
    for number in range(60):
        batch = []
        for id in chance.sample(ids, 4):
            header = await store.describe(id)
            draft = Draft(f"{name} {number}".encode(), f"{name}{number}", 1)
            batch.append(
                Commit(id=id, token="t0ken", seq=header.seq + 1, seen=header.length, tip=header.tip, draft=draft)
            )
        calls = [store.commit(batch) for _ in range(chance.choice([1, 1, 2, 3]))]
        for answers in await asyncio.gather(*calls):
            for commit, answer in zip(batch, answers):
                if isinstance(answer, Committed):
                    acknowledged.append([commit.id, answer.length, commit.seq, commit.draft.tag])
                else:
                    assert answer is Answer.FENCED, answer
    print(__import__("json").dumps(acknowledged))
    await store.close()

asyncio.run(main())
"""


def test_overlapping_batches_with_repeats(play, start_process, path):
    """
    Processes commit to the same executions, each call repeated at random.

    No journal has a gap, nothing is written twice, and whose commit was first alone decides what a number holds. The
    processes share one token here, which real ones never do, so that nothing but `seq` keeps their commits apart.
    """
    processes = [start_process(COMMIT_WITH_REPEATS, f"p{n}-", str(n)) for n in range(COMMITTERS)]

    async def scene(stage):
        owner = await stage.owner()
        headers = [await stage.create() for _ in range(EXECUTIONS)]
        claimed = await owner.claim(EXECUTIONS, token="t0ken")
        assert {holding.id for holding in claimed} == {header.id for header in headers}
        for process in processes:
            process.stdin.write(" ".join(header.id for header in headers) + "\n")
            process.stdin.flush()
        return [json.loads(process.stdout.readline()) for process in processes]

    acknowledged = [tuple(item) for items in play(scene) for item in items]
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(
            "SELECT id, ordinal, tag FROM journal JOIN execution ON number = execution WHERE ordinal > 1"
        ).fetchall()
        gaps = connection.execute(
            "SELECT execution FROM journal GROUP BY execution HAVING count(*) <> max(ordinal)"
        ).fetchall()
    assert gaps == []
    assert len(rows) > EXECUTIONS
    tags = [(id, tag) for id, _, tag in rows]
    assert len(set(tags)) == len(tags)
    written = {(id, ordinal): tag for id, ordinal, tag in rows}
    # A repeat may be answered by somebody else's commit of the same number; whose it was, the row tells.
    assert {(id, length) for id, length, _, _ in acknowledged} == set(written)
    assert {(id, tag) for id, _, _, tag in acknowledged} >= set(tags)


CLAIM_EVERYTHING = """
import asyncio, json, sys
from perdure.backends.sqlite import SqliteStore
from perdure.storage import FunctionVersion

async def main():
    path, owner = sys.argv[1:]
    store = SqliteStore(path, synchronous="normal")
    await store.open()
    await store.register(owner, [], 3600 * 10**6)
    await asyncio.to_thread(sys.stdin.readline)
    taken, number = [], 0
    while True:
        number += 1
        claimed = await store.claim(owner, number, f"{owner}-{number}", [FunctionVersion("order", "1")], 3, 1)
        if not claimed.headers:
            break
        taken += [header.id for header in claimed.headers]
    print(json.dumps(taken), flush=True)
    sys.stdin.readline()

asyncio.run(main())
"""


def test_processes_share_the_work(play, start_process):
    """Processes that claim at the same time take everything, and nothing twice."""
    processes = [start_process(CLAIM_EVERYTHING, f"w{n}") for n in range(3)]

    async def scene(stage):
        ids = [(await stage.create()).id for _ in range(60)]
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        taken = [json.loads(process.stdout.readline()) for process in processes]
        for id in ids:
            assert (await stage.header(id)).owner is not None
        return ids, [id for part in taken for id in part]

    ids, taken = play(scene)
    assert sorted(taken) == sorted(ids)


COMMIT_FOR_EVER = """
import asyncio, sys
from perdure.backends.sqlite import SqliteStore
from perdure.storage import Claim, Commit, Draft, New, Tip

async def write(store, id):
    new = New(id=id, function="order", version="1", name=id, digest="", timeout=None, retention=0,
              draft=Draft(b"{}", "t", 1))
    header = (await store.create(new, Claim("w1", "t0ken"))).header
    seen, tip = header.length, header.tip
    while True:
        draft = Draft(b"x" * 3000, "t", 1)
        commit = Commit(id=id, token="t0ken", seq=seen, seen=seen, tip=tip, draft=draft)
        (answer,) = await store.commit([commit])
        seen, tip = answer.length, Tip(answer.at, "t")
        print(id, seen, flush=True)

async def main():
    store = SqliteStore(sys.argv[1])
    await store.open()
    await store.register("w1", [], 3600 * 10**6)
    await asyncio.gather(*(write(store, f"x{n}") for n in range(8)))

asyncio.run(main())
"""


def test_kill_in_the_middle_of_commits(play, start_process):
    """After a kill every acknowledged commit is there, no journal has a gap, and each header fits its journal."""
    process = start_process(COMMIT_FOR_EVER)
    acknowledged = dict(process.stdout.readline().split() for _ in range(300))
    process.kill()
    acknowledged |= dict(
        line.split() for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n")
    )

    async def scene(stage):
        for id, length in acknowledged.items():
            header, rows = await stage.header(id), await stage.rows(id)
            assert [row.index for row in rows] == list(range(1, header.length + 1))
            assert header.length >= int(length)
            assert header.seq == header.length - 1
            assert header.tip.at == rows[-1].at

    play(scene)
