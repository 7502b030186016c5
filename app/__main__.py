"""`python -m fairlane`: the same as the `fairlane` command."""

from __future__ import annotations

from fairlane.cli.main import main

if __name__ == "__main__":
    main()
