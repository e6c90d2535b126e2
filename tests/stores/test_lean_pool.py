"""The connections of the lean client: which one is used, how many there are, and that none is left, whatever happens at random."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import socket
import sys
import time

import pytest
from talkers import certificate, repeating, run, serving, sized, talked

from heavysync.errors import FatalError, TransientError
from heavysync.stores import exchange, lean, lean_names, lean_pool
from heavysync.stores.http import Door
from heavysync.stores.lean_answer import Answer
from heavysync.stores.lean_names import Names

OK = sized(b"hello")


async def get(door, server, **how):
    return await door.request("GET", server.url + "/", {}, limit=1 << 20, **how)


async def answer_slowly(peer):
    """A server that takes its time over each request."""
    while True:
        await peer.request()
        await asyncio.sleep(0.01)
        await peer.say(OK)


async def at_once(count, ask):
    """So many requests at the same time."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ask()) for _ in range(count)]
    return [task.result() for task in tasks]


def files() -> int:
    """Open file descriptors of this process."""
    return len(os.listdir("/dev/fd"))


def test_no_more_connections_than_allowed(way):
    """Any number of requests share them, each waits its turn, and all are answered."""
    open_now, most = [0], [0]

    async def talk(peer):
        open_now[0] += 1
        most[0] = max(most[0], open_now[0])
        try:
            while True:
                await peer.request()
                await asyncio.sleep(0.001)
                await peer.say(OK)
        finally:
            open_now[0] -= 1

    async def test(door, server):
        answers = await at_once(60, lambda: get(door, server))
        assert {answer.body for answer in answers} == {b"hello"}

    talked(way, talk, test, connections=3)
    assert 1 <= most[0] <= 3


def test_waiting_requests_go_in_order():
    """Who came first is first; one that is cancelled while it waits, or as it is woken, loses nobody's turn."""
    done = []

    async def test(door, server):
        async def ask(number):
            await get(door, server)
            done.append(number)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ask(number)) for number in range(20)]
            await asyncio.sleep(0.005)
            for number in (3, 4, 19):
                tasks[number].cancel()
            while 7 not in done:
                await asyncio.sleep(0)
            tasks[8].cancel()
            tasks[9].cancel()
        rest = [number for number in done if number not in {8, 9}]
        assert rest == [number for number in range(20) if number not in {3, 4, 8, 9, 19}]
        assert (await get(door, server)).body == b"hello"

    talked("uvloop-plain", answer_slowly, test, connections=1)


def test_few_connections_are_opened_at_once(monkeypatch, way):
    """A start with many workers is no storm of handshakes."""
    monkeypatch.setattr(lean, "CONNECTS_AT_ONCE", 3)
    opening, most = [0], [0]
    real = lean_pool.Pool._connect

    async def connect(pool):
        opening[0] += 1
        most[0] = max(most[0], opening[0])
        try:
            return await real(pool)
        finally:
            opening[0] -= 1

    monkeypatch.setattr(lean_pool.Pool, "_connect", connect)

    async def test(door, server):
        await at_once(40, lambda: get(door, server))

    talked(way, answer_slowly, test, connections=40)
    assert most[0] == 3


def test_newest_connection_is_used_first():
    """So that what is not needed grows old, and is closed."""

    async def test(door, server):
        await at_once(3, lambda: get(door, server))
        assert len(server.peers) == 3
        for _ in range(5):
            await get(door, server)
        assert sorted(len(peer.heads) for peer in server.peers) == [1, 1, 6]

    talked("uvloop-plain", repeating(OK), test)


def test_idle_connections_end_when_the_server_says(way, monkeypatch):
    """`Keep-Alive: timeout=1` means half a second here; without a word a connection is kept for longer."""
    monkeypatch.setattr(lean, "LOOK_S", 0.05)
    ended = []

    def talk(answer):
        async def one(peer):
            await peer.request()
            await peer.say(answer)
            ended.append(await peer.ended(0.9))

        return one

    async def test(door, server):
        await get(door, server)
        await asyncio.sleep(0.95)

    talked(way, talk(sized(b"x", "Keep-Alive: timeout=1")), test)
    assert ended == [True]
    talked(way, talk(OK), test)
    assert ended == [True, False]


def test_dead_connection_takes_those_that_are_as_old_with_it(way):
    """After a restart that nobody saw, one request is lost, not one for each connection."""

    async def talk(peer):
        await peer.request()
        await asyncio.sleep(0.01)
        await peer.say(OK)
        if peer.number <= 4:
            await peer.request()
            peer.cut()
            return
        while True:
            await peer.request()
            await peer.say(OK)

    async def test(door, server):
        await at_once(4, lambda: get(door, server))
        assert len(server.peers) == 4
        with pytest.raises(TransientError):
            await get(door, server)
        for _ in range(6):
            await get(door, server)
        assert len(server.peers) == 5

    talked(way, talk, test)


def test_end_that_waits_in_the_kernel_is_seen():
    """The server closed while the loop was busy: the connection is not used, though nobody has read its end yet."""

    async def talk(peer):
        while True:
            await peer.request()
            await peer.say(OK)

    async def test(door, server):
        await get(door, server)
        server.peers[0].cut()
        await asyncio.sleep(0)
        time.sleep(0.02)
        assert (await get(door, server)).body == b"hello"
        assert len(server.peers) == 2

    talked("uvloop-plain", talk, test)
    talked("asyncio-plain", talk, test)


def test_closing_the_door_ends_what_is_under_way(way):
    """Requests fail, sockets are closed."""
    before = []

    async def talk(peer):
        await peer.request()
        await asyncio.sleep(60)

    async def test(_, server):
        bundle = certificate()[0] if server.url.startswith("https") else None
        before.append(files())
        async with asyncio.TaskGroup() as group:
            async with Door(connections=3, ca_bundle=bundle) as door:
                tasks = [group.create_task(_refused(door, server)) for _ in range(3)]
                while server.requests < 3:
                    await asyncio.sleep(0.001)
            assert [await task for task in tasks] == [True] * 3
        for peer in server.peers:
            assert await peer.ended()
            peer.cut()
        for _ in range(5):
            await asyncio.sleep(0.001)
        assert files() <= before[0]

    talked(way, talk, test)


async def _refused(door, server):
    with pytest.raises(TransientError):
        await get(door, server)
    return True


def test_time_that_a_connection_was_idle_is_no_stall(way, monkeypatch):
    """A request on a kept connection has the whole --stall-timeout, however long that was idle."""
    monkeypatch.setattr(lean, "LOOK_S", 0.02)

    async def talk(peer):
        for pause in (0.05, 0.15):
            await peer.request()
            await asyncio.sleep(pause)
            await peer.say(OK)

    async def test(door, server):
        await get(door, server)
        await asyncio.sleep(0.4)
        assert (await get(door, server)).body == b"hello"
        assert len(server.peers) == 1

    talked(way, talk, test, stall_s=0.3)


def test_answers_are_freed_without_the_collector(way):
    """Bodies must not wait for the collector of cycles, which runs seldom here."""

    async def test(door, server):
        gc.collect()
        gc.disable()
        try:
            for method in ("GET", "HEAD", "PUT"):
                await door.request(method, server.url, {}, limit=10)
            with pytest.raises(TransientError):
                await door.request("GET", server.url, {}, limit=1)
            assert not [found for found in gc.get_objects() if type(found) is Answer]
        finally:
            gc.enable()

    talked(way, repeating(OK, OK[:-5], OK, OK), test)


def test_connecting_may_be_cancelled_at_any_moment(way):
    """Between any two turns of the loop, with or without TLS: no socket stays, and no other connection suffers."""

    async def test(door, server):
        before = None
        for turns in range(150):
            task = asyncio.get_running_loop().create_task(get(door, server))
            for _ in range(turns % 15):
                await asyncio.sleep(0)
            if turns % 3 == 0:
                await asyncio.sleep(0.001)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                assert (await task).body == b"hello"
            if turns == 20:
                before = files()
        assert (await get(door, server)).body == b"hello"
        for peer in server.peers[:-1]:
            peer.cut()
        await asyncio.sleep(0.05)
        assert files() <= before + 2

    talked(way, repeating(sized(b"hello", "Connection: close")), test)


# addresses


def test_names_are_looked_up_once_and_rotated(monkeypatch):
    """All who wait share one look-up; each connection begins with the next address; after a failure they are asked anew."""
    asked = []

    def look_up(host, port, **_):
        asked.append(host)
        time.sleep(0.02)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"127.0.0.{last}", port)) for last in (1, 2, 3)]

    monkeypatch.setattr(lean_names.socket, "getaddrinfo", look_up)

    async def main():
        names = Names()
        found = await at_once(4, lambda: names.addresses("name", 80))
        firsts = [addresses[0][4][0] for addresses in found]
        assert len(asked) == 1
        assert len(set(firsts)) == 3
        assert all(len(addresses) == 3 for addresses in found)
        names.forget("name", 80)
        await names.addresses("name", 80)
        assert len(asked) == 2
        monkeypatch.setattr(lean_names, "KEPT_S", 0.0)
        await names.addresses("name", 80)
        assert len(asked) == 3

    asyncio.run(main())


def test_look_up_that_fails_or_hangs_holds_nobody(monkeypatch):
    """An unknown name is an error in passing; a look-up that hangs is a stall, gets company after a while, and ends nothing."""
    asked = []

    def look_up(host, port, **_):
        asked.append(host)
        if host == "hangs" and asked.count("hangs") == 1:
            time.sleep(1.0)
        if host == "unknown":
            raise socket.gaierror(-2, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(lean_names.socket, "getaddrinfo", look_up)
    monkeypatch.setattr(lean_names, "PENDING_S", 0.2)

    async def test(door, server):
        port = server.url.rpartition(":")[2]
        with pytest.raises(TransientError, match="not known"):
            await door.request("GET", f"http://unknown:{port}/", {}, limit=10)
        with pytest.raises(TransientError, match="too little moved"):
            await door.request("GET", f"http://hangs:{port}/", {}, limit=10, stall_s=0.05)
        with pytest.raises(TransientError, match="too little moved"):
            await door.request("GET", f"http://hangs:{port}/", {}, limit=10, stall_s=0.05)
        assert asked.count("hangs") == 1
        await asyncio.sleep(0.15)
        assert (await door.request("GET", f"http://hangs:{port}/", {}, limit=10)).body == b"hello"
        assert asked.count("hangs") == 2

    began = time.monotonic()
    talked("uvloop-plain", repeating(OK), test)
    assert time.monotonic() - began < 1.0  # nobody waits for the thread


def test_next_address_is_tried():
    """A name with an address that refuses and one that answers."""

    async def test(door, server):
        port = int(server.url.rpartition(":")[2])
        both = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in ("127.0.0.9", "127.0.0.1")]
        door._transport._shared.names._known["name", port] = (asyncio.get_running_loop().time(), both)
        for _ in range(2):
            assert (await door.request("GET", f"http://name:{port}/", {}, limit=10)).body == b"hello"
            await door._transport.close()
        names = door._transport._shared.names
        names._known["name", port] = (asyncio.get_running_loop().time(), both[:1])
        with pytest.raises(TransientError):
            await door.request("GET", f"http://name:{port}/", {}, limit=10)
        assert not names._known, "addresses of which none answers are looked up anew"

    talked("uvloop-plain", repeating(sized(b"hello", "Connection: close")), test)


# the switch


def test_proxies_mean_aiohttp():
    """The lean client does not speak with proxies: where the environment names some, aiohttp does the work."""

    async def chosen(**how):
        async with Door(connections=1, **how) as door:
            return type(door._transport).__name__

    assert asyncio.run(chosen()) == "LeanTransport"
    assert asyncio.run(chosen(client="aiohttp")) == "AiohttpTransport"
    assert asyncio.run(chosen(trust_env=True)) == "AiohttpTransport"


def test_missing_parser_names_the_switch(monkeypatch):
    """Where httptools cannot be imported, the run says how to go on without it."""
    monkeypatch.setitem(sys.modules, "heavysync.stores.lean", None)

    async def main():
        with pytest.raises(FatalError, match="--http-client aiohttp"):
            async with Door(connections=1):
                pass

    asyncio.run(main())


# at random


class Chaos:
    """A server that answers with a mark of the request, keeps, closes, cuts, hangs, adds bytes, or answers early, by dice."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.calm = False

    async def talk(self, peer):
        while True:
            head = await peer.head()
            mark = head.split(b" ")[1][1:]
            size = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or b"0")
            what = (
                "keep"
                if self.calm
                else self.dice.choice(["keep"] * 8 + ["close", "cut", "hang", "half", "more", "early", "slow"])
            )
            if what != "early":
                await peer.reader.readexactly(size)
            answer = sized(mark * 20, status="403 No" if what == "early" else "200 OK")
            if what == "slow":
                await peer.say(*[answer[at : at + 40] for at in range(0, len(answer), 40)], pause=0.001)
            elif what == "hang":
                await peer.say(answer[: self.dice.randrange(len(answer))])
                await asyncio.sleep(60)
            elif what == "half":
                await peer.say(answer[: self.dice.randrange(1, len(answer))])
                peer.cut()
            elif what == "cut":
                peer.cut()
            else:
                await peer.say(answer + (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged" if what == "more" else b""))
            if what in {"close", "cut", "half", "early"}:
                peer.close()
                return


@pytest.mark.parametrize("seed", range(2))
def test_random_life_of_a_pool(way, seed, monkeypatch):
    """Requests, cancellations, stalls and misbehaviour at random: each answer is its own, counts hold, nothing is left."""
    monkeypatch.setattr(lean, "LOOK_S", 0.02)
    chaos = Chaos(seed)
    dice = random.Random(seed + 100)
    got = [0]

    async def test(door, server):
        transport = door._transport
        number = [0]

        async def worker():
            while number[0] < 250:
                number[0] += 1
                mark = f"m{number[0]:05d}"
                body = [dice.randbytes(dice.choice([0, 10, 200_000]))] if dice.random() < 0.5 else []
                task = asyncio.get_running_loop().create_task(
                    door.request("PUT", f"{server.url}/{mark}", {}, body, limit=10_000)
                )
                if dice.random() < 0.15:
                    await asyncio.sleep(dice.random() * 0.005)
                    task.cancel()
                try:
                    answer = await task
                except (TransientError, asyncio.CancelledError):
                    continue
                assert answer.body == mark.encode() * 20
                got[0] += 1
                assert len(transport._busy) <= 8
                idle = [connection for pool in transport._pools.values() for connection in pool.idle]
                assert len(set(idle)) == len(idle)
                assert not transport._busy & set(idle)
                assert transport._shared.all >= set(idle)
                assert sum(connection.is_open for connection in transport._shared.all) <= 8

        await at_once(8, worker)
        chaos.calm = True
        assert transport._slots._free == 8
        assert not transport._busy
        assert not transport._opening
        assert transport._shared.gate._free == lean_pool.CONNECTS_AT_ONCE
        for _ in range(20):
            try:
                assert (await get(door, server)).status == 200
            except TransientError:
                continue

    run(way, lambda: asyncio.sleep(0))  # libuv opens a pipe once
    before = files()
    bundle = certificate()[0] if way.endswith("tls") else None

    async def main():
        async with serving(chaos.talk, tls=way.endswith("tls")) as server:
            async with Door(connections=8, stall_s=0.1, ca_bundle=bundle) as door:
                await test(door, server)
            assert not door._transport._shared.all
            others = asyncio.all_tasks() - {asyncio.current_task()}
            assert all("serving" in repr(task) or "_client_connected" in repr(task) for task in others), others

    run(way, main)
    gc.collect()
    assert files() <= before
    assert got[0] > 80


def test_numbers_of_both_clients_agree():
    """What README says of --stall-timeout and of stopping holds for either."""
    assert (lean.STOPPING_S, lean.LOOK_S) == (exchange.STOPPING_S, exchange.LOOK_S)
