// SPDX-License-Identifier: Apache-2.0 OR MIT

import com.github.benmanes.caffeine.cache.Cache;
import java.io.BufferedReader;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.ByteOrder;
import java.nio.IntBuffer;
import java.nio.channels.FileChannel;
import java.util.Arrays;
import java.util.Locale;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.atomic.AtomicLong;

/** The other side of cache/caffeine.c: reads a command a line, answers with a line. */
final class Caffeine {
    static final int VALUE_BYTES = 100, PATTERNS = 64, BLOCK = 256, THREADS = 8;
    static final byte[][] VALUES = new byte[PATTERNS][VALUE_BYTES];

    /** The 16 bytes of cache_make_request. */
    static final class Key {
        final long a, b;

        Key(int number) {
            long product = (number + 1L) * 0x9e3779b97f4a7c15L;
            a = product ^ product >>> 32;
            b = number;
        }

        @Override
        public int hashCode() {
            return (int) a;
        }

        @Override
        public boolean equals(Object other) {
            return other instanceof Key && ((Key) other).a == a && ((Key) other).b == b;
        }
    }

    /** One of the threads that measure. */
    static final class Client {
        final byte[] copy = new byte[VALUE_BYTES];
        int at; // in the stream; the beginning of a piece: it needs another
        long gets, hits, wrong;

        void serve(Cache<Key, byte[]> cache) {
            if (at % piece == 0)
                at = (int) (taken.getAndIncrement() * piece % stream.capacity());
            for (int i = 0; i < BLOCK; i++) {
                int element = stream.get(at + i), number = element & Integer.MAX_VALUE;
                Key key = new Key(number);
                byte[] value = null;
                if (element >= 0) {
                    gets++;
                    value = cache.getIfPresent(key);
                }
                if (value != null) {
                    System.arraycopy(value, 0, copy, 0, VALUE_BYTES);
                    hits++;
                    if (copy[VALUE_BYTES - 1] != number % PATTERNS) wrong++;
                } else {
                    cache.put(key, VALUES[number % PATTERNS].clone());
                }
            }
            at += BLOCK;
        }

        /** Requests until the time is over. */
        long serveFor(Cache<Key, byte[]> cache, long ns) {
            long begin = System.nanoTime(), requests = 0;
            while (System.nanoTime() - begin < ns)
                for (int i = 0; i < 4; i++, requests += BLOCK) serve(cache);
            return requests;
        }
    }

    static Cache<Key, byte[]> cache;
    static final Client[] clients = new Client[THREADS];
    static final AtomicLong taken = new AtomicLong(); // pieces of the stream
    static IntBuffer stream;
    static int piece;

    static void open(long entries, int descriptor, int pieceLength) throws IOException {
        cache = com.github.benmanes.caffeine.cache.Caffeine.newBuilder()
            .maximumSize(entries).executor(Runnable::run).build();
        for (int t = 0; t < THREADS; t++) clients[t] = new Client();
        piece = pieceLength;
        if (descriptor < 0) return;
        try (FileInputStream file = new FileInputStream("/proc/self/fd/" + descriptor);
                FileChannel channel = file.getChannel()) {
            stream = channel.map(FileChannel.MapMode.READ_ONLY, 0, channel.size())
                .order(ByteOrder.nativeOrder()).asIntBuffer();
        }
    }

    static String round(int threads, long warmMs, long ms) throws InterruptedException {
        CyclicBarrier barrier = new CyclicBarrier(threads);
        double[] rates = new double[threads];
        Thread[] running = new Thread[threads];
        for (int t = 0; t < threads; t++) {
            int number = t;
            running[t] = new Thread(() -> {
                Client client = clients[number];
                try {
                    client.serveFor(cache, warmMs * 1000000);
                    client.gets = client.hits = client.wrong = 0;
                    barrier.await();
                } catch (Exception e) {
                    throw new IllegalStateException(e);
                }
                long begin = System.nanoTime();
                long requests = client.serveFor(cache, ms * 1000000);
                rates[number] = requests / (double) (System.nanoTime() - begin);
            });
            running[t].start();
        }
        for (Thread thread : running) thread.join();
        long gets = 0, hits = 0, wrong = 0;
        for (int t = 0; t < threads; t++) {
            gets += clients[t].gets;
            hits += clients[t].hits;
            wrong += clients[t].wrong;
        }
        return String.format(Locale.ROOT, "%.6f %d %d %d", 1 / Arrays.stream(rates).sum(), gets, hits, wrong);
    }

    static long live() {
        for (int i = 0; i < 3; i++) System.gc();
        return Runtime.getRuntime().totalMemory() - Runtime.getRuntime().freeMemory();
    }

    public static void main(String[] arguments) throws Exception {
        for (int p = 0; p < PATTERNS; p++) Arrays.fill(VALUES[p], (byte) p);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = in.readLine()) != null; ) {
            String[] word = line.split(" ");
            String answer = "ready";
            switch (word[0]) {
                case "open":
                    open(Long.parseLong(word[1]), Integer.parseInt(word[2]), Integer.parseInt(word[3]));
                    break;
                case "fill":
                    for (int i = 0, n = Integer.parseInt(word[1]); i < n; i++)
                        cache.put(new Key(i), VALUES[i % PATTERNS].clone());
                    break;
                case "round":
                    answer = round(Integer.parseInt(word[1]), Long.parseLong(word[2]), Long.parseLong(word[3]));
                    break;
                case "count":
                    cache.cleanUp();
                    answer = Long.toString(cache.estimatedSize());
                    break;
                case "live":
                    answer = Long.toString(live());
                    break;
                default:
                    throw new IllegalArgumentException(line);
            }
            System.out.println(answer);
        }
    }
}
