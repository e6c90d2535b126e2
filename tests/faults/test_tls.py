"""The way to a server: who may be listened to, and what is said when anybody may listen."""

from __future__ import annotations

import http.server
import signal
import ssl
import subprocess
import threading

import pytest
from commands import Command, environment, watched

from heavysync.stores.rules import plain_http_caution


class _Relay(http.server.BaseHTTPRequestHandler):
    """Counts what gets through; a refusal ends the run."""

    def do_GET(self):
        self.server.met.append(self.path)
        body = b"<Error><Code>AccessDenied</Code><Message>met</Message></Error>"
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


@pytest.fixture
def secure(tmp_path):
    """A server with a certificate that it signed itself: its URL, the certificate, the requests that it got."""
    key, certificate = tmp_path / "k.pem", tmp_path / "c.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1"]
    try:
        subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    except OSError:
        pytest.skip("no openssl here")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Relay) as server:
        server.met = []
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.handle_error = lambda *_: None
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield f"https://127.0.0.1:{server.server_address[1]}", certificate, server.met
        server.shutdown()


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_self_signed_certificate_is_refused_at_once(scheme, secure, moto, tmp_path):
    """Nothing is sent but the greeting, the words say why; with the certificate as an authority it is accepted."""
    url, certificate, met = secure
    other = "gs" if scheme == "s3" else "s3"
    words = (f"{scheme}://bkt", f"{other}://other", "--source-endpoint-url", url, "--source-anonymous")
    sync = Command(environment(tmp_path, moto.environment), (*words, "--destination-endpoint-url", "http://127.0.0.1:1"))

    refused = sync()
    assert met == []
    trusted = sync(AWS_CA_BUNDLE=str(certificate))

    refused.refused(3, "certificate is not trusted.*self-signed")
    trusted.refused(3, "403")
    assert met


def test_plain_http_to_another_machine_is_told(moto, tmp_path):
    """Asked for by its scheme it is used, with a notice; Google's credentials are not sent that way at all."""
    env = environment(tmp_path, moto.environment)
    far, near = "http://192.0.2.1", "http://127.0.0.1:1"
    google = Command(env, ("s3://bkt", "gs://bkt"))("--destination-endpoint-url", far, "--source-endpoint-url", near)
    with watched(
        Command(env, ("s3://bkt", "gs://bkt", "--source-endpoint-url", far, "--destination-endpoint-url", near)).start()
    ) as amazon:
        said = amazon.stderr.readline()
        amazon.send_signal(signal.SIGTERM)

    google.refused(2, "not sent over plain http to another machine")
    assert said.startswith("http://192.0.2.1 is plain http"), said
    assert plain_http_caution("http://localhost:1") is plain_http_caution("https://192.0.2.1") is None
