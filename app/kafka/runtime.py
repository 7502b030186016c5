"""What a broker runs on, found or made: a Java, the jars, and the archive that starts them faster.

Invariant: everything that may take long or use the network happens here, once, and says so first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from fairlane.kafka.archive import with_archive
from fairlane.kafka.broker import Runtime
from fairlane.kafka.jars import ensure_jars
from fairlane.kafka.java import find_java

_log = logging.getLogger(__name__)


def find_runtime(environ: Mapping[str, str], say: Callable[[str], None] = _log.info) -> Runtime:
    """Java and jars, as `find_java` and `ensure_jars` find them.

    Args:
        environ: the environment.
        say: told in a sentence before something takes long.

    Raises:
        NoJava, ExtraMissing, RegistryUnreachable, JarMismatch, LockBusy.
    """
    java = find_java(environ)
    return with_archive(Runtime(ensure_jars(environ, say=say), java), say)
