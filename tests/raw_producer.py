"""A producer below the client's Python: writes records that confluent-kafka itself refuses to write."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any, Final

import confluent_kafka

_TOPIC, _VALUE, _HEADERS, _END = (ctypes.c_int(kind) for kind in (1, 4, 10, 0))
_PRODUCER: Final = 0


def produce_with_header(bootstrap: str, topic: str, value: bytes, name: bytes) -> None:
    """Write a record with one header, whose name is any bytes."""
    folder = Path(next(iter(confluent_kafka.__path__)))
    (library,) = folder.parent.glob("confluent_kafka.libs/librdkafka*.so*")
    kafka = ctypes.CDLL(str(library))
    for function in (kafka.rd_kafka_conf_new, kafka.rd_kafka_new, kafka.rd_kafka_headers_new):
        function.restype = ctypes.c_void_p
    text = ctypes.create_string_buffer(512)
    conf: Any = ctypes.c_void_p(kafka.rd_kafka_conf_new())
    kafka.rd_kafka_conf_set(conf, b"bootstrap.servers", bootstrap.encode(), text, 512)
    producer = ctypes.c_void_p(kafka.rd_kafka_new(_PRODUCER, conf, text, 512))
    assert producer.value, text.value
    headers = ctypes.c_void_p(kafka.rd_kafka_headers_new(ctypes.c_size_t(1)))
    kafka.rd_kafka_header_add(headers, name, ctypes.c_ssize_t(len(name)), b"x", ctypes.c_ssize_t(1))
    failed = kafka.rd_kafka_producev(
        producer,
        _TOPIC,
        ctypes.c_char_p(topic.encode()),
        _VALUE,
        ctypes.c_char_p(value),
        ctypes.c_size_t(len(value)),
        _HEADERS,
        headers,
        _END,
    )
    assert not failed, failed
    assert not kafka.rd_kafka_flush(producer, 20_000)
    kafka.rd_kafka_destroy(producer)
