"""Folio: a reader for a folder of documents, in which every feature is a plugin.

Try ``python main.py --docs ~/notes --port 9000``. This file is the host: it makes the plugins
that plugkeep.toml lists, starts them, serves their routes and stops them. What Folio can do is
in the folder plugins.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import uvicorn
from app import application
from contracts import Sociable
from native import add_words

from plugkeep import ConfigError, Configurable, Host, events

HERE = Path(__file__).parent

#: What the terminal says of each event that it tells of.
WORDS = {
    events.Started: "started",
    events.Failed: "has failed",
    events.Restarting: "is started again",
    events.Quarantined: "has failed too often and is left alone",
    events.StartFailed: "failed",
    events.StartSkipped: "skipped",
    events.Stopped: "stopped",
    events.StopFailed: "failed to stop",
}


def main() -> None:
    arguments = _arguments()
    logging.basicConfig(level=logging.INFO, format="  %(message)s (%(name)s)")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # both end Folio in order
    try:
        with (
            _listen(arguments.host, arguments.port) as listener,
            TemporaryDirectory(prefix="folio-") as folder,
        ):
            _serve(_make_host(arguments.docs, Path(folder)), listener, arguments.host)
    except ConfigError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        pass  # that is how it ends


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Read a folder of documents in your browser.")
    add = parser.add_argument
    add("--docs", type=_folder, metavar="FOLDER", help="what to read; default: this project")
    add("--port", type=_port, default=os.environ.get("PORT", "8000"), help="0: any that is free")
    add("--host", default="127.0.0.1", help="address; by default only this machine gets in")
    return parser.parse_args()


def _folder(text: str) -> Path:
    folder = Path(text).expanduser().absolute()
    if not folder.is_dir():
        found = "is no folder" if folder.exists() else "does not exist"
        raise argparse.ArgumentTypeError(f"{text!r} {found}")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise argparse.ArgumentTypeError(f"{text!r} may not be read by this user")
    return folder


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 65536):
        raise argparse.ArgumentTypeError(f"{text!r} is no port; it takes a number from 0 to 65535")
    return int(text)


def _listen(address: str, port: int) -> socket.socket:
    """Take the port before anything else: if it is taken, nothing has been started in vain."""
    try:
        family = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((address, port), family=family)
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]
        sys.exit(f"Folio cannot serve at {address}, port {port}: {reason}; try --port 0")


def _make_host(docs: Path | None, folder: Path) -> Host:
    """Return the host with all plugins, none of them started."""
    host = Host.from_file(HERE / "plugkeep.toml", known=["words"])
    add_words(host, folder)

    def prepare(event: events.Event) -> None:
        # Before each start, so that a plugin which has been reloaded is prepared, too.
        if isinstance(event, events.Starting):
            plugin = host.registry[event.plugin]
            if isinstance(plugin, Sociable):
                plugin.meet(host)
            if docs and event.plugin == "library" and isinstance(plugin, Configurable):
                plugin.config.folder = docs

    host.registry.subscribe(prepare)
    host.registry.subscribe(_tell)
    return host


def _tell(event: events.Event) -> None:
    """Say what becomes of each plugin, as it happens."""
    word = WORDS.get(type(event))
    if word:
        took = "" if event.duration is None else f"{1000 * event.duration:.1f} ms"
        reason = f": {event.error}" if event.error else ""
        print(f"  {event.plugin:<10} {took:>10}  {word}{reason}", flush=True)


def _serve(host: Host, listener: socket.socket, given: str) -> None:
    address, port = listener.getsockname()[:2]
    name = f"[{address}]" if ":" in address else address
    app = application(host, name, given)
    config = uvicorn.Config(
        app,
        lifespan="off",  # the host is started and stopped here
        log_level="warning",
        proxy_headers=False,
        timeout_graceful_shutdown=2,  # seconds
    )
    try:
        print("Starting Folio")
        host.start()  # what fails has been told of, and the rest works without
        print(f"\nFolio is at http://{name}:{port} (Ctrl-C ends it)\n", flush=True)
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        print("\nStopping Folio")
        host.stop()


if __name__ == "__main__":
    main()
