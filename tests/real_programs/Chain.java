import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

/** Four threads that each hash their own last hash, and make garbage meanwhile; then it is computed again, undisturbed. */
public class Chain {
    static final Path ENOUGH = Path.of("/state/enough");

    record Made(int number, int links, String last) {}

    /** So many links, or with 0 until it is enough. */
    static Made chain(int number, int links) throws Exception {
        byte[] link = {(byte) number};
        List<byte[]> kept = new ArrayList<>();
        int i = 0;
        while (links > 0 ? i < links : i % 1000 != 0 || !Files.exists(ENOUGH)) {
            i++;
            link = MessageDigest.getInstance("SHA-256").digest(link);
            if (i % 100 == 0) {
                kept.add(link.clone());
            }
            if (kept.size() > 2000) {
                kept.clear();
            }
        }
        return new Made(number, i, HexFormat.of().formatHex(link));
    }

    public static void main(String[] arguments) throws Exception {
        ExecutorService threads = Executors.newFixedThreadPool(4);
        List<Future<Made>> chains = new ArrayList<>();
        for (int number = 0; number < 4; number++) {
            int own = number;
            chains.add(threads.submit((Callable<Made>) () -> chain(own, 0)));
        }
        Files.writeString(Path.of("/state/ready"), "ok");
        StringBuilder report = new StringBuilder();
        for (Future<Made> chain : chains) {
            Made made = chain.get();
            if (!chain(made.number(), made.links()).equals(made)) {
                report.append(made).append(" is wrong\n");
            }
        }
        if (report.isEmpty()) {
            report.append("ok");
        }
        Files.writeString(Path.of("/state/.report"), report);
        Files.move(Path.of("/state/.report"), Path.of("/state/report"), StandardCopyOption.ATOMIC_MOVE);
        Thread.currentThread().join();
    }
}
