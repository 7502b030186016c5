"""Writes `jar_pins.py` anew for a version of Kafka: `make kafka-jars KAFKA=4.3.1`. For maintainers, needs a network.

Invariant: what is pinned is Maven's resolution of Kafka alone. log4j's binding is added at the version of the log4j
that came with it: resolved together, jgo would let log4j's bill of materials change Kafka's own libraries.
"""

from __future__ import annotations

import hashlib
import re
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from fairlane.kafka import jar_pins

_KAFKA: Final = "org.apache.kafka:kafka_2.13"
_LOGGING: Final = "org.apache.logging.log4j:log4j-core"
_BINDING: Final = "org.apache.logging.log4j:log4j-slf4j-impl"


def pins_of(version: str, scratch: Path) -> list[tuple[str, str]]:
    """Coordinate and SHA-256 of every jar of Kafka `version`, sorted."""
    from jgo.maven import MavenContext

    context: Any = MavenContext(repo_cache=scratch)
    named, brought = context.resolver.resolve([context.create_dependency(f"{_KAFKA}:{version}")])
    artifacts = {
        f"{found.groupId}:{found.artifactId}": found.artifact
        for found in [*named, *(other for other in brought if other.scope in {"compile", "runtime"})]
    }
    group, name = _BINDING.split(":")
    artifacts[_BINDING] = context.project(group, name).at_version(artifacts[_LOGGING].version).artifact()
    return [
        (f"{key}:{artifact.version}", hashlib.sha256(artifact.resolve().read_bytes()).hexdigest())
        for key, artifact in sorted(artifacts.items(), key=lambda pair: pair[0].split(":"))
    ]


def rewritten(source: str, version: str, pins: list[tuple[str, str]]) -> str:
    """`source` of `jar_pins.py` with another version and other pins."""
    lines = "".join(f'    ("{coordinate}", "{sha256}"),\n' for coordinate, sha256 in pins)
    source = re.sub(r'(KAFKA_VERSION: Final = )".*"', rf'\g<1>"{version}"', source)
    return re.sub(r"(PINS: .* = \(\n).*\Z", rf"\g<1>{lines})\n", source, flags=re.DOTALL)


def main(version: str) -> None:
    """Writes the file."""
    path = Path(jar_pins.__file__).resolve()
    with tempfile.TemporaryDirectory() as scratch:
        pins = pins_of(version, Path(scratch))
    path.write_text(rewritten(path.read_text(), version, pins))


if __name__ == "__main__":
    main(sys.argv[1])
