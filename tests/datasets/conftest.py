"""A file server on this machine, so that downloads are real ones."""

from __future__ import annotations

import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class FileServer:
    """Serves `files` (path to bytes), and misbehaves where it is told to."""

    def __init__(self):
        self.files = {}
        self.cut_after = {}  # path: bytes sent of what was promised
        self.failures = {}  # path: answers of status 503 before a good one
        self.chunked = set()  # paths sent without a Content-Length
        self.interrupting = set()  # paths in whose middle the main thread gets a Ctrl-C
        self.release = threading.Event()
        self.requests = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                owner.answer(self)

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def answer(self, request):
        path = request.path
        self.requests.append(path)
        if self.failures.get(path, 0) > 0:
            self.failures[path] -= 1
            request.send_error(503)
        elif path not in self.files:
            request.send_error(404)
        else:
            request.send_response(200)
            if path not in self.chunked:
                request.send_header("Content-Length", str(len(self.files[path])))
            request.end_headers()
            request.wfile.write(self.files[path][: self.cut_after.get(path)])
            if path in self.interrupting:
                request.wfile.flush()
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
                self.release.wait(10)

    def close(self):
        self.release.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def server(monkeypatch):
    """Run a file server for one test."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    running = FileServer()
    yield running
    running.close()
