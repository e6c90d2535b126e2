"""The control endpoint: fill and compare buckets, change the pace, read counters. JSON in, JSON out.

POST /fill      service, bucket, count, size [scheme, seed, made_up, is_full]   make a bucket
POST /clone     service, bucket, to_service, to_bucket                          the same objects and times in another one
POST /change    service, bucket, every                                          give every so many-th object another body
POST /drop      service, bucket
POST /compare   service, bucket, to_service, to_bucket                          -> equal, and what differs
POST /pace      latency_ms, bandwidth                                           bytes a second of one connection
POST /checksums  how                                                              see servers.s3.S3.checksums
POST /reset                                                                     counters to zero
GET  /stats     -> cpu_s, counts by service, rss_mib
"""

from __future__ import annotations

import gc
import json
import resource
import time
from collections.abc import Callable
from itertools import zip_longest
from typing import Any

from servers import gcs, s3
from servers.bodies import made_up, md5_of
from servers.buckets import Bucket, MadeUp, Stored, Thing
from servers.http import Answer, Pace, Request
from servers.keys import Keys

Json = dict[str, Any]
_PLAIN = {"s3": s3.PLAIN, "gs": gcs.PLAIN}


class Control:
    """See the module.

    Args:
        services: "s3" and "gs".
        pace: of both.
    """

    def __init__(self, services: dict[str, s3.S3 | gcs.Gcs], pace: Pace) -> None:
        self._services = services
        self._pace = pace
        self._started = 0.0
        self._tasks: dict[str, Callable[[Json], Json]] = {
            "/fill": self._fill,
            "/clone": self._clone,
            "/change": self._change,
            "/drop": self._drop,
            "/compare": self._compare,
            "/pace": self._set_pace,
            "/checksums": self._set_checksums,
            "/reset": self._reset,
            "/stats": self._stats,
        }

    def answer(self, request: Request) -> Answer:
        """See `Service`."""
        asked = json.loads(bytes(request.body)) if request.body else {}
        told = self._tasks[request.target](asked)
        return Answer(200, "Content-Type: application/json\r\n", (json.dumps(told).encode(),))

    def _bucket(self, service: str, name: str) -> Bucket:
        return self._services[service].buckets[name]

    def _fill(self, asked: Json) -> Json:
        keys = Keys(asked.get("scheme", "flat"), asked["count"])
        service, size, seed = asked["service"], asked["size"], asked.get("seed", 0)
        meta = _PLAIN[service]
        bucket: Bucket
        if asked.get("made_up"):
            bucket = MadeUp(keys, size, meta, is_full=asked.get("is_full", True))
        else:
            bucket = Stored()
            for index in range(keys.count):
                bucket.put(keys.key(index), Thing((made_up(seed + index, size),), meta))
        self._services[service].buckets[asked["bucket"]] = bucket
        return {"count": len(bucket)}

    def _clone(self, asked: Json) -> Json:
        to, source = asked["to_service"], self._bucket(asked["service"], asked["bucket"])
        bucket = Stored()
        for key, thing in source.rows(0 if len(source) == 0 else source.find("")):
            copy = thing.again(_PLAIN[to])
            copy.modified = thing.modified
            bucket.put(key, copy)
        self._services[to].buckets[asked["to_bucket"]] = bucket
        return {"count": len(bucket)}

    def _change(self, asked: Json) -> Json:
        bucket = self._bucket(asked["service"], asked["bucket"])
        chosen = [row for place, row in enumerate(bucket.rows(bucket.find(""))) if place % asked["every"] == 0]
        for key, thing in chosen:
            body = b"".join(map(bytes, thing.pieces))
            bucket.put(key, Thing((bytes(255 - byte for byte in body[:16]) + body[16:],), thing.meta))
        return {"count": len(chosen)}

    def _drop(self, asked: Json) -> Json:
        self._services[asked["service"]].buckets.pop(asked["bucket"], None)
        gc.collect()
        return {}

    def _compare(self, asked: Json) -> Json:
        one = self._bucket(asked["service"], asked["bucket"])
        two = self._bucket(asked["to_service"], asked["to_bucket"])
        if isinstance(one, MadeUp) and isinstance(two, MadeUp) and one.is_like(two):
            return {"equal": True, "differing": 0, "example": "", "count": len(two)}
        differing = 0
        example = ""
        for left, right in zip_longest(one.rows(one.find("")), two.rows(two.find(""))):
            if left is None or right is None or left[0] != right[0] or not _is_same(left[1], right[1]):
                differing += 1
                example = example or repr((left or right or ("",))[0])
        return {"equal": not differing, "differing": differing, "example": example, "count": len(two)}

    def _set_pace(self, asked: Json) -> Json:
        self._pace.latency_s = asked.get("latency_ms", 0) / 1000
        self._pace.bandwidth = asked.get("bandwidth", 0)
        return {}

    def _set_checksums(self, asked: Json) -> Json:
        service = self._services["s3"]
        assert isinstance(service, s3.S3)
        service.checksums = asked["how"]
        return {}

    def _reset(self, asked: Json) -> Json:
        del asked
        for service in self._services.values():
            service.counts.clear()
        gc.collect()
        self._started = time.process_time()
        return {}

    def _stats(self, asked: Json) -> Json:
        del asked
        counts = {name: dict(service.counts) for name, service in self._services.items()}
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {"cpu_s": time.process_time() - self._started, "counts": counts, "rss_mib": usage.ru_maxrss / 1024}


def _is_same(one: Thing, two: Thing) -> bool:
    """Whether two objects have the same bytes; those of parts are told by size and md5 of the whole."""
    if one.size != two.size:
        return False
    return (one.md5 or md5_of(one.pieces)) == (two.md5 or md5_of(two.pieces))
