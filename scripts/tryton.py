"""A Tryton server of our own over a copy of the prepared database: a real ERP, for tests and for trying."""

import http.client
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from instances import CannotStart, Instance
from tryton_cache import SERIES, Database, Settings, installed_tryton, write_settings
from tryton_databases import own_database

answer_timeout_s = 10

taken = "port {} is taken: choose another one, or none for one that is free"


class Tryton:
    """One server: where it is, whom it lets in, what is in it, and ways to disturb it.

    Attributes:
      url: without a slash at the end; calls go to `<url>/<database>/rpc/`.
      user, password: of `connector`, who may do what a connector does; all users are in `seed["users"]`.
      seed: ids by name, as scripts/erp/seed.py wrote them.
    """

    def __init__(
        self, python: Path, database: Database, port: int | None = None, settings: Settings | None = None
    ) -> None:
        self.database, self.seed = database.name, database.seed
        self.user, self.password = "connector", database.seed["users"]["connector"]
        self.instance = Instance("Tryton", None, signal.SIGTERM)
        (self.port,) = self.instance.ports = [port] if port else self.instance.ports_of_its_own(1)
        self.url = self.instance.url = f"http://127.0.0.1:{self.port}"
        self._python, self._configuration = python, self.instance.directory / "trytond.conf"
        self._process: subprocess.Popen[bytes] | None = None
        ours: Settings = {"database": database.settings, "web": {"listen": f"127.0.0.1:{self.port}", "root": ""}}
        write_settings(self._configuration, ours | (settings or {}))

    def start(self) -> None:
        """Start it, as it was before it ended, and wait until it lets `connector` in.

        Raises:
          CannotStart: its port is taken, or it does not come up; its last words are in the text.
        """
        if _listening(self.port):
            raise CannotStart(taken.format(self.port))
        command = [str(self._python), "-m", "trytond.cli", "-c", str(self._configuration), "-d", self.database]
        self._process = self.instance.spawn(*command)
        self.instance.wait_until(self.answers)

    def answers(self) -> bool:
        """Whether `connector` may log in now."""
        call = {"id": 0, "method": "common.db.login", "params": [self.user, {"password": self.password}]}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=answer_timeout_s)
        try:
            connection.request("POST", f"/{self.database}/rpc/", json.dumps(call), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status == 200 and bool(json.loads(answer.read()).get("result"))
        except (OSError, ValueError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """A crash: what was under way is lost; `start` brings it back with what was committed."""
        self.instance.end(signal.SIGKILL)
        self._process = None

    def restart(self) -> None:
        """End it and start it again: same URL, same data, and sessions that stay valid."""
        self.end()
        self.start()

    def pause(self) -> None:
        """Let it hang: it accepts connections and does not answer, until `resume`."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def end(self) -> None:
        """End it, hanging or not; the data stays."""
        if self.runs:
            self.resume()
        self.instance.end()
        self._process = None

    def stop(self) -> None:
        """End it for good."""
        self.end()
        self.instance.stop()

    def wait(self) -> str:
        """Wait until it ends by itself; returns its last words."""
        if self._process is not None:
            self._process.wait()
        return self.instance.last_words()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None:
            raise CannotStart("Tryton does not run: start it first")
        os.killpg(self._process.pid, number)


@contextmanager
def tryton(
    series: str = SERIES[0],
    *,
    postgres: str | None = None,
    template: Database | None = None,
    keep: Path | None = None,
    port: int | None = None,
    settings: Settings | None = None,
    counts: Mapping[str, int] | None = None,
) -> Iterator[Tryton]:
    """Start a server over a database of its own, ended and removed afterwards; prepares what is not in the cache.

    Args:
      postgres, template, keep, counts: what database, as `own_database` takes them.
      port: a free one by default.
      settings: further sections of trytond.conf, such as {"session": {"timeout": "3"}}.

    Raises:
      CannotStart: it can't be prepared or started; the text says why.
    """
    if port and _listening(port):  # before anything is prepared
        raise CannotStart(taken.format(port))
    python = installed_tryton(series)
    with own_database(series, postgres=postgres, template=template, keep=keep, counts=counts) as database:
        server = Tryton(python, database, port, settings)
        try:
            server.start()
            yield server
        finally:
            server.stop()


def _listening(port: int) -> bool:
    with socket.socket() as attempt:
        return attempt.connect_ex(("127.0.0.1", port)) == 0
