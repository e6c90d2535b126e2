"""moto with a bucket that is full when the server answers: python filled_moto.py SEED OBJECTS [moto's own options].

To put 20,000 objects one by one would take longer than to copy them.
"""

from __future__ import annotations

import sys

from moto.s3.models import s3_backends
from moto.server import main
from soak.contents import BUCKET, data_of, has_parts, key_of
from werkzeug.serving import WSGIRequestHandler

ACCOUNT = "123456789012"


def fill(seed: int, objects: int) -> None:
    """All that needs no upload in parts."""
    backend = s3_backends[ACCOUNT]["aws"]
    backend.create_bucket(BUCKET, "us-east-1")
    for number in range(objects):
        if not has_parts(number):
            held = backend.put_object(BUCKET, key_of(number), data_of(seed, number))
            assert held.etag  # computed at the first look: two at once make it wrong


if __name__ == "__main__":
    WSGIRequestHandler.protocol_version = "HTTP/1.1"  # a thread a connection, not a request
    WSGIRequestHandler.log_request = lambda *_: None
    fill(int(sys.argv[1]), int(sys.argv[2]))
    main(sys.argv[3:])
