// The drivers of PostgreSQL and MariaDB for Java; see staying.py, which does the same.
//
//     Jdbc.java postgresql|mariadb NAME HOST PORT USER PASSWORD DATABASE TLS AUTHORITY CERTIFICATE KEY

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.math.BigDecimal;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Types;
import java.time.LocalDateTime;
import java.time.ZoneOffset;
import java.util.Arrays;
import java.util.Base64;
import java.util.Properties;

public class Jdbc {
    static final int SESSIONS = 3, READY = 7, MANY = 500, THINKS = 300;
    static final String COLUMNS = "driver, session, number, amount, ratio, even, body, note, moment, absent";

    static final PrintStream out = new PrintStream(System.out, true, java.nio.charset.StandardCharsets.UTF_8);
    static final int[] counts = new int[SESSIONS];
    static int[] least = new int[SESSIONS];
    static String word = "ready";
    static int errors = 0;
    static volatile boolean stopped = false;

    static boolean postgres;
    static String name, url;
    static final Properties login = new Properties();

    public static void main(String[] arguments) throws Exception {
        postgres = arguments[0].equals("postgresql");
        name = arguments[1];
        url = "jdbc:" + arguments[0] + "://" + arguments[2] + ":" + arguments[3] + "/" + arguments[6];
        login.setProperty("user", arguments[4]);
        if (!arguments[5].isEmpty()) login.setProperty("password", arguments[5]);
        if (postgres) encryptPostgres(arguments[7], arguments[8], arguments[9], arguments[10]);
        else encryptMariadb(arguments[7], arguments[8]);
        Arrays.fill(least, READY);
        Thread[] threads = new Thread[SESSIONS];
        for (int at = 0; at < SESSIONS; at++) {
            int own = at;
            threads[at] = new Thread(() -> live(own));
            threads[at].start();
        }
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = lines.readLine()) != null && !line.equals("stop"); ) {
            synchronized (counts) {
                // The one that is under way may have begun before.
                least = Arrays.stream(counts).map(count -> count + 2).toArray();
                word = "progress";
            }
        }
        stopped = true;
        for (Thread thread : threads) thread.join();
        out.println("acknowledged " + Arrays.stream(counts).sum() + ", errors " + errors);
    }

    static void encryptPostgres(String tls, String authority, String certificate, String key) throws Exception {
        boolean less = tls.equals("disable") || tls.equals("require");
        login.setProperty("sslmode", less ? tls : "verify-full");
        login.setProperty("gssEncMode", "disable");
        if (!less) login.setProperty("sslrootcert", authority);
        if (!tls.equals("certificate")) return;
        // This driver reads keys as bytes only.
        String text = Files.readString(Path.of(key)).replaceAll("-----[^-]*-----|\\s", "");
        Path bytes = Path.of(key + ".pk8");
        Files.write(bytes, Base64.getDecoder().decode(text));
        login.setProperty("sslcert", certificate);
        login.setProperty("sslkey", bytes.toString());
    }

    static void encryptMariadb(String tls, String authority) {
        login.setProperty("useServerPrepStmts", "true");
        login.setProperty("allowPublicKeyRetrieval", "true");
        if (tls.equals("disable")) return;
        login.setProperty("useSsl", "true");
        if (tls.equals("require")) login.setProperty("trustServerCertificate", "true");
        else login.setProperty("serverSslCert", authority);
    }

    static void live(int at) {
        try (Connection connection = DriverManager.getConnection(url, login)) {
            connection.setAutoCommit(false);
            try (Session session = new Session(connection, at)) {
                while (!stopped) {
                    session.work(counts[at] + 1);
                    acknowledge(at);
                    Thread.sleep(THINKS);
                }
            }
        } catch (Throwable error) {
            synchronized (counts) {
                errors++;
                String trace = error + " " + Arrays.toString(error.getStackTrace()) + " " + error.getCause();
                out.println("error in transaction " + (counts[at] + 1) + " of session " + at + ": " + trace.replace('\n', ' '));
            }
        }
    }

    static void acknowledge(int at) {
        synchronized (counts) {
            counts[at]++;
            for (int one = 0; one < SESSIONS; one++) if (counts[one] < least[one]) return;
            if (word != null) out.println(word);
            word = null;
        }
    }

    static class Session implements AutoCloseable {
        final Connection connection;
        final int at;
        final PreparedStatement put, many, mine, last;

        Session(Connection connection, int at) throws SQLException {
            this.connection = connection;
            this.at = at;
            put = connection.prepareStatement("insert into taken (" + COLUMNS + ") values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
            many = connection.prepareStatement("select id, body from many where id > ? order by id");
            // Of PostgreSQL they come in parts then.
            many.setFetchSize(60);
            mine = connection.prepareStatement("select count(*) from taken where driver = ? and session = ?");
            last = connection.prepareStatement("select amount, body from taken where driver = ? and session = ? and number = ?");
        }

        void work(int number) throws SQLException {
            BigDecimal amount = new BigDecimal("1.25").multiply(new BigDecimal(number));
            byte[] body = ByteBuffer.allocate(4).putInt(number).array();
            LocalDateTime moment = LocalDateTime.of(2024, 2, 29, 12, 0).plusSeconds(number);
            put.setString(1, name);
            put.setInt(2, at);
            put.setInt(3, number);
            put.setBigDecimal(4, amount);
            put.setDouble(5, number / 4.0);
            put.setBoolean(6, number % 2 == 0);
            put.setBytes(7, body);
            put.setString(8, "zwölf " + number);
            put.setObject(9, postgres ? moment.atOffset(ZoneOffset.UTC) : moment);
            put.setNull(10, Types.VARCHAR);
            put.executeUpdate();
            var savepoint = connection.setSavepoint();
            try {
                put.executeUpdate();
                throw new AssertionError("the same row twice");
            } catch (SQLException error) {
                if (!error.getSQLState().startsWith("23")) throw error;
            }
            connection.rollback(savepoint);
            many.setInt(1, 0);
            try (ResultSet rows = many.executeQuery()) {
                for (int id = 1; id <= MANY; id++) same("a row", rows.next() ? rows.getInt(1) : -1, id);
                same("a row more", rows.next(), false);
            }
            mine.setString(1, name);
            mine.setInt(2, at);
            try (ResultSet rows = mine.executeQuery()) {
                same("counted", rows.next() ? rows.getInt(1) : -1, number);
            }
            last.setString(1, name);
            last.setInt(2, at);
            last.setInt(3, number);
            try (ResultSet rows = last.executeQuery()) {
                same("the last one", rows.next(), true);
                same("amount", rows.getBigDecimal(1).compareTo(amount), 0);
                same("body", Arrays.equals(rows.getBytes(2), body), true);
            }
            connection.commit();
        }

        static void same(String what, Object is, Object wanted) {
            if (!is.equals(wanted)) throw new AssertionError(what + ": " + is + " and not " + wanted);
        }

        public void close() throws SQLException {
            for (PreparedStatement statement : new PreparedStatement[] {put, many, mine, last}) statement.close();
        }
    }
}
