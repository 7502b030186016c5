"""The hash that makes keys meet across languages: Kafka's own vectors, and librdkafka's own choice on a broker."""

from __future__ import annotations

import pytest

from fairlane.topics.partitioner import murmur2, partition_of

# From org.apache.kafka.common.utils.UtilsTest.testMurmur2 (signed there).
KAFKA_VECTORS = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize("key", KAFKA_VECTORS)
def test_murmur2_is_javas(key: bytes) -> None:
    assert murmur2(key) == KAFKA_VECTORS[key] & 0xFFFFFFFF


def test_a_negative_hash_still_names_a_partition() -> None:
    assert murmur2(b"21") > 0x7FFFFFFF
    assert 0 <= partition_of(b"21", 12) < 12
