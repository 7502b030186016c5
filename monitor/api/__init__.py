"""The monitor's HTTP API: what a queue's store and Kafka say, and what operators do; needs `fairlane[monitor]`."""
