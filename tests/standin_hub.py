"""A stand-in for the Hugging Face Hub on this machine, as far as huggingface_hub asks it.

with StandInHub() as hub:
    hub.add("owner/model", folder)              # the files of a folder, as one commit
    hub.add("owner/secret", folder, gated=True) # only with the header of `hub.token`
    hub.move("old/model", "owner/model")        # an old name redirects to the new one
    hub.cut("model.safetensors", 1000, times=9) # the connection breaks after so many bytes
    hub.stand_in(monkeypatch, cache)            # for this process …
    subprocess.run([...], env=os.environ | hub.environment(cache))  # … or for another
    hub.sent("model.safetensors")               # the bytes of a file that were sent so far

Models have an owner, siblings with sizes and digests, and commits; files have ETags and ranges,
and, where they are large, a redirect to another address, as the Hub has for its storage.
Nothing leaves this machine.
"""

import hashlib
import json
import re
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

LARGE = 2000  # bytes from which on a file lies in the storage, with its SHA-256 as ETag


def blob_id(content: bytes) -> str:
    "The id that git gives a small file"
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass
class Repository:
    "The files of one commit, by path"

    name: str
    files: dict[str, bytes]
    gated: bool = False
    commit: str = ""
    branches: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        described = json.dumps([(p, blob_id(c)) for p, c in sorted(self.files.items())])
        self.commit = self.commit or hashlib.sha1(described.encode()).hexdigest()
        self.branches.setdefault("main", self.commit)

    def etag(self, path: str) -> str:
        content = self.files[path]
        large = len(content) >= LARGE
        return hashlib.sha256(content).hexdigest() if large else blob_id(content)

    def sibling(self, path: str) -> dict:
        content = self.files[path]
        about = {"rfilename": path, "size": len(content), "blobId": blob_id(content)}
        if len(content) >= LARGE:
            about["lfs"] = {"size": len(content), "sha256": self.etag(path), "pointerSize": 134}
        return about

    def entry(self, path: str) -> dict:
        "A line of the repository's tree"
        content = self.files[path]
        about = {"type": "file", "path": path, "size": len(content), "oid": blob_id(content)}
        if len(content) >= LARGE:
            about["lfs"] = {"size": len(content), "oid": self.etag(path), "pointerSize": 134}
        return about

    def knows(self, revision: str) -> bool:
        return revision in (self.commit, *self.branches)

    def about(self) -> dict:
        return {
            "_id": "0" * 24,
            "id": self.name,
            "modelId": self.name,
            "sha": self.commit,
            "private": False,
            "gated": "manual" if self.gated else False,
            "disabled": False,
            "tags": [],
            "downloads": 0,
            "likes": 0,
            "siblings": [self.sibling(p) for p in sorted(self.files)],
        }


class StandInHub:
    "A server on a port of its own, while the block lasts"

    token = "hf_of_the_stand_in"

    def __init__(self):
        self.repositories: dict[str, Repository] = {}
        self.moved: dict[str, str] = {}
        self.cuts: dict[str, list[int]] = {}  # file → bytes after which each connection breaks
        self.asked: list[tuple[str, str, str]] = []  # (method, path, range)
        self.bytes_sent: Counter = Counter()
        self.lock = threading.Lock()

    def add(self, name: str, folder: str | Path, gated: bool = False, commit: str = "") -> str:
        "Publish a folder; its commit"
        root = Path(folder)
        files = {
            p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()
        }
        self.repositories[name] = Repository(name, files, gated, commit)
        return self.repositories[name].commit

    def move(self, old: str, new: str):
        "Let an old name redirect to a new one"
        self.moved[old] = new

    def cut(self, file: str, after: int, times: int = 1):
        "Break the next connections that send a file, each after so many bytes"
        self.cuts[file] = [after] * times

    def mend(self):
        "Break no connection any more"
        self.cuts.clear()

    def sent(self, file: str) -> int:
        return self.bytes_sent[file]

    def stand_in(self, monkeypatch, cache: str | Path):
        "Let this process take it for the Hub, with an own cache"
        constants = "huggingface_hub.constants"
        template = f"{self.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(f"{constants}.ENDPOINT", self.url)
        monkeypatch.setattr(f"{constants}.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(f"{constants}.HF_HUB_CACHE", str(cache))
        monkeypatch.setattr(f"{constants}.HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", "")

    def environment(self, cache: str | Path) -> dict[str, str]:
        "What a process needs to take this for the Hub, with an own cache"
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(cache),
            "HF_HUB_CACHE": str(Path(cache) / "hub"),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1",
            "HF_TOKEN": "",
        }

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self):
        hub = self

        class Answer(_Answer):
            pass

        Answer.hub = hub
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error):
        self.server.shutdown()
        self.server.server_close()


class _Answer(BaseHTTPRequestHandler):
    hub: StandInHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body: bool):
        path = unquote(urlsplit(self.path).path)
        with self.hub.lock:
            self.hub.asked.append((self.command, path, self.headers.get("Range", "")))
        api = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/(.+))?", path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        stored = re.fullmatch(r"/storage/([^/]+/[^/]+)/(.+)", path)
        if stored:
            return self.send_file(stored[1], stored[2], body)
        if not api and not file:
            return self.refuse(404, "EntryNotFound", "nothing here")
        name = (api or file)[1]
        if name in self.hub.moved:
            return self.redirect(self.path.replace(name, self.hub.moved[name], 1))
        repository = self.hub.repositories.get(name)
        if repository is None:
            return self.refuse(401, "RepoNotFound", "Repository not found")
        revision = (api[3] if api else file[2]) or "main"
        if not repository.knows(revision):
            return self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        if api:
            return self.describe(repository, api[2])
        return self.resolve(repository, file[3], body)

    def describe(self, repository: Repository, what: str | None):
        about = repository.about()
        if what == "tree":
            about = [repository.entry(p) for p in sorted(repository.files)]
        self.send_json(about)

    def resolve(self, repository: Repository, path: str, body: bool):
        allowed = self.headers.get("Authorization") == f"Bearer {self.hub.token}"
        if repository.gated and not allowed:
            text = f"Access to model {repository.name} is restricted"
            return self.refuse(403, "GatedRepo", text)
        if path not in repository.files:
            return self.refuse(404, "EntryNotFound", "Entry not found", commit=repository.commit)
        if len(repository.files[path]) < LARGE:
            return self.send_file(repository.name, path, body)
        self.redirect(
            f"{self.hub.url}/storage/{repository.name}/{path}",
            302,
            {
                "X-Repo-Commit": repository.commit,
                "X-Linked-Etag": f'"{repository.etag(path)}"',
                "X-Linked-Size": str(len(repository.files[path])),
            },
        )

    def send_file(self, name: str, path: str, body: bool):
        repository = self.hub.repositories[name]
        content, start = repository.files[path], 0
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if wanted:
            start = int(wanted[1])
        if start >= len(content) > 0:
            return self.refuse(416, "Range", "no such range")
        self.send_response(206 if wanted else 200)
        self.send_header("X-Repo-Commit", repository.commit)
        self.send_header("ETag", f'"{repository.etag(path)}"')
        self.send_header("Accept-Ranges", "bytes")
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if body:
            self.send_content(path, content[start:])

    def send_content(self, path: str, content: bytes):
        with self.hub.lock:
            cuts = self.hub.cuts.get(path) or []
            most = cuts.pop() if cuts else None
        part = content if most is None else content[:most]
        try:
            self.wfile.write(part)
            self.wfile.flush()
        except OSError:
            return
        with self.hub.lock:
            self.hub.bytes_sent[path] += len(part)
        if most is not None:
            self.close_connection = True
            self.connection.close()

    def redirect(self, to: str, code: int = 307, headers: dict[str, str] | None = None):
        self.send_response(code)
        self.send_header("Location", to)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def refuse(self, code: int, error: str, text: str, commit: str = ""):
        content = json.dumps({"error": text}).encode()
        self.send_response(code)
        self.send_header("X-Error-Code", error)
        self.send_header("X-Error-Message", text)
        if commit:
            self.send_header("X-Repo-Commit", commit)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def send_json(self, about):
        content = json.dumps(about).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
