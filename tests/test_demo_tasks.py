"""The shop's tasks, as a user would test his own: eagerly, without Kafka and without waiting."""

from __future__ import annotations

from fairlane.demo import load
from fairlane.demo.tasks import app, charge_card, import_legacy, nightly_report, resize_image, send_receipt
from fairlane.testing import eager


def test_a_receipt_is_sent() -> None:
    with eager(app):
        assert (
            send_receipt.enqueue(order=1, to="ada@example.com").result()
            == "receipt for order 1 sent to ada@example.com"
        )


def test_an_image_is_resized_and_a_report_is_written() -> None:
    with eager(app):
        assert resize_image.enqueue("new/1.jpg", 200).result() == "new/1.jpg is 200 pixels wide"
        assert nightly_report.enqueue(day=1).result() == "the report of day 1 is written"


def test_every_tenth_card_fails_once_and_is_tried_again_after_a_second() -> None:
    with eager(app) as runs:
        for order in (9, 10):
            charge_card.enqueue(order=order, cents=1995)
    smooth, bumpy = runs
    assert (smooth.result, smooth.delays_s) == ("order 9: 19.95 charged", ())
    assert bumpy.result == "order 10: 19.95 charged"
    assert [type(error) for error in bumpy.errors] == [ConnectionError]
    assert 0.9 <= bumpy.delays_s[0] <= 1.1


def test_an_import_is_dead_after_three_attempts() -> None:
    with eager(app) as runs:
        import_legacy.enqueue("customers.csv")
    assert (runs[0].state, runs[0].reason, len(runs[0].attempts)) == ("failed", "max_attempts", 3)


def test_the_backlog_has_sixty_tasks_of_every_priority_the_least_urgent_first() -> None:
    levels = [call.terms.lane.level for call in load.backlog()]
    assert levels == sorted(levels)
    assert {level: levels.count(level) for level in levels} == dict.fromkeys(range(1, 6), load.PER_LANE)
