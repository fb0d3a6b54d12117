# SPDX-License-Identifier: Apache-2.0
"""Calls to the coordinator by somebody who writes his own client: gRPC as it goes over the wire."""
import socket
import ssl
import subprocess
import tempfile
import time
from base64 import b64encode
from pathlib import Path
from urllib.parse import unquote

from kube import Unmet, get

NAME = "holdfast-coordinator.holdfast-system.svc"
PORT = 7420
CODES = {0: "OK", 5: "NOT_FOUND", 7: "PERMISSION_DENIED", 9: "FAILED_PRECONDITION", 14: "UNAVAILABLE", 16: "UNAUTHENTICATED"}


class Refused(Exception):
    """A session that was not opened."""


def field(number, value):
    """A field of a message: text, bytes or a number."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def fields(message):
    """The fields of a message that have a length, by their numbers."""
    found, at = {}, 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        key = number()
        kind = key & 7
        if kind == 0:
            number()
        elif kind == 2:
            length = number()
            found[key >> 3] = message[at:at + length]
            at += length
        else:
            at += 8 if kind == 1 else 4
    return found


# how curl ends when a stream is reset
STREAM_ERROR = 92


def call(method, message, authority, token=None, grant=None, repository=None):
    """A call's code, what is said with it, and the messages that came."""
    headers = {"content-type": "application/grpc", "te": "trailers"}
    if token:
        headers["authorization"] = f"Bearer {token}"
    if grant:
        headers["holdfast-grant-bin"] = b64encode(grant).decode()
    if repository:
        headers["holdfast-repository"] = repository
    with tempfile.TemporaryDirectory() as directory:
        files = {name: Path(directory) / name for name in ["ca", "body", "heads", "answer"]}
        files["ca"].write_text(authority)
        files["body"].write_bytes(framed(message))
        words = ["curl", "-sS", "--http2", "--noproxy", "*", "--max-time", "20", "--cacert", files["ca"], "--resolve",
                 f"{NAME}:{PORT}:{address()}", "--data-binary", f"@{files['body']}", "-D", files["heads"], "-o", files["answer"]]
        words += [word for name, value in headers.items() for word in ["-H", f"{name}: {value}"]]
        for _ in range(12):
            done = subprocess.run([*map(str, words), f"https://{NAME}:{PORT}/holdfast.v1.{method}"], capture_output=True, text=True, check=False)
            # it loses a refusal that comes before it has sent its body: the more often, the busier the machine is
            if done.returncode != STREAM_ERROR:
                break
            time.sleep(0.2)
        heads = files["heads"].read_text() if files["heads"].exists() else ""
        body = files["answer"].read_bytes() if files["answer"].exists() else b""
    said = dict(line.split(": ", 1) for line in heads.splitlines() if ": " in line)
    if "grpc-status" not in said:
        raise Unmet(f"{method} was not answered: {done.stderr} {heads}")
    code = int(said["grpc-status"])
    return CODES.get(code, code), unquote(said.get("grpc-message", "")), frames(body)


def open_session(authority, token, seconds=20):
    """The grant that a pod's session is given: HTTP/2 by hand, since the caller's side of a session stays open."""
    trust = ssl.create_default_context(cadata=authority)
    trust.set_alpn_protocols(["h2"])
    heads = {":method": "POST", ":scheme": "https", ":authority": f"{NAME}:{PORT}", ":path": "/holdfast.v1.AgentService/Session",
             "content-type": "application/grpc", "te": "trailers", "authorization": f"Bearer {token}"}
    block = b"".join(b"\0" + text(name) + text(value) for name, value in heads.items())
    with socket.create_connection((address(), PORT), timeout=seconds) as plain, trust.wrap_socket(plain, server_hostname=NAME) as stream:
        stream.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0) + frame(HEADERS, 4, 1, block) + frame(DATA, 0, 1, framed(hello())))
        body = b""
        while True:
            head = exactly(stream, 9)
            kind, flags, of = head[3], head[4], int.from_bytes(head[5:9], "big")
            payload = exactly(stream, int.from_bytes(head[:3], "big"))
            if kind in [SETTINGS, PING] and not flags & 1:
                stream.sendall(frame(kind, 1, 0, payload if kind == PING else b""))
            elif kind == DATA and of == 1:
                body += payload
                granted = grant_in(frames(body))
                if granted:
                    return granted
            elif kind == HEADERS and flags & 1:
                raise Refused


SETTINGS, HEADERS, DATA, PING = 4, 1, 0, 6


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def text(value):
    """A header's name or value, as it is."""
    data = value.encode()
    return (bytes([len(data)]) if len(data) < 127 else b"\x7f" + varint(len(data) - 127)) + data


def exactly(stream, length):
    found = b""
    while len(found) < length:
        more = stream.recv(length - len(found))
        if not more:
            raise Unmet("the coordinator closed the connection")
        found += more
    return found


def address():
    return get("service", "holdfast-coordinator", "holdfast-system")["spec"]["clusterIP"]


def framed(message):
    return b"\0" + len(message).to_bytes(4, "big") + message


def frames(body):
    found = []
    while len(body) >= 5:
        length = int.from_bytes(body[1:5], "big")
        if len(body) < 5 + length:
            break
        found.append(body[5:5 + length])
        body = body[5 + length:]
    return found


def hello(lineage=None):
    """The first thing that an agent says."""
    parts = field(1, 1) + field(2, "0.1.0") + field(4, "somebody") + field(5, b"sixteen bytes it")
    if lineage:
        parts += field(3, field(1, lineage[0]) + field(2, lineage[1]))
    return field(1, parts)


def grant_in(answers):
    """The token of the grant among what came in a session, if it is there yet."""
    for answer in answers:
        welcome = fields(answer).get(1)
        if welcome:
            return fields(fields(welcome)[2])[1]
    return None
