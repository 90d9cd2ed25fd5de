"""A Flask application: WSGI."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flask import Flask, Response, abort, jsonify, redirect, request, send_file, url_for

app = Flask(__name__)

#: What of the environment has to come through.
MEMBERS = (
    "REQUEST_METHOD",
    "SCRIPT_NAME",
    "PATH_INFO",
    "QUERY_STRING",
    "CONTENT_TYPE",
    "CONTENT_LENGTH",
    "SERVER_PROTOCOL",
    "wsgi.url_scheme",
)


@app.route("/", methods=["GET", "POST", "PUT", "DELETE"])
@app.route("/echo/<path:rest>", methods=["GET", "POST"])
def echo(rest: str = "") -> Any:
    environ = {key: request.environ.get(key) for key in MEMBERS}
    headers = sorted([key, value] for key, value in request.headers.items())
    return jsonify(
        environ=environ, rest=rest, headers=headers, body=request.get_data(as_text=True),
        cookies=request.cookies, base=request.base_url,
    )  # fmt: skip


@app.post("/form")
def form() -> Any:
    files = [
        [key, each.filename, each.mimetype, each.read().decode("latin-1")]
        for key, each in request.files.items(multi=True)
    ]
    return jsonify(fields=list(request.form.items(multi=True)), files=files)


@app.route("/redirect")
def elsewhere() -> Any:
    return redirect(url_for("echo"))


@app.route("/cookies")
def cookies() -> Response:
    response = Response("")
    response.headers.add("X-Twice", "1")
    response.headers.add("X-Twice", "2")
    response.set_cookie("one", "1", httponly=True)
    response.set_cookie("two", "2; odd", samesite="Strict")
    return response


@app.route("/stream")
def stream() -> Response:
    def pieces() -> Iterator[str]:
        for n in range(20):
            yield f"{n},"

    return Response(pieces(), mimetype="text/plain")


@app.route("/large")
def large() -> Response:
    return Response(b"0123456789abcdef" * 100_000)


@app.route("/file")
def file() -> Response:
    return send_file(Path(__file__).with_name("blob.txt"), conditional=True, max_age=60)


@app.route("/teapot")
def teapot() -> None:
    abort(418)


@app.route("/broken")
def broken() -> None:
    raise RuntimeError("before the response")


@app.route("/breaks")
def breaks() -> Response:
    def pieces() -> Iterator[str]:
        yield "first"
        raise RuntimeError("in the middle")

    return Response(pieces(), mimetype="text/plain")


class PluginFactory:
    name = "flask"
    application = app

    def start(self) -> None: ...
    def stop(self) -> None: ...
