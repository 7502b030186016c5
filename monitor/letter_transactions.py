"""Writes what is done to dead letters: each letter's record in its lane and its record in the audit in one transaction.

Invariant: a letter is dealt with if, and only if, the audit says so (see audit_transactions). So no letter is lost (it
stays in the DLQ, and unnamed), and none is sent twice (the lane's record and the audit's are one).
"""

from __future__ import annotations

from fairlane.monitor.audit_transactions import AuditTransactions
from fairlane.monitor.dlq import Dealt, dealt_with
from fairlane.monitor.scan import Scanner


class LetterTransactions(AuditTransactions):
    """The one who may deal with the letters of a queue, until somebody else opens another."""

    def dealt(self, scanner: Scanner, job: str = "") -> Dealt:
        """What the audit says of letters, and of those of that job; but for what is written here it stays true.

        Raises:
            AuditUnreadable: somebody else's open transaction hides a part of the audit.
        """
        self.await_audit()
        return dealt_with(scanner, self._names, self.topics, job)
