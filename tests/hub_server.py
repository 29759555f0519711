"""A stand-in for a model hub on loopback: the few answers of one that huggingface_hub asks for, kept in memory."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_of_alice"
USER = "alice"
LARGE = ".safetensors"  # which this hub stores as large files


@dataclass
class Repository:
    """Files of each commit, oldest first."""

    private: bool
    commits: list[dict[str, bytes]] = field(default_factory=list)


class Hub(ThreadingHTTPServer):
    """The hub.

    Attributes:
        repositories: By name with owner.
        large: Large files that were uploaded, by their SHA-256.
        requests: Method and path of each request.
        gated: Names of those that ask users to agree to terms.
        broken: Path of a request that is answered with status 503, as a pattern.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.repositories: dict[str, Repository] = {}
        self.large: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.gated: set[str] = set()
        self.broken: str | None = None
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def store_address(self) -> str:
        """Address of large files, which is that of another host."""
        return f"http://localhost:{self.server_port}"

    def add(self, name: str, files: dict[str, bytes], *, private: bool = False) -> None:
        """Add a commit."""
        repository = self.repositories.setdefault(name, Repository(private))
        repository.commits.append((repository.commits[-1] if repository.commits else {}) | files)

    def close(self) -> None:
        self.shutdown()
        self.server_close()
        self.thread.join()


def commit_hash(name: str, number: int) -> str:
    return hashlib.sha1(f"{name} {number}".encode()).hexdigest()


class Answers(BaseHTTPRequestHandler):
    """One request, and its answer."""

    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *values: Any) -> None:
        """Print nothing."""

    def handle_request(self) -> None:
        path = unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.requests.append(f"{self.command} {path}")
        if self.server.broken is not None and re.search(self.server.broken, path):
            return self.answer(503, {"error": "down\nfor maintenance"})
        if path == "/api/validate-yaml":
            text = json.loads(body)["content"]
            wrong = not re.match(r"---\n(.+\n)+---\n", text)
            return self.answer(400 if wrong else 200, {"errors": [{"message": "no front matter"}] * wrong})
        if path == "/api/repos/create":
            return self.create(json.loads(body))
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/main", path):
            return self.change(found[1], found[2], body)
        if found := re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            return self.upload_of(found[1], json.loads(body))
        if found := re.fullmatch(r"/large/([0-9a-f]{64})", path):
            return (
                self.store(found[1], body) if self.command == "PUT" else self.answer(200, self.server.large[found[1]])
            )
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self.resolve(*found.groups())
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)", path):
            return (
                self.missing("RepoNotFound")
                if found[1] not in self.server.repositories
                else self.answer(200, {"id": found[1]})
            )
        return self.answer(404, {"error": f"no such path: {path}"})

    do_GET = do_HEAD = do_POST = do_PUT = handle_request  # noqa: N815

    def is_user(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def may_write(self, name: str) -> bool:
        return self.is_user() and name.startswith(f"{USER}/")

    def create(self, asked: dict[str, Any]) -> None:
        if not self.is_user():
            return self.answer(401, {"error": "Invalid username or password."})
        name = f"{asked['organization']}/{asked['name']}"
        if not self.may_write(name):
            said = f"You don't have the rights to create a model under the namespace {asked['organization']}"
            return self.answer(403, {"error": said}, {"X-Error-Message": said})
        exists = name in self.server.repositories
        private = asked.get("private") or asked.get("visibility") == "private"
        self.server.repositories.setdefault(name, Repository(bool(private)))
        return self.answer(409 if exists else 200, {"url": f"{self.server.address}/{name}"})

    def change(self, name: str, what: str, body: bytes) -> None:
        if not self.may_write(name) or name not in self.server.repositories:
            return self.missing("RepoNotFound")
        if what == "preupload":
            files = [
                {"path": path, "uploadMode": "lfs" if path.endswith(LARGE) else "regular", "shouldIgnore": False}
                for path in (each["path"] for each in json.loads(body)["files"])
            ]
            return self.answer(200, {"files": files})
        found = {}
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                found[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                found[value["path"]] = self.server.large[value["oid"]]
        self.server.add(name, found)
        oid = commit_hash(name, len(self.server.repositories[name].commits))
        url = f"{self.server.address}/{name}/commit/{oid}"
        return self.answer(200, {"success": True, "commitOid": oid, "commitUrl": url})

    def upload_of(self, name: str, asked: dict[str, Any]) -> None:
        if not self.may_write(name):
            return self.missing("RepoNotFound")
        objects = [
            each | {"actions": {"upload": {"href": f"{self.server.address}/large/{each['oid']}"}}}
            for each in asked["objects"]
        ]
        return self.answer(200, {"transfer": "basic", "objects": objects})

    def store(self, oid: str, body: bytes) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            return self.answer(400, {"error": "other bytes than were announced"})
        self.server.large[oid] = body
        return self.answer(200, {})

    def resolve(self, name: str, revision: str, file: str) -> None:
        repository = self.server.repositories.get(name)
        if repository is None or (repository.private and not self.is_user()):
            return self.missing("RepoNotFound")
        if name in self.server.gated:
            return self.answer(403, {"error": "restricted"}, {"X-Error-Code": "GatedRepo"})
        numbers = {commit_hash(name, index): index for index in range(1, len(repository.commits) + 1)}
        number = numbers.get(revision, len(repository.commits) if revision == "main" else None)
        if number is None:
            return self.missing("RevisionNotFound")
        commit = {"X-Repo-Commit": commit_hash(name, number)}
        data = repository.commits[number - 1].get(file)
        if data is None:
            return self.missing("EntryNotFound", commit)
        digest = hashlib.sha256(data).hexdigest()
        if file.endswith(LARGE) and digest in self.server.large:  # which are elsewhere
            linked = {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(data))}
            return self.answer(302, b"", commit | linked | {"Location": f"{self.server.store_address}/large/{digest}"})
        return self.answer(200, data, commit | {"ETag": f'"{digest}"'})

    def missing(self, code: str, headers: dict[str, str] | None = None) -> None:
        return self.answer(404, {"error": "not found"}, {"X-Error-Code": code, **(headers or {})})

    def answer(self, status: int, data: bytes | dict[str, Any], headers: dict[str, str] | None = None) -> None:
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json" if isinstance(data, dict) else "application/octet-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
