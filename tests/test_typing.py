"""mypy, as a user runs it, on code as a user writes it: errors exactly where a payload does not fit."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IGNORED = re.compile(r"  # type: ignore\[([a-z, -]+)\]")


def test_a_wrong_payload_is_an_error_where_it_is_written_and_nothing_else_is(tmp_path: Path) -> None:
    source = (ROOT / "tests" / "typed_use.py").read_text()
    expected = [
        (number, code)
        for number, line in enumerate(source.splitlines(), 1)
        if (match := IGNORED.search(line))
        for code in match[1].split(", ")
    ]
    (tmp_path / "typed_use.py").write_text(IGNORED.sub("", source))
    command = [
        sys.executable,
        "-P",
        "-m",
        "mypy",
        "--strict",
        "--cache-dir",
        str(ROOT / ".mypy_cache"),
        "--config-file=",
    ]
    checked = subprocess.run([*command, "typed_use.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    found = re.findall(r"^typed_use\.py:(\d+): error: .*\[([a-z-]+)\]$", checked.stdout, re.MULTILINE)
    assert [(int(number), code) for number, code in found] == expected, checked.stdout + checked.stderr
