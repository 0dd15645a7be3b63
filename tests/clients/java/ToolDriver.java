// Runs Kafka's command-line tools one after the other in one JVM: starting one costs more than most tools do.
//
// A request is one line: class, standard input and arguments, split by U+001F, with \n and \\ for what a line cannot hold.
// Its answer is "STATUS OUT_BYTES ERR_BYTES\n" and then what the tool wrote to standard output and standard error.

import java.io.*;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.util.*;
import java.util.concurrent.*;
import org.apache.kafka.common.utils.Exit;

public class ToolDriver {
    private static volatile CompletableFuture<Integer> status;
    /** What the tool wants done when the process ends. */
    private static final List<Runnable> hooks = Collections.synchronizedList(new ArrayList<>());

    public static void main(String[] none) throws Exception {
        Exit.setExitProcedure((code, message) -> end(code));
        Exit.setHaltProcedure((code, message) -> end(code));
        Exit.setShutdownHookAdder((name, hook) -> hooks.add(hook));
        PrintStream answers = System.out;
        BufferedReader requests = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line; (line = requests.readLine()) != null; ) {
            List<String> fields = new ArrayList<>();
            for (String field : line.split("\u001f", -1)) {
                fields.add(unescape(field));
            }
            answer(answers, fields.get(0), fields.get(1), fields.subList(2, fields.size()).toArray(new String[0]));
        }
        Runtime.getRuntime().halt(0);
    }

    /** Where a tool would have ended the process its thread goes no further: many tools catch all that can be thrown. */
    private static void end(int code) {
        status.complete(code);
        while (true) {
            try {
                Thread.sleep(Long.MAX_VALUE);
            } catch (InterruptedException again) {
                // It sleeps on.
            }
        }
    }

    private static void answer(PrintStream answers, String tool, String input, String[] arguments) throws Exception {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        ByteArrayOutputStream err = new ByteArrayOutputStream();
        System.setOut(new PrintStream(out, true, StandardCharsets.UTF_8));
        System.setErr(new PrintStream(err, true, StandardCharsets.UTF_8));
        System.setIn(new ByteArrayInputStream(input.getBytes(StandardCharsets.UTF_8)));
        CompletableFuture<Integer> ended = new CompletableFuture<>();
        status = ended;
        Thread thread = new Thread(() -> ended.complete(run(tool, arguments)), "main");
        thread.setDaemon(true);
        thread.start();
        int code = ended.get();
        for (Runnable hook : hooks) {
            Thread last = new Thread(hook);
            last.setDaemon(true);
            last.start();
            last.join(5000);
        }
        hooks.clear();
        System.out.flush();
        System.err.flush();
        answers.print(code + " " + out.size() + " " + err.size() + "\n");
        answers.write(out.toByteArray());
        answers.write(err.toByteArray());
        answers.flush();
    }

    private static int run(String tool, String[] arguments) {
        try {
            Class.forName(tool).getMethod("main", String[].class).invoke(null, (Object) arguments);
            return 0;
        } catch (InvocationTargetException wrapped) {
            // As the virtual machine itself tells of what nobody caught.
            System.err.print("Exception in thread \"main\" ");
            wrapped.getCause().printStackTrace();
            return 1;
        } catch (ReflectiveOperationException missing) {
            missing.printStackTrace();
            return 99;
        }
    }

    private static String unescape(String field) {
        StringBuilder text = new StringBuilder();
        for (int position = 0; position < field.length(); position++) {
            char character = field.charAt(position);
            if (character == '\\') {
                position++;
                text.append(field.charAt(position) == 'n' ? '\n' : field.charAt(position));
            } else {
                text.append(character);
            }
        }
        return text.toString();
    }
}
