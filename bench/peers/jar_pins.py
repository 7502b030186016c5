"""Parallel Consumer and all that it needs: Maven coordinates and SHA-256, as Maven resolves version 0.5.3.3."""

from __future__ import annotations

from typing import Final

PARALLEL_CONSUMER: Final[tuple[tuple[str, str], ...]] = (
    ("com.github.luben:zstd-jni:1.5.5-4", "e234c9ccbe9e36e19cc36c633d15f4a461f1bdc985d66662a2abbaa89859e522"),
    (
        "io.confluent.parallelconsumer:parallel-consumer-core:0.5.3.3",
        "91e040fcdf418344ef6122eac4d1a40761c986817ca1b2db6c3eb41d6f19e69a",
    ),
    ("io.micrometer:micrometer-commons:1.13.0", "039aef255b5092561fdf649367fd0ff9af8da00aadb25f0c60cf30ebad8dceb8"),
    ("io.micrometer:micrometer-core:1.13.0", "1ced414878f151d08617b47732fa67a5d06b47b63903e2722f40e2294e883643"),
    ("io.micrometer:micrometer-observation:1.13.0", "33e7c9de55ef34ae502a2ad6c4c9786563b6d44eca2cbd2b832911594b378858"),
    ("org.apache.kafka:kafka-clients:3.9.1", "7568b998572d256f0b7bc0afdc1b7a2588b8b08415c62ce314c864a6851ae9d9"),
    ("org.hdrhistogram:HdrHistogram:2.2.1", "df6afd38afcf79fc5c8e67087ea953c1b83b040176d5f573db4ce91a260fc07c"),
    ("org.latencyutils:LatencyUtils:2.0.3", "a32a9ffa06b2f4e01c5360f8f9df7bc5d9454a5d373cd8f361347fa5a57165ec"),
    ("org.lz4:lz4-java:1.8.0", "d74a3334fb35195009b338a951f918203d6bbca3d1d359033dc33edd1cadc9ef"),
    ("org.slf4j:slf4j-api:2.0.13", "e7c2a48e8515ba1f49fa637d57b4e2f590b3f5bd97407ac699c3aa5efb1204a9"),
    ("org.xerial.snappy:snappy-java:1.1.10.5", "0f3f1857ed33116583f480b4df5c0218836c47bfbc9c6221c0d73f356decf37b"),
    (
        "pl.tlinkowski.unij:pl.tlinkowski.unij.api:0.1.3",
        "7d4b5a04e64812af5530bb3613123b5c0758cb1053526881467ebc3336bf7752",
    ),
    (
        "pl.tlinkowski.unij:pl.tlinkowski.unij.bundle.jdk8:0.1.3",
        "075315f3b52fcd19eba0915071334fba9a1751d78dd0ab8b378db72a39fcd65a",
    ),
    (
        "pl.tlinkowski.unij:pl.tlinkowski.unij.service.api:0.1.3",
        "9fd072cb83d6439faebd84018df68da0cd3ab218b99c757d2c6cc16df17a3061",
    ),
    (
        "pl.tlinkowski.unij:pl.tlinkowski.unij.service.collect.jdk8:0.1.3",
        "9bb06158b7f61f56191e653e74331528f050baca83be1d5bbb68a5c54350de8f",
    ),
    (
        "pl.tlinkowski.unij:pl.tlinkowski.unij.service.misc.jdk8:0.1.3",
        "e52a9c9854e52bb2406873e5d761173135d3e448ba9289fdf8d7e93180138fd0",
    ),
)
