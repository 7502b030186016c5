"""The enqueue side: tasks on their way into Kafka."""
