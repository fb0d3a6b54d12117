# SPDX-License-Identifier: Apache-2.0
"""What stands between Holdfast and the S3 server for a while: something that holds the bytes back, and something that breaks what a store promises."""
import hashlib
import hmac
import http.client
import socket
import threading
import urllib.parse
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from stage import HOST

S3 = (HOST, 9100)
# what is passed on in one piece
PIECE = 1 << 16
# nobody is held for longer, whatever becomes of whoever holds
HELD_MOST = 60


class Valve:
    """A way to the S3 server on which, once some bytes have come through, no more come until it is opened again."""

    def __init__(self, port):
        self.url = f"http://{HOST}:{port}"
        self.listener = socket.create_server((HOST, port), reuse_port=True)
        self.passed, self.limit = 0, None
        self.lock, self.is_open, self.holds = threading.Lock(), threading.Event(), threading.Event()
        self.is_open.set()
        threading.Thread(target=self.accept, daemon=True).start()

    def hold_after(self, count):
        """Lets so many bytes come, and then none."""
        with self.lock:
            self.limit = self.passed + count
            self.is_open.clear()
            self.holds.clear()

    def open(self):
        with self.lock:
            self.limit = None
        self.is_open.set()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.open()
        self.listener.close()

    def accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(S3, timeout=10)
                far.settimeout(None)
            except OSError:
                near.close()
                continue
            for source, target, comes in [(near, far, False), (far, near, True)]:
                threading.Thread(target=self.pump, args=(source, target, comes), daemon=True).start()

    def pump(self, source, target, comes):
        try:
            while piece := source.recv(PIECE):
                if comes:
                    self.count(len(piece))
                target.sendall(piece)
        except OSError:
            pass
        for end in [source, target]:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def count(self, length):
        with self.lock:
            self.passed += length
            waits = self.limit is not None and self.passed > self.limit
        if waits:
            self.holds.set()
            self.is_open.wait(HELD_MOST)


class Forgetful(ThreadingHTTPServer):
    """A way to the S3 server on which the conditions of requests get lost: what is there is replaced, as by a store that does not know them."""

    daemon_threads = True

    def __init__(self, port, store):
        super().__init__((HOST, port), Request)
        self.url, self.store, self.forgotten = f"http://{HOST}:{port}", store, 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __exit__(self, *arguments):
        self.shutdown()
        super().__exit__(*arguments)


class Request(BaseHTTPRequestHandler):
    """One request, sent on without its conditions and signed anew."""

    protocol_version = "HTTP/1.1"

    def pass_on(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        kept = {name.lower(): value for name, value in self.headers.items()}
        conditions = [name for name in kept if name.startswith("if-")]
        self.server.forgotten += bool(conditions)
        unwanted = ["host", "connection", "authorization", "expect", "content-length", "x-amz-date", *conditions]
        kept = {name: value for name, value in kept.items() if name not in unwanted}
        store = http.client.HTTPConnection(*S3, timeout=30)
        try:
            store.request(self.command, self.path, body or None, signed(self.command, self.path, kept, self.server.store))
            answer = store.getresponse()
            content = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ["connection", "transfer-encoding", "content-length", "date", "server"]:
                    self.send_header(name, value)
            self.send_header("Content-Length", answer.getheader("content-length") if self.command == "HEAD" else str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        finally:
            store.close()

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = pass_on

    def log_message(self, *_):
        pass


def signed(method, path, headers, store):
    """The headers with a signature of AWS, version 4. The body's hash is the one that was announced: whether it is right is for the store to find."""
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{now[:8]}/us-east-1/s3/aws4_request"
    headers = {**headers, "host": "{}:{}".format(*S3), "x-amz-date": now}
    names = sorted(name for name in headers if name == "host" or name.startswith("x-amz-"))
    where, _, query = path.partition("?")
    pairs = sorted(urllib.parse.parse_qsl(query, keep_blank_values=True))
    canonical = "&".join(f"{urllib.parse.quote(key, safe='-_.~')}={urllib.parse.quote(value, safe='-_.~')}" for key, value in pairs)
    lines = [method, where, canonical, *[f"{name}:{headers[name].strip()}" for name in names], "", ";".join(names), headers["x-amz-content-sha256"]]
    told = "\n".join(["AWS4-HMAC-SHA256", now, scope, hashlib.sha256("\n".join(lines).encode()).hexdigest()])
    key = f"AWS4{store.secret}".encode()
    for part in [*scope.split("/"), told]:
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    headers["authorization"] = f"AWS4-HMAC-SHA256 Credential={store.user}/{scope}, SignedHeaders={';'.join(names)}, Signature={key.hex()}"
    return headers
