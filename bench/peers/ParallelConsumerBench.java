import io.confluent.parallelconsumer.ParallelConsumerOptions;
import io.confluent.parallelconsumer.ParallelConsumerOptions.ProcessingOrder;
import io.confluent.parallelconsumer.ParallelStreamProcessor;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Confluent's Parallel Consumer on the records that fairlane runs, unordered: `poll` stores nothing but offsets,
 * `pollAndProduce` one record for each. Without a warm-up the JVM would be measured while it compiles.
 *
 * <p>Arguments: bootstrap, group, topics, output topic, mode, records, of which for warming up, concurrency, wait in ms.
 */
public final class ParallelConsumerBench {
    public static void main(String[] args) throws Exception {
        String bootstrap = args[0];
        String output = args[3];
        boolean produces = args[4].equals("pollAndProduce");
        long records = Long.parseLong(args[5]);
        long warmUp = Long.parseLong(args[6]);
        long waitMs = Long.parseLong(args[8]);
        KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(
                Map.of(
                        "bootstrap.servers", bootstrap,
                        "group.id", args[1],
                        "auto.offset.reset", "earliest",
                        "enable.auto.commit", "false"),
                new ByteArrayDeserializer(),
                new ByteArrayDeserializer());
        var options = ParallelConsumerOptions.<byte[], byte[]>builder()
                .consumer(consumer)
                .ordering(ProcessingOrder.UNORDERED)
                .maxConcurrency(Integer.parseInt(args[7]));
        if (produces) {
            options.producer(new KafkaProducer<>(
                    Map.of("bootstrap.servers", bootstrap, "acks", "all"),
                    new ByteArraySerializer(),
                    new ByteArraySerializer()));
        }
        var processor = ParallelStreamProcessor.createEosStreamProcessor(options.build());
        processor.subscribe(List.of(args[2].split(",")));
        AtomicLong started = new AtomicLong();
        AtomicLong ended = new AtomicLong();
        AtomicLong began = new AtomicLong();
        AtomicLong over = new AtomicLong();
        CountDownLatch done = new CountDownLatch(1);
        Runnable start = () -> {
            if (started.getAndIncrement() == warmUp) {
                began.set(System.nanoTime());
            }
            if (waitMs > 0) {
                try {
                    Thread.sleep(waitMs);
                } catch (InterruptedException stop) {
                    Thread.currentThread().interrupt();
                }
            }
        };
        Runnable end = () -> {
            if (ended.incrementAndGet() == records) {
                over.set(System.nanoTime());
                done.countDown();
            }
        };
        if (produces) {
            processor.pollAndProduce(
                    context -> {
                        start.run();
                        return new ProducerRecord<>(output, context.getSingleConsumerRecord().value());
                    },
                    result -> end.run());
        } else {
            processor.poll(context -> {
                start.run();
                end.run();
            });
        }
        done.await();
        double tookS = (over.get() - began.get()) / 1e9;
        System.out.printf("{\"per_s\": %.1f, \"took_s\": %.4f}%n", (records - warmUp) / tookS, tookS);
        System.out.flush();
        Runtime.getRuntime().halt(0);
    }

    private ParallelConsumerBench() {}
}
