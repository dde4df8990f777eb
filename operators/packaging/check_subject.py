"""Git's hook ``commit-msg``: refuse a commit whose subject is longer than 72 characters."""

import sys
from pathlib import Path

LIMIT = 72
#: Subjects that git writes itself; they quote another commit's whole subject.
_GENERATED = ("Merge ", "Revert ", "fixup! ", "squash! ", "amend! ")


def refusal(message: str) -> str | None:
    """Why the commit with this message is refused, or None."""
    lines = [line for line in message.splitlines() if not line.startswith("#")]
    subject = next((line for line in lines if line.strip()), "")
    if subject.startswith(_GENERATED) or len(subject) <= LIMIT:
        return None
    return f"the subject has {len(subject)} characters, at most {LIMIT} are allowed; put the reason into the body"


if __name__ == "__main__":
    reason = refusal(Path(sys.argv[1]).read_text(encoding="utf-8"))
    sys.exit(f"commit refused: {reason}" if reason else 0)
