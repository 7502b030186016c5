"""Single jars from Maven repositories, by jgo, over connections that are kept open.

Invariant: only the directory that is handed in is written to. Whether a jar is the right one is for the caller to
check, who knows its SHA-256; jgo would ask the registry for a SHA-1, and set up TLS anew for each request.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import requests
from jgo.config import GlobalSettings
from jgo.maven import MavenContext, PythonResolver

from fairlane.kafka.errors import RegistryUnreachable

_TIMEOUT_S: Final = 30.0
_CHUNK_BYTES: Final = 1 << 16


class KeptOpenResolver(PythonResolver):
    """jgo's resolver with one session of requests a thread, which keeps its connection and heeds proxies and CAs."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__()
        self._timeout_s = timeout_s
        self._of_thread = threading.local()
        self._sessions: list[requests.Session] = []

    def close(self) -> None:
        """Closes all connections."""
        for session in self._sessions:
            session.close()

    def download(self, artifact: Any) -> Path:
        """Fetches `artifact` from the first repository that has it."""
        for repository in artifact.context.remote_repos.values():
            url = f"{repository.rstrip('/')}/{artifact.component.path_prefix.as_posix()}/{artifact.filename}"
            with self._session().get(url, stream=True, timeout=self._timeout_s) as response:
                if response.status_code == requests.codes.not_found:
                    continue
                response.raise_for_status()
                path = Path(artifact.cached_path)
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("wb") as jar:
                    for chunk in response.iter_content(_CHUNK_BYTES):
                        jar.write(chunk)
                return path
        raise RuntimeError("not found")

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._of_thread, "session", None)
        if session is None:
            session = self._of_thread.session = requests.Session()
            self._sessions.append(session)
        return session


class MavenJars:
    """Fetches jars; `close` ends its connections.

    Args:
        repositories: Maven repositories by name; none means Maven Central.
        local: a Maven repository on this disk that is looked into first, and never written.
        timeout_s: how long the registry may be silent.
    """

    def __init__(
        self, repositories: Mapping[str, str], *, local: Path | None = None, timeout_s: float = _TIMEOUT_S
    ) -> None:
        self._repositories = dict(repositories) or None
        self._local = [local] if local else []
        self._resolver = KeptOpenResolver(timeout_s)

    def close(self) -> None:
        """Ends its connections."""
        self._resolver.close()

    def __call__(self, coordinate: str, scratch: Path) -> Path:
        """Where the jar of `coordinate` is now: in the local repository, or fetched into `scratch`.

        Raises:
            RegistryUnreachable: no repository could be asked, or none has it.
        """
        context: Any = MavenContext(
            resolver=self._resolver, repo_cache=scratch, local_repos=self._local, remote_repos=self._repositories
        )
        group, artifact, version = coordinate.split(":")
        try:
            return Path(context.project(group, artifact).at_version(version).artifact().resolve())
        except (requests.RequestException, RuntimeError) as error:
            detail = _reason(error)
        # Out of the except clause: a chained exception would keep the open connection alive that its frames hold.
        raise RegistryUnreachable(coordinate, tuple(context.remote_repos.values()), detail)


def from_settings(environ: Mapping[str, str]) -> MavenJars:
    """As the user has set up jgo and Maven: the repositories of ~/.config/jgo.conf, jars that Maven has already."""
    local = Path(environ.get("M2_REPO") or Path.home() / ".m2" / "repository")
    return MavenJars(GlobalSettings.load().repositories, local=local)


def _reason(error: Exception) -> str:
    """The innermost cause in one line: requests wraps it three deep."""
    while isinstance(error.__context__, Exception):
        error = error.__context__
    return " ".join(str(error).split())[:200] or type(error).__name__
