"""Stands in for W&B's server: takes what its client sends, and answers as little as it needs."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

KEY = "0" * 40


class WandbServer(ThreadingHTTPServer):
    """history: the rows of all runs by id. uploads: content by name. views: spec by name.

    runs: each run's data at its start, by id. exits: exit codes by id.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.history: dict[str, list[dict[str, Any]]] = {}
        self.uploads: dict[str, bytes] = {}
        self.views: dict[str, dict[str, Any]] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.exits: dict[str, list[int]] = {}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of a client that hangs up."""

    @property
    def variables(self) -> dict[str, str]:
        """The environment of a process that is logged in here."""
        return {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": self.url}


@contextmanager
def serving() -> Iterator[WandbServer]:
    server = WandbServer()
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: WandbServer

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_PUT(self) -> None:
        self.server.uploads[self.path.removeprefix("/upload/")] = self._content()
        self._answer({})

    def do_POST(self) -> None:
        content = json.loads(self._content())
        if self.path == "/graphql":
            operation = re.search(r"(?:query|mutation)\s+(\w+)", content["query"])
            name = "" if operation is None else operation[1]
            self._answer({"data": self._data(name, content["query"], content.get("variables"))})
            return
        run = self.path.split("/")[-2]
        rows = content.get("files", {}).get("wandb-history.jsonl")
        if rows is not None:
            kept = self.server.history.setdefault(run, [])[: rows["offset"]]
            self.server.history[run] = [*kept, *map(json.loads, rows["content"])]
        if content.get("complete"):
            self.server.exits.setdefault(run, []).append(content["exitcode"])
        self._answer({})

    def _content(self) -> bytes:
        content = b""
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        return gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content

    def _answer(self, content: Any) -> None:
        data = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _place(self, name: str) -> dict[str, Any]:
        return {"uploadUrl": f"{self.server.url}/upload/{name}", "uploadHeaders": []}

    def _data(self, name: str, query: str, given: Any) -> dict[str, Any]:
        server, project = self.server, {"id": "p", "name": "portraitlab"}
        project["entity"] = {"id": "e", "name": "me"}
        if "viewer" in query:
            known = {"id": "v", "username": "me", "entity": "me", "flags": "{}"}
            return {"viewer": {**known, "teams": {"edges": []}, "apiKeys": {"edges": []}}}
        if "upsertView" in query:
            server.views[given["name"]] = given
            return {"upsertView": {"view": {"id": "view", "name": given["name"]}, "inserted": True}}
        if name == "RunResumeStatus":
            run = given["name"]
            rows = server.history.get(run, [])
            bucket = {
                **{"id": "r", "name": run, "historyLineCount": len(rows)},
                **{"logLineCount": 0, "eventsLineCount": 0, "eventsTail": "[]", "tags": []},
                "historyTail": json.dumps([json.dumps(row) for row in rows[-1:]]),
                **{"summaryMetrics": "{}", "config": "{}", "wandbConfig": '{"t": {"1": [1]}}'},
            }
            return {"model": {**project, "bucket": bucket if run in server.runs else None}}
        if name == "UpsertBucket":
            first = server.runs.setdefault(given["name"], given) is given
            bucket = {"id": "r", "name": given["name"], "displayName": "", "project": project}
            return {"upsertBucket": {"bucket": {**bucket, "config": "{}"}, "inserted": first}}
        if name == "CreateRunFiles":
            files = [{"name": file, **self._place(file)} for file in given["files"]]
            return {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": files}}
        if name == "ArtifactType":
            return {"project": {"artifact": None}}
        if name == "CreateArtifact":
            sequence = {"latestArtifact": None}
            artifact = {"id": "QQ==", "state": "PENDING", "artifactSequence": sequence}
            return {"createArtifact": {"artifact": artifact}}
        if name == "CreateArtifactManifest":
            manifest = {"id": "m", "file": {"id": "f", **self._place("manifest")}}
            return {"createArtifactManifest": {"artifactManifest": manifest}}
        if name == "CreateArtifactFiles":
            files = [
                {
                    **{"storagePath": "", "artifact": {"id": "a"}, "uploadMultipartUrls": None},
                    **self._place(f"artifact/{file['name']}"),
                }
                for file in given["input"]["artifactFiles"]
            ]
            return {"createArtifactFiles": {"files": {"edges": [{"node": file} for file in files]}}}
        if name == "ClientIDMapping":
            return {"clientIDMapping": {"serverID": "QQ=="}}
        if name == "CommitArtifact":
            return {"commitArtifact": {"artifact": {"id": "a", "digest": "d"}}}
        return {}
