"""librdkafka's AdminClient with answers that are values and failures that are fairlane's errors.

Invariant: no call waits longer than it was given; that Kafka is not there, that it does not let us in and that it says
no are three different things.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, Final, TypeVar

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from fairlane.topics.client_log import librdkafka_log
from fairlane.topics.connection import Connection
from fairlane.topics.deadline import Deadline
from fairlane.topics.denial import is_denial, missing
from fairlane.topics.errors import FairlaneError, KafkaRefused, KafkaUnreachable, UsageError
from fairlane.topics.login import is_refused, refused_login
from fairlane.topics.rights import Right
from fairlane.topics.secrets import redacted

_NO_ANSWER: Final = frozenset(
    {"_TRANSPORT", "_TIMED_OUT", "_ALL_BROKERS_DOWN", "_RESOLVE", "_SSL", "REQUEST_TIMED_OUT"}
)

_MIN_REQUEST_S: Final = 0.1
_POLL_S: Final = 0.05
_ASK_FIRST_S: Final = 2.0
_ASK_MORE: Final = 2
"""Nobody hears of a refused login while librdkafka waits for metadata."""

K = TypeVar("K")
V = TypeVar("V")


class Answers(dict[K, V]):
    """Answers by what was asked about; `errors` are those that Kafka said no to."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: dict[K, KafkaError] = {}


class Admin:
    """One AdminClient and the patience of its caller.

    Args:
        connection: where Kafka is.

    Raises:
        UsageError: librdkafka does not accept the properties.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._complaints: list[KafkaError] = []
        properties = {**connection.admin(), "error_cb": self._complaints.append}
        self.bootstrap = str(properties["bootstrap.servers"])
        self.principal = connection.principal
        try:
            self.client = AdminClient(properties, logger=librdkafka_log)
        except KafkaException as error:
            raise UsageError(
                f"librdkafka refuses a property: {redacted(error.args[0].str())}", "See -X and FAIRLANE_KAFKA__*"
            ) from error

    def ask(self, action: str, futures: Mapping[K, Future[V]], deadline: Deadline) -> Answers[K, V]:
        """Wait for the answers of one call.

        Args:
            action: what was asked, as in "Kafka refused to …".
            futures: as the AdminClient returns them.
            deadline: until when to wait.

        Raises:
            KafkaUnreachable: no answer in time.
            KafkaRefused: the login was refused. Other refusals are in `errors` of the answers.
        """
        answers: Answers[K, V] = Answers()
        for key, future in futures.items():
            # The future comes from a thread of its own; librdkafka's complaints come only while we poll.
            while not future.done():
                self.client.poll(_POLL_S)
                if (refusal := self._refused_login()) is not None:
                    raise refusal
                if not deadline.left_s and not future.done():
                    raise self.failure(action, None, deadline)
            error = future.exception()
            if error is None:
                answers[key] = future.result()
            elif isinstance(error, KafkaException):
                answers.errors[key] = error.args[0]
                if error.args[0].name() in _NO_ANSWER:
                    raise self.failure(action, error.args[0], deadline)
            else:
                raise error
        return answers

    def metadata(self, deadline: Deadline) -> Any:
        """Metadata of every topic that we may see.

        Raises:
            KafkaUnreachable: no answer in time.
            KafkaRefused: the login was refused.
        """
        slice_s = _ASK_FIRST_S
        while True:
            try:
                return self.client.list_topics(timeout=min(slice_s, self.patience_s(deadline)))
            except KafkaException as error:
                failure = self.failure("list the topics", error.args[0], deadline)
                if not deadline.left_s or not isinstance(failure, KafkaUnreachable):
                    raise failure from error
            slice_s *= _ASK_MORE

    @staticmethod
    def patience_s(deadline: Deadline) -> float:
        """What to give as the timeout of a request."""
        return max(_MIN_REQUEST_S, deadline.left_s)

    def failure(self, action: str, error: KafkaError | None, deadline: Deadline) -> FairlaneError:
        """What a call that failed as a whole is to its caller; `error` is None if nothing came back."""
        if error is not None and error.name() not in _NO_ANSWER:
            return self.refused(action, error)
        self.client.poll(0)
        if (refusal := self._refused_login()) is not None:
            return refusal
        said = [complaint.str() for complaint in self._complaints if complaint.name() != "_ALL_BROKERS_DOWN"]
        detail = said[-1] if said else (error.str() if error is not None else "")
        return KafkaUnreachable(self.bootstrap, deadline.timeout_s, detail)

    def refused(self, action: str, error: KafkaError, *asked: Right) -> KafkaRefused:
        """The error for a call that Kafka said no to; `asked` are the rights that it needs."""
        return refused(action, error, self._connection, *asked)

    def _refused_login(self) -> KafkaRefused | None:
        return next((refused_login(complaint) for complaint in self._complaints if is_refused(complaint)), None)


def refused(action: str, error: KafkaError, connection: Connection, *asked: Right) -> KafkaRefused:
    """The error for a call that Kafka said no to.

    Args:
        action: what it was, as in "Kafka refused to …".
        error: Kafka's.
        connection: who asked.
        asked: the rights that the call needs.
    """
    if asked and is_denial(error):
        return missing(error, action, connection, *asked)
    hint = _HINTS.get(error.name(), "")
    return KafkaRefused(error.name(), error.str().rstrip("."), action, hint)


_HINTS: Final = {
    "SECURITY_DISABLED": "The brokers have no authorizer.class.name: whoever reaches them may do everything",
    "POLICY_VIOLATION": "The cluster has a policy for topics; ask who runs it",
    "TOPIC_EXCEPTION": "Kafka takes dots and underscores in topic names for the same; choose another queue name",
}
