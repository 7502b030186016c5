#!/bin/sh
# The least rights on Kafka with which each part of fairlane does its work.
#
#     deploy/kafka/acls.sh QUEUE ROLE PRINCIPAL
#
#     ROLE       producer   enqueues, waits for results, asks for statuses
#                worker     runs tasks
#                monitor    looks: fairlane monitor, fairlane status, fairlane dlq list and show
#                operator   what a monitor may, and deals with dead letters: fairlane dlq replay and purge
#                admin      makes, checks, grows and deletes the queue's topics: fairlane topics
#     PRINCIPAL  the client as the broker knows it, such as User:shop-worker
#
# KAFKA_ACLS is the tool with its connection; "echo kafka-acls.sh" shows the commands and changes nothing:
#
#     KAFKA_ACLS="kafka-acls.sh --bootstrap-server kafka:9092 --command-config admin.properties" \
#         deploy/kafka/acls.sh shop worker User:shop-worker
#
# A lane that is somebody else's topic (Lane("orders", …)) is not in it: give worker and monitor Read and Describe on it.
set -eu

if [ $# -ne 3 ]; then
    sed -n '2,/^set/{/^set/d;s/^#//;s/^ //;p;}' "$0" >&2
    exit 2
fi
queue=$1 role=$2 principal=$3
tool=${KAFKA_ACLS:-kafka-acls.sh --bootstrap-server localhost:9092}

# allow "OPERATION…" --RESOURCE NAME… [OPTION…]
allow() {
    operations=
    for operation in $1; do operations="$operations --operation $operation"; done
    shift
    # Names and operations have no spaces: they are meant to be split.
    # shellcheck disable=SC2086
    $tool --add --allow-principal "$principal" $operations "$@"
}

# on_topics "OPERATION…" NAME…: the queue's topics of these names
on_topics() {
    operations=$1
    shift
    # shellcheck disable=SC2046
    allow "$operations" $(for name in "$@"; do echo "--topic $queue.$name"; done)
}

lanes='p5 p4 p3 p2 p1'
tiers='retry-1s retry-5s retry-1m retry-10m retry-2h retry-1d'
all="$lanes $tiers dlq status replies control audit workers"

look() {
    # Whether they are there, and with which settings: a worker refuses a queue that would lose data.
    # shellcheck disable=SC2086
    on_topics 'Describe DescribeConfigs' $all
}

look_inside() {
    # shellcheck disable=SC2086
    on_topics 'Read' $lanes $tiers dlq status control audit workers
    allow 'Describe' --group "fairlane-$queue" --group fairlane-monitor
}

# Of some groups a client only asks where they are: librdkafka does so for every consumer, also for one that reads
# without joining any.
# shellcheck disable=SC2086
case $role in
producer)
    # A delayed task goes straight to a tier.
    on_topics 'Write Describe' $lanes $tiers
    on_topics 'Read Describe' replies status
    allow 'Describe' --group "fairlane-$queue-results-" --resource-pattern-type prefixed
    ;;
worker)
    look
    on_topics 'Read' $lanes $tiers control workers
    # The lanes, for what handlers enqueue with ctx.enqueue.
    on_topics 'Write' $lanes $tiers dlq status replies workers
    # For what was settled longer ago than keep_s. Kafka has no smaller right than that to delete the topic; without it
    # the workers say so once, and everything stays.
    on_topics 'Delete' $lanes $tiers
    allow 'Read' --group "fairlane-$queue"
    allow 'Describe' --group "fairlane-$queue-takeover"
    # One transactional id for each start of a process; another worker may take over that of a dead one.
    allow 'Write' --transactional-id "fairlane-$queue-" --resource-pattern-type prefixed
    ;;
monitor)
    look
    look_inside
    ;;
operator)
    look
    look_inside
    # Each action is written with a record of it in the audit, or not at all.
    on_topics 'Write' $lanes audit
    # For what was purged. Without it a purge only marks the letters, and says so.
    on_topics 'Delete' dlq
    allow 'Write' --transactional-id "fairlane-$queue-" --resource-pattern-type prefixed
    ;;
admin)
    on_topics 'Create Delete Describe DescribeConfigs Alter AlterConfigs' $all
    ;;
*)
    echo "acls.sh: $role is no role: producer, worker, monitor, operator or admin" >&2
    exit 2
    ;;
esac
