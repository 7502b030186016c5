"""`make soak`: steady mixed load on a real Kafka and real workers, sampled; what grows without end is a failure."""
