import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import org.apache.kafka.common.utils.Exit;

/**
 * Kafka's own command-line tools, unchanged, one after the other in one process: most of what a tool needs is the time that a
 * JVM needs to start. A line of standard input is {"tool": CLASS, "arguments": [...], "input": TEXT}, one of standard output is
 * {"status": NUMBER, "stdout": TEXT, "stderr": TEXT}.
 */
public class Tools {
    /** Of the tool that a thread belongs to: one that is left over ends nobody else. */
    private static final InheritableThreadLocal<CompletableFuture<Integer>> status = new InheritableThreadLocal<>();
    /** What the tool wants done when the process ends. */
    private static final List<Runnable> hooks = Collections.synchronizedList(new ArrayList<>());

    public static void main(String[] none) throws Exception {
        Exit.setExitProcedure((code, message) -> end(code));
        Exit.setHaltProcedure((code, message) -> end(code));
        Exit.setShutdownHookAdder((name, hook) -> hooks.add(hook));
        ObjectMapper mapper = new ObjectMapper();
        PrintStream answers = System.out;
        BufferedReader calls = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = calls.readLine(); line != null; line = calls.readLine()) {
            JsonNode call = mapper.readTree(line);
            List<String> arguments = new ArrayList<>();
            call.get("arguments").forEach(argument -> arguments.add(argument.asText()));
            String input = call.get("input").asText();
            Map<String, Object> answer = answer(call.get("tool").asText(), arguments.toArray(new String[0]), input);
            answers.write((mapper.writeValueAsString(answer) + "\n").getBytes(StandardCharsets.UTF_8));
            answers.flush();
        }
        Runtime.getRuntime().halt(0);
    }

    /** Where a tool would have ended the process its thread goes no further: many tools catch all that can be thrown. */
    private static void end(int code) {
        if (status.get() != null) {
            status.get().complete(code);
        }
        while (true) {
            try {
                Thread.sleep(Long.MAX_VALUE);
            } catch (InterruptedException again) {
                // It sleeps on.
            }
        }
    }

    private static Map<String, Object> answer(String tool, String[] arguments, String input) throws Exception {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        ByteArrayOutputStream err = new ByteArrayOutputStream();
        System.setOut(new PrintStream(out, true, StandardCharsets.UTF_8));
        System.setErr(new PrintStream(err, true, StandardCharsets.UTF_8));
        System.setIn(new ByteArrayInputStream(input.getBytes(StandardCharsets.UTF_8)));
        CompletableFuture<Integer> ended = new CompletableFuture<>();
        status.set(ended);
        start(() -> ended.complete(run(tool, arguments)));
        int code = ended.get();
        for (Runnable hook : hooks) {
            start(hook).join(5000);
        }
        hooks.clear();
        System.out.flush();
        System.err.flush();
        String stdout = out.toString(StandardCharsets.UTF_8);
        String stderr = err.toString(StandardCharsets.UTF_8);
        return Map.of("status", code, "stdout", stdout, "stderr", stderr);
    }

    private static Thread start(Runnable work) {
        Thread thread = new Thread(work, "main");
        thread.setDaemon(true);
        thread.start();
        return thread;
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
}
