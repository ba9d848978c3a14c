"""A small hub of models on loopback: the few endpoints that huggingface_hub asks when a snapshot is fetched."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


class Hub:
    """`repos`: name -> {"sha": commit, "files": {name: bytes}}. `log`: (method, path, Range header, Authorization header)."""

    def __init__(self):
        self.repos, self.gated, self.log = {}, set(), []
        self.branches = {}  # (repo, branch) -> commit; "main" is always the repo's own
        self.cut = {}  # file name -> bytes after which the answer stops, and hangs
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args): ...

            def do_HEAD(self):
                hub.answer(self)

            do_GET = do_HEAD

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def add(self, repo: str, files: dict[str, bytes], sha: str = "a" * 40):
        self.repos[repo] = {"sha": sha, "files": files}

    def answer(self, request):
        path = unquote(urlsplit(request.path).path).strip("/")
        self.log.append((request.command, path, request.headers.get("Range"), request.headers.get("Authorization")))
        api = path.startswith("api/models/")
        words = path.removeprefix("api/models/").split("/")
        repo, verb, revision, rest = "/".join(words[:2]), *([*words[2:4], "", ""])[:2], "/".join(words[4:])
        if repo not in self.repos:
            return self.say(request, 401, code="RepoNotFound", text="Invalid username or password.")
        if repo in self.gated and request.headers.get("Authorization") != "Bearer hf_good":
            return self.say(request, 401, code="GatedRepo", text=f"Access to model {repo} is restricted.")
        found = self.repos[repo]
        if revision not in ("main", found["sha"]):
            return self.say(request, 404, code="RevisionNotFound", text=f"Invalid rev id: {revision}")
        if api and verb == "revision":
            names = [{"rfilename": n, "size": len(b), "blobId": oid(b)} for n, b in found["files"].items()]
            return self.say(request, 200, data={"id": repo, "modelId": repo, "sha": found["sha"], "siblings": names})
        if api and verb == "tree":
            return self.say(
                request,
                200,
                data=[{"type": "file", "path": n, "size": len(b), "oid": oid(b)} for n, b in found["files"].items()],
            )
        if verb == "resolve" and rest in found["files"]:
            return self.file(request, rest, found["files"][rest], found["sha"])
        return self.say(request, 404, code="EntryNotFound", text="Entry not found")

    def say(self, request, status, data=None, code="", text=""):
        body = json.dumps(data if data is not None else {"error": text}).encode()
        request.send_response(status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": len(body),
            "X-Error-Code": code,
            "X-Error-Message": text,
        }.items():
            if value:
                request.send_header(name, str(value))
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(body)

    def file(self, request, name, data, sha):
        start = int((request.headers.get("Range") or "bytes=0-")[6:].split("-")[0])
        part = data[start:]
        request.send_response(206 if start else 200)
        headers = {"Content-Length": len(part), "ETag": f'"{oid(data)}"', "X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        for key, value in headers.items():
            request.send_header(key, str(value))
        request.end_headers()
        if request.command == "GET":
            cut = self.cut.get(name)
            request.wfile.write(part[:cut])
            request.wfile.flush()
            if cut is not None:
                threading.Event().wait(240)  # until the client is killed


def oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
